"""Worker processes: whatever one of them does, its trial's record says so and the study goes on."""

import json
import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steepest.study.errors import StoreError
from steepest.study.records.lock import acquire
from steepest.study.running import engine, store
from steepest.study.running.processes import Processes
from steepest.study.running.store import StudyFolder
from steepest.study.running.worker_process import WorkerConfig
from steepest.study.running.workers import InProcess, TrialUpdate, Workers
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

from .support import MY_TASK, OTHERS, PlanMaker, Silent, children, evaluations, record_bytes, stored, updates_of

SEARCH: dict[str, Any] = {"trials_wanted": 2, "timing_rounds": 1, "seeds": 2, "epochs_wanted": 2, "workload": MY_TASK}


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    study = StudyFolder(tmp_path / "study")
    with study.writing():
        pass
    return study


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StudyFolder, Processes]]:
    """Return a folder and two workers for it, for several tests one after another: to start some takes seconds."""
    study = StudyFolder(tmp_path_factory.mktemp("shared") / "study")
    with study.writing():
        pass
    with Processes(study, 2, seconds=0) as workers:
        yield study, workers


def ends(workers: Workers, trials: list[TrialSpec]) -> dict[str, dict[str, Any]]:
    """Run trials and return their last records, by the label without its file."""
    for trial in trials:
        workers.submit(trial)
    told = [(update.trial.config.label.rpartition(".")[2], update.event) for update in updates_of(workers)]
    return {label: event.record for label, event in told if event and event.record["kind"] == "end"}


def records_of(folder: StudyFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder.path / "trials").iterdir())}


def test_what_waits_can_be_forgotten(plan: PlanMaker, shared: tuple[StudyFolder, Processes]) -> None:
    """The trials that run go on to their end, and no other begins."""
    folder, workers = shared
    trials = evaluations(plan("sgd[lr=0.01]", **{**SEARCH, "seeds": 6, "trials_wanted": 0}))
    for trial in trials:
        workers.submit(trial)
    begun: list[str] = []

    def take(update: TrialUpdate) -> None:
        begun.extend([update.trial.id] if update.event is None else [])
        if update.event and update.event.record["kind"] == "end":
            workers.forget()

    workers.collect(take)
    assert 2 <= len(begun) <= 3
    assert [trial.id for trial in trials if folder.is_done(trial.id)] == begun


@pytest.mark.slow
def test_records_are_the_same_bytes_for_any_number_of_processes(
    plan: PlanMaker, tmp_path: Path, silent: Silent, shared: tuple[StudyFolder, Processes]
) -> None:
    made = plan("sgd", "adam", **SEARCH)
    alone = StudyFolder(tmp_path / "alone")
    engine.run(made, alone, silent)
    one, (two, workers) = StudyFolder(tmp_path / "one"), shared
    with Processes(one, 1) as single:
        engine.run(made, one, silent, workers=single)
    summary = engine.run(made, two, silent, workers=workers)
    assert dict(summary.ended) == {"finished": 6 + 4 + 2}
    documents = [stored(folder) for folder in (alone, one, two)]
    assert documents[0]["trials"] == documents[1]["trials"] == documents[2]["trials"]
    assert documents[0]["chosen"] == documents[1]["chosen"] == documents[2]["chosen"]
    assert records_of(alone) == records_of(one)
    of_plan = {name: text for name, text in records_of(two).items() if name in records_of(alone)}  # others share it
    assert records_of(alone) == of_plan
    assert not (one.path / "workers").exists()  # nobody said anything


def test_however_a_worker_ends_the_record_says_so(plan: PlanMaker, shared: tuple[StudyFolder, Processes]) -> None:
    folder, workers = shared
    names = ("Raises", "Leaves", "Exits", "Crashes", "IsKilled")
    made = plan(*(f"{OTHERS}:{name}" for name in names), "sgd", workload=MY_TASK, epochs_wanted=3)
    found = ends(workers, evaluations(made))
    assert {label: (end["status"], end["step"]) for label, end in found.items()} == {
        **dict.fromkeys(names, ("failed", 3)),
        "SGD": ("finished", 6),
    }
    assert {label: end["error"] for label, end in found.items() if "error" in end} == {
        "Raises": "ZeroDivisionError: the fourth step",
        "Leaves": "SystemExit: enough",
        "Exits": "its process ended with exit code 3",
        "Crashes": "its process was killed by signal 11 (Segmentation fault)",
        "IsKilled": "its process was killed by signal 9 (Killed), often for lack of memory",
    }
    assert 'raise ZeroDivisionError("the fourth step")' in found["Raises"]["traceback"]
    assert "these are my last words" in found["Exits"]["traceback"]
    assert "in happen" in found["Crashes"]["traceback"]
    for trial in evaluations(made):
        stored = folder.read_trial(trial.id)
        assert stored.note is None
        assert stored.end == json.loads(json.dumps(found[trial.config.label.rpartition(".")[2]]))


@pytest.mark.slow
def test_a_trial_that_takes_too_long_is_ended_with_the_place_where_it_was(
    plan: PlanMaker, folder: StudyFolder, silent: Silent
) -> None:
    made = plan(f"{OTHERS}:Hangs", "sgd", workload=MY_TASK, epochs_wanted=3)
    with Processes(folder, 1, time_limit=6) as workers:
        summary = engine.run(made, folder, silent, workers=workers)
    assert dict(summary.ended) == {"timed out": 1, "finished": 1}
    end = folder.read_trial(evaluations(made)[0].id).end or {}
    assert not folder.is_done(evaluations(made)[0].id)  # the same command tries again
    assert end["error"] == "it took longer than the time limit of 0.1 minutes and was ended"
    assert "in happen" in end["traceback"]
    assert end["step"] == 2  # the last that was on the disk


class Meddling(Silent):
    """Does something to the workers once so many of them train."""

    def __init__(self, action: Callable[[], None], trials: int) -> None:
        super().__init__()
        self._action = action
        self._trials = trials
        self._training: set[str] = set()

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        before = len(self._training)
        self._training |= {trial.id} if event.record.get("step") else set()
        if before < self._trials == len(self._training):
            self._action()


@pytest.mark.slow
def test_a_full_disk_in_a_worker_ends_the_study_and_keeps_everything(
    plan: PlanMaker, folder: StudyFolder, silent: Silent
) -> None:
    made = plan("sgd", "adam", workload=MY_TASK, epochs_wanted=40)
    quick = plan("sgd", workload=MY_TASK, epochs_wanted=40)

    def fill() -> None:
        for child in children(os.getpid()):
            resource.prlimit(child, resource.RLIMIT_FSIZE, (4_000, 4_000))  # bytes of a file; the record has 9,000

    told = r"cannot write .*: File too large\. Finished trials are kept"
    with Processes(folder, 1, seconds=0) as workers, pytest.raises(StoreError, match=told):
        engine.run(made, folder, Meddling(fill, 1), workers=workers)
    assert all(trial.status == "interrupted" for trial in map(folder.read_trial, [one.id for one in evaluations(made)]))
    assert engine.run(quick, folder, silent).ended == {"finished": 1}


@pytest.mark.slow
def test_ctrl_c_stores_what_runs(plan: PlanMaker, folder: StudyFolder, silent: Silent) -> None:
    made = plan("sgd", "adam", workload=MY_TASK, epochs_wanted=4000)

    def press() -> None:
        raise KeyboardInterrupt

    before = children(os.getpid())
    with Processes(folder, 2, seconds=0) as workers:
        assert engine.run(made, folder, Meddling(press, 2), workers=workers).interrupted
        states = [folder.checkpoint(trial).read() for trial in evaluations(made)]
        steps = [state.state["position"][2] for state in states if state]
        assert len(steps) == 2
        assert updates_of(workers) == []
    assert children(os.getpid()) == before


@pytest.mark.slow
def test_a_worker_ends_with_its_standard_input(plan: PlanMaker, folder: StudyFolder) -> None:
    """In the middle of a trial too. Where the kernel can, it also ends a worker with its parent: see test_kills."""
    trial = evaluations(plan("sgd", workload=MY_TASK, epochs_wanted=4000))[0]
    code = "from steepest.study.running.worker_process import main; main()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for message in (WorkerConfig(os.getpid(), folder.path, None, 30.0), ("run", trial.document())):
            pickle.dump(message, process.stdin)
        process.stdin.flush()
        told = [pickle.load(process.stdout)[0] for _ in range(4)]
        assert told == ["ready", "event", "event", "event"]
        process.stdin.close()
        assert process.wait(20) == 0
    assert folder.read_trial(trial.id).status == "interrupted"


def test_a_record_that_an_orphan_still_writes_is_left_alone(
    plan: PlanMaker, folder: StudyFolder, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan("sgd")
    path = folder.path / "trials" / f"{evaluations(made)[0].id}.jsonl"
    monkeypatch.setattr(store, "PATIENCE", 0.2)
    with path.open("ab") as orphan:
        assert acquire(orphan)
        with pytest.raises(StoreError, match=r"is being written by a process that another study left behind; end that"):
            engine.run(made, folder, silent)
    assert path.read_bytes() == b""
    monkeypatch.setattr(store, "PATIENCE", 20.0)
    orphan = path.open("ab")
    assert acquire(orphan)
    threading.Timer(0.3, orphan.close).start()  # it comes to its end
    assert engine.run(made, folder, silent).ended == {"finished": 1}


def test_what_an_orphan_has_finished_does_not_run_again(plan: PlanMaker, folder: StudyFolder) -> None:
    made = plan("sgd")
    trial = evaluations(made)[0]
    one, two = InProcess(made.task, folder), InProcess(made.task, folder)
    (end,) = ends(one, [trial]).values()
    before = record_bytes(folder, trial)
    two.submit(trial)
    begin, only = updates_of(two)
    assert begin.event is None
    assert only.event is not None
    assert only.event.record == json.loads(json.dumps(end))
    assert record_bytes(folder, trial) == before
