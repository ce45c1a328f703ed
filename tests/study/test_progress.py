"""What is told about time left, with a clock that the tests move."""

import time
from pathlib import Path

import pytest

from steepest.study.running.engine import run
from steepest.study.running.progress import Progress
from steepest.study.running.store import StudyFolder
from steepest.study.trials.trial import Event

from .support import PlanMaker, Silent, evaluations


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def step(number: int) -> Event:
    return Event({"kind": "step", "epoch": 1, "step": number, "loss": 2.0}, {"examples": 32, "train_seconds": 2.0})


def test_time_left_follows_the_pace(plan: PlanMaker, tmp_path: Path, clock: Clock) -> None:
    made = plan("sgd", "adam", "rmsprop", epochs_wanted=2)
    progress = Progress(made, StudyFolder(tmp_path))
    first, second, _ = evaluations(made)
    progress.stage_started(evaluations(made))
    assert progress.seconds_left() is None  # nothing has been seen yet
    progress.trial_started(first)
    assert progress.seconds_left() is None
    clock.now += 10
    progress.trial_event(first, step(1))  # of four
    assert progress.rows[first.id].seconds_left(clock.now) == 30.0
    assert progress.rows[first.id].speed == 16.0
    assert progress.seconds_left() == 30.0 + 2 * 40.0
    clock.now += 50
    progress.trial_event(first, Event({"kind": "end", "status": "finished", "epoch": 2, "step": 4}))
    assert progress.seconds_left() == 2 * 60.0
    progress.trial_started(second)
    clock.now += 10
    progress.trial_event(second, step(2))
    assert progress.seconds_left() == 10.0 + 60.0


def test_done_trials_show_their_stored_figures_and_leave_no_time(
    plan: PlanMaker, tmp_path: Path, silent: Silent
) -> None:
    made, folder = plan("sgd", "sgd[lr=1e20]"), StudyFolder(tmp_path / "study")
    run(made, folder, silent)
    progress = Progress(made, folder)
    progress.stage_started(evaluations(made))
    good, bad = (progress.rows[trial.id] for trial in evaluations(made))
    assert (good.status, bad.status) == ("finished", "diverged")
    assert good.test is not None
    assert good.speed is not None
    assert bad.test is None
    assert progress.seconds_left() == 0.0
