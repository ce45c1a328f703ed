"""`steepest replicate DIR`: the plan again on fresh seeds, and whether the verdicts agree."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from own_work import own_files

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
    assert (answer.code, "nowhere is no study folder" in answer.err) == (1, True)
