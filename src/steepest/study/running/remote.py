"""Trials on other nodes: they write their records into a shared folder, from which the study reads its progress."""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from steepest.study.errors import StudyError
from steepest.study.records.lease import EXPIRY, Writer
from steepest.study.records.records import Record
from steepest.study.running.execution import execute, record_death
from steepest.study.running.store import StudyFolder, Tail
from steepest.study.running.worker_process import load_checked, unchanged
from steepest.study.running.workers import Take, TrialUpdate
from steepest.study.trials.checkpoints import SECONDS
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

ATTEMPTS: Final = 4
"""The most attempts of one trial: the first, and three after its node was lost."""
PULSE: Final = 0.5
"""Seconds between two looks at jobs and records."""
REST: Final = 30.0
"""Seconds of rest for every second of a processor that a look at all jobs takes, if that is longer than a pulse."""


@dataclass(frozen=True)
class Assignment:
    """A trial to run on some node, as plain data: its specification, its place, and the paths of the driver's code."""

    document: dict[str, Any]
    folder: str
    data_dir: str | None
    seconds: float
    engine: str
    directory: str
    path: tuple[str, ...]
    attempt: int = 1


@dataclass(frozen=True)
class Outcome:
    """The end of a job. `lost` is True if its node or process was; else `error` is an error of the code, if any."""

    error: str | None = None
    lost: bool = False


class Job(Protocol):
    """A submitted assignment."""

    def outcome(self) -> Outcome | None:
        """Return the end of the job, None while it waits or runs."""

    def cancel(self) -> None:
        """End the job soon."""


class Cluster(Protocol):
    """An engine that runs assignments somewhere."""

    name: str

    def start(self, assignments: Sequence[Assignment]) -> Sequence[Job]:
        """Submit assignments."""


def carry_out(assignment: Assignment, job: str, stop: Callable[[], bool] = bool) -> None:
    """Run an assignment on this node. Everything that matters is in the shared folder afterwards.

    Args:
        assignment: the trial and its place.
        job: the engine's name of the job, for the record of the trial's writer.
        stop: whether the engine wants the job to end. A SystemExit is then the engine's, not the trial's.
    """
    if not Path(assignment.directory).is_dir():
        raise StudyError(
            f"{Writer.here(job, 1).node} has no folder {assignment.directory}; start where all nodes see it"
        )
    os.chdir(assignment.directory)
    sys.path.extend(entry for entry in assignment.path if entry not in sys.path)
    folder = StudyFolder(Path(assignment.folder))
    writer = Writer.here(job, assignment.attempt)
    if not folder.document_path.exists():
        raise StudyError(
            f"{writer.node} does not see the study in {folder.path}; give a folder that all nodes share: --out"
        )
    spec = unchanged(assignment.document)
    data_dir = None if assignment.data_dir is None else Path(assignment.data_dir)
    execute(spec, partial(load_checked, spec, data_dir), folder, _nobody, assignment.seconds, stop, writer)


def _nobody(event: Event) -> None:
    """Tell nobody: the study reads the records."""


@dataclass
class _Running:
    """A trial with its job, what is still to be told of its files, and its lease as it was last seen."""

    trial: TrialSpec
    assignment: Assignment
    job: Job
    record: Tail
    times: Tail
    untold: dict[str, Record] = field(default_factory=dict)
    ended: bool = False
    lease: bytes | None = None
    since: float = 0.0


class Remote:
    """Workers that are jobs of a cluster.

    Args:
        folder: the study's folder, which all nodes share.
        cluster: the engine.
        at_once: the most jobs at a time; None leaves it to the cluster.
        data_dir: the first folder in which workloads search for their data.
        seconds: between two checkpoints of a trial.
    """

    def __init__(
        self,
        folder: StudyFolder,
        cluster: Cluster,
        *,
        at_once: int | None = None,
        data_dir: Path | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self._folder = folder
        self._cluster = cluster
        self._at_once = at_once
        self._waiting: deque[TrialSpec] = deque()
        self._running: list[_Running] = []
        self._place = partial(
            Assignment,
            folder=str(folder.path.resolve()),
            data_dir=None if data_dir is None else str(data_dir.resolve()),
            seconds=seconds,
            engine=cluster.name,
            directory=str(Path.cwd()),
            path=tuple(sys.path),
        )

    def submit(self, trial: TrialSpec) -> None:
        """Put a trial into the queue."""
        self._waiting.append(trial)

    def collect(self, take: Take) -> None:
        """Submit the waiting trials, and tell what their records say until all have ended."""
        while self._waiting or self._running:
            for running in self._started():
                take(TrialUpdate(running.trial))
            began = time.thread_time()
            for running in self._running:
                self._look(running, take)
            busy = time.thread_time() - began
            self._running = [running for running in self._running if not running.ended]
            if self._running:
                time.sleep(max(PULSE, REST * busy))

    def forget(self) -> None:
        """Forget the waiting trials. The running ones end as they would."""
        self._waiting.clear()

    def cancel(self) -> None:
        """Forget the waiting trials, and end the running jobs. Their trials resume from their checkpoints next time."""
        self.forget()
        for running in self._running:
            running.job.cancel()
        self._running = []

    def _started(self) -> list[_Running]:
        room = len(self._waiting) if self._at_once is None else max(0, self._at_once - len(self._running))
        trials = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        assignments = [self._place(document=trial.document()) for trial in trials]
        jobs = self._cluster.start(assignments) if assignments else ()
        started = [
            _Running(trial, assignment, job, *self._folder.tails(trial.id))
            for trial, assignment, job in zip(trials, assignments, jobs, strict=True)
        ]
        self._running += started
        return started

    def _look(self, running: _Running, take: Take) -> None:
        """Tell the new lines of a trial's record, and handle the end of its job."""
        outcome = running.job.outcome()  # before its record is read, which is then complete
        for event in self._news(running):
            running.ended = event.record["kind"] == "end"
            take(TrialUpdate(running.trial, event))
        if outcome is None or running.ended or self._is_written(running):
            return
        if outcome.lost and running.assignment.attempt < ATTEMPTS:
            running.assignment = replace(running.assignment, attempt=running.assignment.attempt + 1)
            (running.job,) = self._cluster.start([running.assignment])
            return
        tries = f" after {running.assignment.attempt} attempts" if outcome.lost else ""
        error = outcome.error or f"its job ended before the trial{tries}, and the engine does not say why"
        running.ended = True
        writer = Writer.here(f"the study, process {os.getpid()}", running.assignment.attempt)
        take(TrialUpdate(running.trial, record_death(running.trial, self._folder, error + tries, "", writer=writer)))

    def _is_written(self, running: _Running) -> bool:
        """Return whether a node still writes the record of a job that is thought to have ended."""
        lease = self._folder.lease(running.trial.id)
        if lease != running.lease:
            running.lease, running.since = lease, time.monotonic()
        return lease is not None and time.monotonic() - running.since < EXPIRY

    def _news(self, running: _Running) -> Iterator[Event]:
        """Yield the events that a trial's record has since the last look, of its steps only the last."""
        new = running.record.news()
        if any(record["kind"] != "step" for record in new):
            running.untold |= {_place(line): line for line in running.times.news()}
        for number, record in enumerate(new):
            if record["kind"] != "step" or number == len(new) - 1:
                yield Event(record, running.untold.pop(_place(record), None))


def _place(record: Record) -> str:
    return json.dumps([record.get(name) for name in ("kind", "epoch", "step")])
