"""The study as a function call: for models that no command line could name."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import steepest
from steepest.study import ACCURACY, LOSS, Answer, compare, typed_code, workloads
from steepest.study.errors import UsageError

from . import experiments


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(240, 4, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 0).long()


def run(optimizers: Any, **wanted: Any) -> Answer:
    hidden = 8  # a closure: nothing here can be pickled
    wanted = {"metric": ACCURACY, "horizon": 1, "seeds": 2, "timing_rounds": 0, **wanted}
    return compare(
        lambda: nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 2)),
        data(),
        cross_entropy,
        optimizers,
        **wanted,
    )


BRIEF: dict[str, Any] = {
    "optimizers": ["adamw", "sgd"],
    "seeds": 2,
    "trials": 0,
    "timing_rounds": 0,
    "preset": "smoke",
}


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steepest.study.report.write_report", lambda folder: folder / "report" / "index.html")


@pytest.mark.usefixtures("no_report")
def test_names_classes_and_functions_take_part(tmp_path: Path) -> None:
    def mine(params: Any, lr: float = 0.05) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=lr, momentum=0.9)

    answer = run(["adamw", steepest.SGD, torch.optim.Adagrad, mine], out=tmp_path / "study", trials=2)
    document = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [entry["label"] for entry in document["optimizers"]] == ["AdamW", "SGD", "Adagrad", "mine"]
    assert [entry["executor"] for entry in document["optimizers"]] == ["native", "native", "its own", "its own"]
    assert all(len(entry["points"]) == 3 for entry in document["optimizers"])
    assert answer.statuses == {"finished": 4 * (3 + 2)}
    again = run(["adamw", steepest.SGD, torch.optim.Adagrad, mine], out=tmp_path / "study", trials=2)
    assert again.statuses == {}


@pytest.mark.usefixtures("no_report")
def test_seeds_the_search_s_draw_and_looks_are_chosen_from_python_too(tmp_path: Path) -> None:
    wanted = {"out": tmp_path, "trials": 2, "seed_offset": 7, "search_seed": 3, "more_seeds": 4}
    answer = run(["sgd", torch.optim.Adagrad], **wanted)
    document = json.loads((tmp_path / "study.json").read_text())
    assert document["config"]["seeds"] == [7, 8, 9, 10]  # two seeds cannot decide anything
    assert document["protocol"]["looks"] == [2, 4]
    assert document["protocol"]["tuning_seeds"] == [4_000_000]
    assert [comparison.n for comparison in answer.comparisons] == [4]


@pytest.mark.usefixtures("no_report")
def test_a_schedule_is_given_to_all_or_to_one(tmp_path: Path) -> None:
    run(["sgd", "adamw[schedule=wsd,cooldown=2]", torch.optim.Adagrad], out=tmp_path, schedule="cosine[warmup=2]")
    document = json.loads((tmp_path / "study.json").read_text())
    schedules = {entry["label"]: entry["schedule"] for entry in document["optimizers"]}
    assert schedules == {
        "SGD": "cosine[warmup=2]",
        "AdamW[schedule=wsd,cooldown=2]": "wsd[cooldown=2]",
        "Adagrad": "cosine[warmup=2]",
    }
    assert document["protocol"]["schedule"] == "cosine[warmup=2]"
    with pytest.raises(UsageError, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        run(["sgd"], schedule="cosin")


@pytest.mark.usefixtures("no_report")
def test_a_mapping_names_the_optimizers(tmp_path: Path) -> None:
    run({"slow": lambda p: steepest.SGD(p, lr=1e-4), "fast": lambda p: steepest.SGD(p, lr=1.0)}, out=tmp_path)
    document = json.loads((tmp_path / "study.json").read_text())
    assert [entry["label"] for entry in document["optimizers"]] == ["slow", "fast"]
    ids = [entry["id"] for entry in document["trials"]]
    ends = [json.loads((tmp_path / "trials" / f"{one}.jsonl").read_text().splitlines()[-1]) for one in ids]
    losses = {entry["optimizer"]: end["test_loss"] for entry, end in zip(document["trials"], ends, strict=True)}
    assert losses["fast"] < losses["slow"]


def test_the_report_is_written(tmp_path: Path) -> None:
    answer = compare(experiments.by_steps, **BRIEF, horizon=8, out=tmp_path)
    page = answer.report.read_text()
    assert page.startswith("<!doctype html>")
    assert "steepest rerun" in page


@pytest.fixture
def ran(tmp_path: Path, no_report: None) -> Answer:
    return run({"a <b>": steepest.SGD, "other": lambda p, lr=0.5: torch.optim.SGD(p, lr=lr)}, out=tmp_path)


def test_an_answer_shows_what_ran_and_what_came_out(ran: Answer) -> None:
    lines = str(ran).splitlines()
    assert lines[0] == "No verdict: for 1 comparison with a <b>, 6 paired seeds are needed, and there are 2."
    assert re.split("  +", lines[2])[:4] == ["optimizer", "ran with", "test accuracy", "better by"]
    assert re.match(r"a <b>      lr=0\.001  +\d+\.\d\d ± \d+\.\d\d% .* reference", lines[3])
    assert re.match(r"other      lr=0\.5 .* not enough seeds", lines[4])
    assert "- Nothing was tuned: every optimizer ran with one fixed setting." in str(ran)
    assert lines[-1] == f"report: {ran.report}"
    assert repr(ran) == str(ran)  # what a session shows


def test_an_answer_in_a_notebook_is_a_table(ran: Answer) -> None:
    page = ran._repr_html_()
    assert "<p>No verdict: for 1 comparison" in page
    assert re.search(r'<th style="text-align: left; [^"]*">a &lt;b&gt;</th><td [^>]*>lr=0.001</td>', page)
    assert f'<a href="{ran.report.as_uri()}">' in page


def test_a_search_that_found_nothing_is_told(tmp_path: Path, no_report: None) -> None:
    wild = {"wild": lambda p, lr=1e30: torch.optim.SGD(p, lr=lr), "sgd": steepest.SGD}
    answer = run(wild, out=tmp_path, trials=2, metric=LOSS, reference="sgd")
    assert "wild was not evaluated: no point of the search" in str(answer)
    assert any("no trial of its search finished" in note for note in answer.notes)


@pytest.mark.usefixtures("no_report")
def test_a_line_follows_the_study_where_somebody_sees_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["sgd", "adam"], out=tmp_path / "silent")
    assert capsys.readouterr().err == ""
    run(["sgd", "adam"], out=tmp_path / "told", progress=True)
    told = capsys.readouterr().err
    assert told.startswith("\revaluation: 0 of 4 trials done; SGD seed 0 ")
    assert {len(line) for line in told.split("\r") if line} == {79}


SESSION = """
import torch
from torch import nn
from steepest.study import Metric, compare

class Net(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)

class Opt(torch.optim.SGD):
    factor = 1.0
    def step(self, closure=None):
        return super().step(closure)

class Right:
    def __call__(self, outputs, targets):
        return (outputs.argmax(1) == targets).float()

x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
answer = compare(Net, (x, (x.sum(1) > 0).long()), nn.functional.cross_entropy, {"sgd": torch.optim.SGD, "mine": Opt},
                 metric=Metric("right", "maximize", Right()), horizon=1, seeds=1, timing_rounds=0, out="study")
print(sum(answer.statuses.values()))
"""


def in_a_session(code: str, folder: Path, stdin: bool) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-"] if stdin else [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, input=code if stdin else "", capture_output=True, text=True)


@pytest.mark.slow
def test_classes_typed_into_a_session_take_part_and_are_told_apart(tmp_path: Path) -> None:
    first = in_a_session(SESSION, tmp_path, stdin=False)
    assert (first.returncode, first.stdout) == (0, "2\n"), first.stderr
    again = in_a_session(SESSION, tmp_path, stdin=True)
    assert (again.returncode, again.stdout) == (0, "0\n"), again.stderr
    for there, here in (("super().step(closure)", "None"), ("factor = 1.0", "factor = 2.0")):
        other = in_a_session(SESSION.replace(there, here), tmp_path, stdin=False)
        assert "mine.rule_sha256 is" in other.stderr


def test_code_without_lines_is_known_by_its_instructions() -> None:
    names: dict[str, Any] = {}
    for name, value in (("one", 1), ("same", 1), ("other", 2)):
        exec(f"class C:\n    def f(self):\n        return [{value} for _ in 'ab'] or {{'a', 'b'}}", names)
        names[name] = names.pop("C")
    digests = {name: typed_code.digest(names[name]) for name in ("one", "same", "other")}
    assert digests["one"] == digests["same"] != digests["other"]


@pytest.mark.parametrize(
    ("optimizers", "told"),
    [
        ("adamw", "not the text 'adamw'"),
        ([lambda p: torch.optim.SGD(p)], "has no name of its own"),
        ({"a": "adamw"}, "must be a class or a function"),
        (["adaam"], "did you mean 'adam'"),
        ([], "no optimizers"),
    ],
)
def test_what_is_no_optimizer_is_told(optimizers: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        run(optimizers)


@pytest.mark.usefixtures("no_report")
def test_an_experiment_is_compared_here_and_in_processes(tmp_path: Path) -> None:
    here = compare(experiments.by_steps, **BRIEF, horizon=8, out=tmp_path / "here")
    there = compare(experiments.by_steps, **BRIEF, horizon=8, jobs=2, out=tmp_path / "there")
    assert here.statuses == there.statuses == {"finished": 4}
    document = json.loads((tmp_path / "here" / "study.json").read_text())
    assert (document["config"]["epochs"], document["config"]["unit"]) == (8, "steps")
    assert document["config"]["task"]["source"].endswith("experiments.py:by_steps")
    records = [sorted((tmp_path / name / "trials").iterdir()) for name in ("here", "there")]
    for one, other in zip(*records, strict=True):
        lines = [path.read_text().splitlines()[1:] for path in (one, other)]  # specifications name their threads
        assert lines[0] == lines[1]
    again = compare(experiments.by_steps, **BRIEF, horizon=8, out=tmp_path / "here")
    assert again.statuses == {}


@pytest.mark.usefixtures("no_report")
def test_what_a_declaration_says_is_not_said_again(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="declares its loss, metric, margin itself; leave it out"):
        compare(experiments.by_steps, loss=cross_entropy, metric=ACCURACY, margin=0.1, optimizers=["sgd"])
    with pytest.raises(
        UsageError, match=r"a model with its data and its loss: compare\(model, data, loss, optimizers\)"
    ):
        compare(nn.Linear, optimizers=["sgd"])
    answer = compare(workloads.find("linear-regression"), optimizers=["sgd"], seeds=2, trials=0, preset="smoke")
    assert answer.statuses == {"finished": 2 + 3}  # three of the timing pass


def test_what_other_processes_cannot_import_is_told() -> None:
    with pytest.raises(UsageError, match=r"jobs=2 runs trials in other processes, which cannot import comparison; p"):
        run(["sgd"], jobs=2)
    with pytest.raises(UsageError, match=r"which cannot import mine; put it into a file, and name optimizers as F"):
        compare(experiments.by_steps, optimizers={"mine": torch.optim.SGD}, jobs=2, preset="smoke", trials=0)
    with pytest.raises(UsageError, match="jobs must be at least 1, not 0"):
        run(["sgd"], jobs=0)
    with pytest.raises(UsageError, match="there is no device 'cuda' here"):
        run(["sgd"], device="cuda")


def test_a_file_that_compares_while_it_is_loaded_is_told(tmp_path: Path) -> None:
    source = Path(experiments.__file__).read_text() + "\nstudy.compare(by_steps, optimizers=['sgd'], jobs=1)\n"
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(UsageError, match=r"mine.py calls compare while it is loaded; put the call under: if __name__"):
        workloads.find(f"{tmp_path / 'mine.py'}:by_steps")


def test_an_answer_opens_and_becomes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    answer = Answer("words", (), tmp_path, tmp_path / "index.html", {}, {"Adam": {"ran with": "lr=1"}})
    answer.open()
    assert opened == [(tmp_path / "index.html").as_uri()]
    expected = pandas.DataFrame({"ran with": ["lr=1"]}, index=["Adam"])
    pandas.testing.assert_frame_equal(answer.to_dataframe(), expected)


def test_what_is_equal_is_checked() -> None:
    with pytest.raises(UsageError, match="unknown match 'second'; did you mean 'seconds'"):
        run(["sgd"], match="second")
