"""Outcomes that are easily taken for another one: both diverged, a broken metric, a search that found nothing."""

from pathlib import Path
from typing import Any

import pytest

from own_work import TASK, own_files
from steepest.cli import run_study
from steepest.study.running.engine import RunSummary

__all__ = ["own_files"]

STUDY = ("study", "my_task.py", "--timing-rounds", "0", "--out", "study")
NAN_METRIC = TASK.replace(
    "metric=ACCURACY", "metric=steepest.study.Metric('f1', 'maximize', lambda o, t: torch.full((len(t),), torch.nan))"
)
WILD = """
import torch

class Wild(torch.optim.SGD):
    "Diverges at every rate but its default, or at that too."
    def __init__(self, params, lr=%s):
        super().__init__(params, lr=lr if lr == 0.125 else 1e30)
"""


def test_two_that_diverge_everywhere_are_both_diverged(steepest: Any, own_files: Path, no_report: None) -> None:
    (own_files / "my_task.py").write_text(TASK.replace("target=", "margin=0.5, target="))
    fixed = ("-o", "sgd[lr=1e30]", "-o", "adam[lr=1e38]", "--trials", "0", "--seeds", "6")
    answer = steepest(*STUDY, *fixed)
    assert answer.code == 0
    assert "Adam[lr=1e+38] and SGD[lr=1e+30] (the reference) both diverged on every paired seed." in answer.out
    assert "both diverged" in next(line for line in answer.out.splitlines() if line.startswith("Adam[lr=1e+38]  "))
    assert "equivalent" not in answer.out.replace("never towards equivalence", "")


@pytest.mark.parametrize(("trials", "split"), [("0", "test"), ("2", "validation")])
def test_a_metric_that_is_a_number_nowhere_is_named(steepest: Any, own_files: Path, trials: str, split: str) -> None:
    (own_files / "my_task.py").write_text(NAN_METRIC)
    answer = steepest(*STUDY, "-o", "sgd", "-o", "adam", "--trials", trials, "--seeds", "2")
    assert answer.code == 1
    assert f"Error: the metric 'f1' is nan on the {split} set in all " in answer.err
    assert "an error of the metric's function, not of an optimizer" in answer.err


@pytest.mark.parametrize(
    ("default", "told"),
    [
        (
            "0.125",
            "(2 diverged): it ran with the library's defaults and was not tuned. Its range (lr from 0.00125",
        ),
        ("0.25", "wild.Wild was not evaluated: no point of the search, nor the library's defaults, finished"),
    ],
)
def test_a_search_that_diverged_everywhere_is_told(
    steepest: Any, own_files: Path, no_report: None, default: str, told: str
) -> None:
    (own_files / "wild.py").write_text(WILD % default)
    answer = steepest(*STUDY, "-o", "sgd", "-o", "wild.py:Wild", "--trials", "2", "--seeds", "1")
    assert answer.code == 0
    assert told in answer.out


def test_a_trial_over_its_time_limit_is_told_at_the_end(
    steepest: Any, own_files: Path, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_study.engine.run

    def late(*given: Any, **options: Any) -> RunSummary:
        summary = run(*given, **options)
        summary.ended["timed out"] += 2
        return summary

    monkeypatch.setattr(run_study.engine, "run", late)
    answer = steepest(*STUDY, "-o", "sgd", "--trials", "0", "--seeds", "1", "--time-limit", "9")
    assert answer.code == 1
    assert answer.err.startswith("Error: 2 trials took longer than --time-limit, the worst result; the same command")


def test_studies_say_on_which_devices_they_have_been_tried(steepest: Any) -> None:
    assert "Devices other than the CPU are untested." in " ".join(steepest("study", "--help").out.split())
