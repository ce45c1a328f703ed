"""`steepest replicate DIR`: the plan again on fresh seeds, and whether the verdicts agree."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from own_work import own_files
from steepest.cli import reporting

__all__ = ["own_files"]

STUDY = ("study", "my_task.py", "--timing-rounds", "0", "--preset", "smoke", "--out", "study")


@pytest.fixture
def done(steepest: Any, own_files: Path, no_report: None) -> Path:
    """A study in which plain descent with a tiny rate is clearly worse."""
    optimizers = ("-o", "my_rules.py:MyOpt", "-o", "sgd[lr=1e-6]", "-o", "adam")
    assert steepest(*STUDY, *optimizers, "--seeds", "7", "--trials", "2").code == 0
    return own_files / "study"


def test_verdicts_are_compared_on_the_terminal_and_in_files(steepest: Any, done: Path) -> None:
    answer = steepest("replicate", "study")
    assert (answer.code, answer.err) == (0, "")
    assert "folder     study-replication" in answer.out
    told = r"Replication of study on seeds 7–13 and another draw of the search: of 2 verdicts against my_rules\.MyOpt, "
    assert re.search(told, answer.out)
    assert re.search(r"^SGD\[lr=1e-06\]: worse \(−.*\); then worse \(−.*\): same$", answer.out, re.MULTILINE)
    found = json.loads(Path("study-replication/replication.json").read_text())
    assert [one["optimizer"] for one in found["comparisons"]] == ["SGD[lr=1e-06]", "Adam"]
    assert found["comparisons"][0]["agreement"] == "same"
    assert found["first"]["seeds"] == list(range(7))
    assert found["second"]["seeds"] == list(range(7, 14))
    assert found["second"]["tuning_seeds"] == [2_000_000]
    assert Path("study-replication/replication.txt").read_text() in answer.out
    again = steepest("replicate", "study")
    assert "27 trials had been done before" in again.out


def test_code_that_changed_is_refused(steepest: Any, done: Path) -> None:
    document = json.loads((done / "study.json").read_text())
    document["code"]["my_rules.py"]["parts"]["descent"]["sha256"] = "0"
    document["versions"]["torch"] = "1.0"
    (done / "study.json").write_text(json.dumps(document))
    answer = steepest("replicate", "study", "--out", "elsewhere")
    assert answer.code == 2
    assert re.search(r"cannot be replicated, there and here: versions\.torch is '1\.0' and", answer.err)
    assert "my_rules.py has changed in descent (line" in answer.err
    assert not Path("elsewhere").exists()


def test_an_unfinished_study_has_nothing_to_repeat(steepest: Any, done: Path) -> None:
    path = next((done / "trials").glob("*evaluation-seed3*"))
    path.write_text(path.read_text().splitlines()[0] + "\n")
    answer = steepest("replicate", "study")
    assert answer.code == 2
    told = "study has no verdicts to repeat: 1 of its trials have not ended. Finish it first: steepest study my_task.py"
    assert told in answer.err


def test_bad_folders_are_told(steepest: Any, done: Path) -> None:
    answer = steepest("replicate", "study", "--out", "study/../study")
    assert (answer.code, "is the study itself" in answer.err) == (2, True)
    answer = steepest("replicate", "nowhere")
    assert (answer.code, "nowhere is not a study folder" in answer.err) == (1, True)


SUITE = ("study", "mini-batch", "my_task.py", "--preset", "smoke", "--timing-rounds", "0", "--out", "suite")


@pytest.fixture
def suite(steepest: Any, own_files: Path, no_report: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of two workloads with six seeds, in which a tiny rate is clearly worse."""
    monkeypatch.setattr(reporting, "write_across", lambda _, folders, out: out / "index.html")
    few = ("-o", "sgd[lr=0.5]", "-o", "sgd[lr=1e-6]", "--trials", "0", "--seeds", "6")
    assert steepest(*SUITE, *few).code == 0
    return own_files / "suite"


def test_every_study_of_a_suite_is_replicated_and_all_verdicts_are_counted(steepest: Any, suite: Path) -> None:
    answer = steepest("replicate", "suite")
    assert (answer.code, answer.err) == (0, "")
    root = Path("suite-replication")
    assert answer.out.index("across 2 workloads") < answer.out.index("Replication of suite: ")
    *_, total, first, its, second, others, place = answer.out.splitlines()
    assert total == "Replication of suite: of 2 verdicts on 2 workloads, 2 the same."
    assert first == "Replication of suite/mini-batch on seeds 6–11: of 1 verdict against SGD[lr=0.5], 1 the same."
    assert second == "Replication of suite/my-task on seeds 6–11: of 1 verdict against SGD[lr=0.5], 1 the same."
    assert all(re.match(r"SGD\[lr=1e-06\]: worse \(−.*; then worse \(−.*: same$", line) for line in (its, others)), (
        its,
        others,
    )
    assert place == f"replication: {root}/replication.json"
    found = json.loads((root / "replication.json").read_text())
    assert found["agreements"] == {
        "same": 2,
        "weaker": 0,
        "stronger": 0,
        "compatible": 0,
        "contradicts": 0,
        "missing": 0,
    }
    assert found["studies"]["my-task"] == json.loads((root / "my-task" / "replication.json").read_text())
    assert found["studies"]["my-task"]["second"]["seeds"] == list(range(6, 12))
    assert (root / "replication.txt").read_text() in answer.out
    sources = [entry["source"] for entry in json.loads((root / "suite.json").read_text())["workloads"]]
    assert sources == ["mini-batch", "my_task.py:my_task"]
    again = steepest("replicate", "suite")
    assert again.out.count("12 trials had been done before") == 2
    third = steepest("replicate", str(root), "--out", "third")
    assert "on seeds 12–17" in third.out


def test_what_keeps_a_suite_from_being_replicated_is_told_at_once(steepest: Any, suite: Path) -> None:
    command = f"steepest {' '.join(SUITE)}"
    for name in ("mini-batch", "my-task"):
        path = next((suite / name / "trials").glob("*evaluation-seed3*"))
        path.write_text(path.read_text().splitlines()[0] + "\n")
    answer = steepest("replicate", "suite")
    assert answer.code == 2
    left = "1 of its trials have not ended"
    told = f"suite is not finished (mini-batch: {left}; my-task: {left}). Finish it first: {command}"
    assert told in answer.err
    (suite / "my-task" / "study.json").unlink()
    answer = steepest("replicate", "suite")
    assert answer.code == 2
    assert f"there is no study.json in my-task. Put it back, or run the command again: {command}" in answer.err
    assert not Path("suite-replication").exists()


def test_a_replication_has_a_folder_of_its_kind(steepest: Any, suite: Path) -> None:
    answer = steepest("replicate", "suite", "--out", "suite/mini-batch")
    assert (answer.code, "suite/mini-batch is the study of one workload" in answer.err) == (2, True)
    answer = steepest("replicate", "suite/mini-batch", "--out", "suite")
    assert (answer.code, "suite holds a study of several workloads" in answer.err) == (2, True)
    (suite / "trials").mkdir()
    answer = steepest("replicate", "suite/trials")
    assert (answer.code, answer.err.count("neither study.json nor the suite.json of several studies")) == (1, 1)
    for name in ("mini-batch", "my-task"):
        document = json.loads((suite / name / "study.json").read_text())
        document["versions"]["torch"] = "1.0"
        (suite / name / "study.json").write_text(json.dumps(document))
    answer = steepest("replicate", "suite")
    assert (answer.code, "cannot be replicated, there and here: versions.torch is '1.0' and" in answer.err) == (2, True)
    assert not Path("suite-replication").exists()
