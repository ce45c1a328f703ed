"""Comments, layout and docstrings make no other code; what makes other code is named."""

import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request
from steepest.study.running import engine
from steepest.study.running.engine import RunSummary
from steepest.study.running.rerun import rerun
from steepest.study.running.store import StudyFolder

from steepest.study import source_code, user_files, workloads
from steepest.study.data import adapt
from steepest.study.errors import UsageError

from .support import Silent, stored

SOURCE = '''
"""A module."""

import math

RATE = 1e-3


class Rule:
    """A rule."""

    weight = 2

    def step(self, x):
        """Take a step."""
        return x * self.weight


def model(x, *, f="a"):
    return [math.sqrt(x), f"{x!r:>{RATE}}", lambda y: y or None]
'''

EQUAL = {
    "a comment": SOURCE.replace("RATE = 1e-3", "# slow\nRATE = 1e-3  # or not"),
    "layout": SOURCE.replace("RATE = 1e-3", "RATE = (\n    0.001\n)").replace('"a"', "'a'"),
    "docstrings": SOURCE.replace("A rule.", "Another.").replace('        """Take a step."""\n', ""),
    "order": SOURCE.partition("class")[0]
    + "def model"
    + SOURCE.partition("def model")[2]
    + "\n\nclass"
    + SOURCE.partition("class")[2].partition("def model")[0],
}
OTHER = {
    "RATE = 1e-3->RATE = 1e-4": "the module's own statements (line 1)",
    "weight = 2->weight = 3": "Rule (line 9)",
    "x * self.weight->x + self.weight": "Rule.step (line 14)",
    'f="a"->f="b"': "model (line 19)",
    "y or None->y or 0": "model (line 19)",
    "x!r:->x!s:": "model (line 19)",
    "class Rule:->class Rule(object):": "the module's own statements (line 1)",
    "def model->def network": "model (gone), network (new, line 19)",
    "math.sqrt(x)->math.sqrt(1)": "model (line 19)",
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "code.py"
    path.write_text(SOURCE)
    return path


def described(file: Path) -> dict[str, Any]:
    source_code.file_digest.cache_clear()
    return dict(source_code.descriptions([str(file)]))


@pytest.mark.parametrize("source", EQUAL.values(), ids=EQUAL)
def test_equal_code(file: Path, source: str) -> None:
    old, digest = described(file), source_code.file_digest(str(file))
    file.write_text(source)
    assert source != SOURCE
    new = described(file)
    assert source_code.file_digest(str(file)) == digest
    assert source_code.changes(old, new) == []
    assert source_code.equal_code(old, new) == ["code.py"]


@pytest.mark.parametrize(("change", "told"), OTHER.items(), ids=OTHER)
def test_other_code_is_named_with_its_line(file: Path, change: str, told: str) -> None:
    old, digest = described(file), source_code.file_digest(str(file))
    file.write_text(SOURCE.replace(*change.split("->")))
    new = described(file)
    assert source_code.file_digest(str(file)) != digest
    assert source_code.changes(old, new) == [f"code.py has changed in {told}"]
    assert source_code.equal_code(old, new) == []


def test_what_is_installed_is_known_by_its_bytes() -> None:
    file = str(Path(sysconfig.get_path("stdlib")) / "json" / "__init__.py")
    assert source_code.descriptions([file]) == {}
    assert len(source_code.file_digest(file)) == 64


TASK = '''
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from steepest.study import ACCURACY, Workload, workload

X = torch.linspace(-1, 1, 120).reshape(60, 2)


def model():
    return nn.Linear(2, 2)


def mine(params, lr=0.1):
    return torch.optim.SGD(params, lr=lr)


@workload
def points():
    """Points."""
    return Workload(data=(X, (X[:, 0] > 0).long()), model=model, loss=cross_entropy, metric=ACCURACY, batch_size=20,
                    horizon=1, seeds=1, trials=0)
'''

COMMENTED = TASK.replace("def model", "# The model.\ndef model")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return StudyFolder(tmp_path / "study")


def plan_of(source: str) -> Plan:
    """Write the task's file and plan, as a new process would."""
    Path("task.py").write_text(source)
    user_files._load.cache_clear()
    source_code.file_digest.cache_clear()
    request = Request(workloads.find("task.py"), "smoke", ("sgd", "task.py:mine"), timing_rounds=0)
    return make_plan(request, adapt.load(request.workload.data), "command")


def run(source: str, folder: StudyFolder) -> RunSummary:
    return engine.run(plan_of(source), folder, Silent())


def test_a_comment_makes_no_other_study_and_is_told_once(folder: StudyFolder) -> None:
    assert run(TASK, folder).notes == []
    commented = TASK.replace("def model", "# The model.\ndef model").replace(
        '"""Points."""', '"""Points of two classes."""'
    )
    summary = run(commented, folder)
    assert (summary.skipped, dict(summary.ended)) == (2, {})
    assert summary.notes == [
        "task.py has other comments, layout or docstrings than the study began with; its code is the same, so the "
        "study goes on"
    ]
    assert run(commented, folder).notes == []
    assert stored(folder)["title"] == "Points of two classes"
    assert rerun(folder, plan_of(commented).evaluation_trials(plan_of(commented).given)[1].id).bit_equal


def test_other_code_is_refused_with_its_function(folder: StudyFolder) -> None:
    run(TASK, folder)
    before = folder.document_path.read_bytes()
    with pytest.raises(UsageError, match=r"holds another study.*task\.py has changed in model \(line 12\)\. Give"):
        run(
            TASK.replace("def model", "# The model.\ndef model").replace(
                "nn.Linear(2, 2)", "nn.Linear(2, 2, bias=False)"
            ),
            folder,
        )
    assert folder.document_path.read_bytes() == before


def test_a_trial_of_other_code_is_not_repeated(folder: StudyFolder) -> None:
    run(TASK, folder)
    (trial,) = (entry["id"] for entry in stored(folder)["trials"] if entry["optimizer"] == "SGD")
    plan_of(TASK.replace("Linear(2, 2)", "Linear(2, 2, bias=False)"))
    with pytest.raises(UsageError, match=r"cannot be repeated bit by bit.*task\.py has changed in model \(line 11\)"):
        rerun(folder, trial)


HELPED = TASK.replace("X = torch", "from parts import halved\n\nX = halved * torch")


def write_parts(scale: float) -> None:
    """A package that takes a number from a module beside it."""
    Path("parts").mkdir(exist_ok=True)
    Path("parts/__init__.py").write_text("from parts.inner import halved\n")
    Path("parts/inner.py").write_text("import numbers_of_mine\nhalved = numbers_of_mine.SCALE / 2\n")
    Path("numbers_of_mine.py").write_text(f"SCALE = {scale}  # far away\n")
    for name in ("parts", "parts.inner", "numbers_of_mine"):
        sys.modules.pop(name, None)


def test_code_that_is_imported_from_beside_a_task_is_part_of_it(folder: StudyFolder) -> None:
    write_parts(2.0)
    run(HELPED, folder)
    document = stored(folder)
    own = {name for name in document["code"] if not name.startswith("steepest/")}
    assert own == {"task.py", "parts/__init__.py", "parts/inner.py", "numbers_of_mine.py"}
    Path("numbers_of_mine.py").write_text("SCALE = 2.0  # another comment\n")
    assert dict(run(HELPED, folder).ended) == {}
    write_parts(3.0)
    with pytest.raises(UsageError, match=r"numbers_of_mine\.py has changed in the module's own statements"):
        run(HELPED, folder)


def test_imports_are_found_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "pack" / "deep").mkdir(parents=True)
    for name in ("one.py", "pack/__init__.py", "pack/two.py", "pack/deep/__init__.py", "pack/deep/three.py", "four.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "pack/deep/three.py").write_text("from ..two import x\nfrom . import missing\nimport os, json\n")
    (tmp_path / "one.py").write_text("import pack.deep.three as t\ndef f():\n    import four\n")
    found = source_code.with_imports(str(tmp_path / "one.py"))
    names = {Path(file).relative_to(tmp_path).as_posix() for file in found}
    assert names == {
        "one.py",
        "pack/__init__.py",
        "pack/two.py",
        "pack/deep/__init__.py",
        "pack/deep/three.py",
        "four.py",
    }
