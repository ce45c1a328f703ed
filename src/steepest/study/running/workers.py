"""The Workers interface and its in-process implementation."""

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
    """An update on a trial; without an event: the trial begins."""

    trial: TrialSpec
    event: Event | None = None


class Workers(Protocol):
    """The interface of anything that runs trials and writes their files. Submitted trials are plain data.

    Every failure of a trial is recorded as its end. Only a folder that cannot be written raises (StoreError).
    """

    def submit(self, trial: TrialSpec) -> None:
        """Put a trial into the queue."""

    def collect(self) -> Generator[TrialUpdate]:
        """Yield updates until every submitted trial has ended. Only steps may be left out."""

    def cancel(self) -> None:
        """Forget the waiting trials, and stop the running ones, which resume from their checkpoints next time."""


class InProcess:
    """Workers that run one trial after another in this process. A model that crashes the process ends the study too."""

    def __init__(self, task: Task, folder: StudyFolder, seconds: float = SECONDS) -> None:
        self._task = task
        self._folder = folder
        self._seconds = seconds
        self._waiting: deque[TrialSpec] = deque()

    def submit(self, trial: TrialSpec) -> None:
        """Put a trial into the queue."""
        self._waiting.append(trial)

    def collect(self) -> Generator[TrialUpdate]:
        """Run the waiting trials."""
        while self._waiting:
            trial = self._waiting.popleft()
            yield TrialUpdate(trial)
            with closing(execute(trial, lambda: self._task, self._folder, self._seconds)) as events:
                for event in events:
                    yield TrialUpdate(trial, event)

    def cancel(self) -> None:
        """Forget the waiting trials."""
        self._waiting.clear()
