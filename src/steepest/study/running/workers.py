"""Who runs trials: an interface that a study sees, and the simplest thing that has it."""

from collections import deque
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from steepest.study.running.execution import execute
from steepest.study.running.store import StudyFolder
from steepest.study.trials.checkpoints import SECONDS
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import Task
from steepest.study.trials.trial import Event


@dataclass(frozen=True)
class TrialUpdate:
    """What is new of a trial; without an event: it begins."""

    trial: TrialSpec
    event: Event | None = None


class Workers(Protocol):
    """Runs trials and writes their files, wherever that is. What is submitted is plain data.

    However a trial goes wrong, its record ends; only a folder that cannot be written raises (StoreError).
    """

    def submit(self, trial: TrialSpec) -> None:
        """Put a trial into the queue."""

    def collect(self) -> Generator[TrialUpdate]:
        """Yield what happens, until every submitted trial has ended. Steps may be left out, all else is told."""

    def cancel(self) -> None:
        """Forget what waits, and stop what runs; it goes on from its checkpoint next time."""


class InProcess:
    """Runs one trial after another in this process. A model that crashes the process takes the study with it."""

    def __init__(self, task: Task, folder: StudyFolder, seconds: float = SECONDS) -> None:
        self._task = task
        self._folder = folder
        self._seconds = seconds
        self._waiting: deque[TrialSpec] = deque()

    def submit(self, trial: TrialSpec) -> None:
        """Put a trial into the queue."""
        self._waiting.append(trial)

    def collect(self) -> Generator[TrialUpdate]:
        """Run what waits."""
        while self._waiting:
            trial = self._waiting.popleft()
            yield TrialUpdate(trial)
            with closing(execute(trial, lambda: self._task, self._folder, self._seconds)) as events:
                for event in events:
                    yield TrialUpdate(trial, event)

    def cancel(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
