"""SIGTERM and SIGHUP end a study as Ctrl-C does."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steepest.study.running import engine, signals
from steepest.study.running.processes import Processes
from steepest.study.running.store import StudyFolder
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

from .support import MY_TASK, OTHERS, PlanMaker, Silent, evaluations


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    # A shell starts what it puts into the background with SIGINT ignored, and Python then leaves it so.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, interrupt)
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before


class Sending(Silent):
    """Sends this process a signal at the third step of every trial."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        if event.record.get("step") == 3:
            os.kill(os.getpid(), self._number)


@pytest.mark.parametrize("number", [*signals.SIGNALS, signal.SIGINT])
def test_a_study_is_interrupted_and_continues(plan: PlanMaker, folder: StudyFolder, number: int) -> None:
    made = plan("sgd", workload=MY_TASK, epochs_wanted=2)
    summary = engine.run(made, folder, Sending(number))
    assert (summary.interrupted, summary.signal, dict(summary.ended)) == (True, number, {})
    assert folder.read_trial(evaluations(made)[0].id).status == "interrupted"
    again = engine.run(made, folder, Silent())
    assert (again.interrupted, again.signal, dict(again.ended)) == (False, None, {"finished": 1})


def ignore(number: int, frame: object) -> None:
    pass


@pytest.mark.parametrize("handler", [signal.SIG_IGN, ignore])
def test_who_has_settled_what_a_signal_does_keeps_it(
    plan: PlanMaker, folder: StudyFolder, handler: Callable[[int, object], None] | signal.Handlers
) -> None:
    """A program that nohup started must outlive its terminal."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        summary = engine.run(plan("sgd", workload=MY_TASK, epochs_wanted=2), folder, Sending(signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert dict(summary.ended) == {"finished": 1}


def test_only_the_main_thread_hears(plan: PlanMaker, folder: StudyFolder) -> None:
    made, ended = plan("sgd", workload=MY_TASK), []
    thread = threading.Thread(target=lambda: ended.append(engine.run(made, folder, Silent()).ended))
    thread.start()
    thread.join()
    assert ended == [{"finished": 1}]


@pytest.mark.slow
def test_a_worker_that_is_terminated_takes_its_checkpoint_first(plan: PlanMaker, folder: StudyFolder) -> None:
    made = plan(f"{OTHERS}:IsTerminated", workload=MY_TASK, epochs_wanted=10)
    spec = evaluations(made)[0]
    with Processes(folder, 1, seconds=1e9) as workers:
        summary = engine.run(made, folder, Silent(), workers=workers)
        assert dict(summary.ended) == {"failed": 1}
        end = folder.read_trial(spec.id).end or {}
        assert end["error"] == "its process was killed by signal 15 (Terminated)"
        checkpoint = folder.checkpoint(spec).read()
        assert checkpoint is not None
        # It came in the fourth step; the two until the next evaluation prove that the trial can go on.
        assert checkpoint.state["position"][2] == 6
