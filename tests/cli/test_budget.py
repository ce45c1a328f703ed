"""`steepest study --budget TIME`: sizes that fit, and a run that stops in time."""

import json
from pathlib import Path
from typing import Any

import pytest

from steepest.study.planning import estimate
from steepest.study.running import engine

STUDY = ("study", "mini-batch", "--preset", "smoke", "--timing-rounds", "0", "-o", "sgd", "-o", "adam")
FOLDER = Path("studies/mini-batch-smoke-in-1m")


@pytest.fixture(autouse=True)
def _second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every trial take a second, as far as a plan can tell."""
    monkeypatch.setattr(estimate, "trial_seconds", lambda plan: {config.label: 1.0 for config in plan.configs})


def test_a_plan_says_what_fits(steepest: Any, tmp_path: Path) -> None:
    answer = steepest(*STUDY, "--budget", "1m", "--plan-only")
    assert answer.code == 0
    told = "budget     1m, a tenth of it in reserve: 8 search trials of every optimizer and 18 seeds, about 54s"
    assert told in answer.out
    assert "18 of the search, 36 evaluations" in answer.out
    assert "1 comparison; any verdict needs 6 seeds; 18 find a difference of" in answer.out
    assert f"folder     {FOLDER}" in answer.out
    assert list(tmp_path.iterdir()) == []


def test_given_sizes_stay(steepest: Any) -> None:
    answer = steepest(*STUDY, "--budget", "1m", "--trials", "2", "--plan-only")
    assert "2 search trials of every optimizer and 24 seeds" in answer.out
    answer = steepest(*STUDY, "--budget", "1m", "--seeds", "7", "--plan-only")
    assert "16 search trials of every optimizer and 7 seeds" in answer.out


@pytest.mark.usefixtures("no_report")
def test_a_spent_budget_is_told_and_the_same_command_goes_on(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    late = property(lambda study: study.folder.read_document().trials != () and len(_ended()) >= 5)
    with monkeypatch.context() as context:
        context.setattr(engine._Study, "_is_late", late)
        answer = steepest(*STUDY, "--budget", "1m", "--trials", "2", "--seeds", "6")
    assert answer.code == 0
    assert (
        "The budget of 1m is spent, and 1 trial of this stage has not run. Nothing is lost. To continue: " in answer.err
    )
    assert "No trial has finished yet" in answer.out
    again = steepest(*STUDY, "--budget", "1m", "--trials", "2", "--seeds", "6")
    assert (again.code, again.err) == (0, "")
    assert "5 trials had been done before" in again.out
    assert "1m for what is left of the plan of this folder" in again.out
    assert len(_ended()) == 6 + 12


def _ended() -> list[Path]:
    paths = Path("studies").glob("*/trials/*.jsonl")
    return [path for path in paths if json.loads(path.read_text().splitlines()[-1])["kind"] == "end"]


@pytest.mark.usefixtures("no_report")
def test_a_folder_keeps_the_sizes_that_were_chosen_at_first(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert steepest(*STUDY, "--budget", "1m", "--trials", "0").code == 0
    monkeypatch.setattr(estimate, "trial_seconds", lambda plan: {config.label: 2.0 for config in plan.configs})
    again = steepest(*STUDY, "--budget", "1m", "--trials", "0")
    assert "54 trials had been done before" in again.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--budget", "2x"), "--budget 2x is no time above zero"),
        (("--budget", "9s"), "--budget 9s is too short"),
        (("--budget", "1m", "--seeds", "6", "--more-seeds", "12"), "--more-seeds adds some; give one of the two"),
    ],
)
def test_a_wrong_budget_is_told(steepest: Any, arguments: tuple[str, ...], told: str) -> None:
    answer = steepest(*STUDY, *arguments)
    assert answer.code == 2
    assert told in answer.err
    assert not Path("studies").exists()
