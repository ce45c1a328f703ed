"""The Workers interface and its in-process implementation."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from steepest.study.running.execution import execute
from steepest.study.running.store import StudyFolder
from steepest.study.trials.checkpoints import SECONDS
from steepest.study.trials.run import Trainable
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event


@dataclass(frozen=True)
class TrialUpdate:
    """An update on a trial; without an event: the trial begins."""

    trial: TrialSpec
    event: Event | None = None


Take = Callable[[TrialUpdate], None]
"""The receiver of updates."""


class Workers(Protocol):
    """The interface of anything that runs trials and writes their files. Submitted trials are plain data.

    Every failure of a trial is recorded as its end. Only a folder that cannot be written raises (StoreError).
    """

    def submit(self, trial: TrialSpec) -> None:
        """Put a trial into the queue."""

    def collect(self, take: Take) -> None:
        """Tell updates until every submitted trial has ended. Only steps may be left out."""

    def forget(self) -> None:
        """Forget the waiting trials. The running ones end as they would."""

    def cancel(self) -> None:
        """Forget the waiting trials, and stop the running ones, which resume from their checkpoints next time."""


class InProcess:
    """Workers that run one trial after another in this process. A model that crashes the process ends the study too."""

    def __init__(self, task: Trainable, folder: StudyFolder, seconds: float = SECONDS) -> None:
        self._task = task
        self._folder = folder
        self._seconds = seconds
        self._waiting: deque[TrialSpec] = deque()

    def submit(self, trial: TrialSpec) -> None:
        """Put a trial into the queue."""
        self._waiting.append(trial)

    def collect(self, take: Take) -> None:
        """Run the waiting trials."""
        while self._waiting:
            trial = self._waiting.popleft()
            take(TrialUpdate(trial))
            execute(trial, lambda: self._task, self._folder, partial(_told, take, trial), self._seconds)

    def forget(self) -> None:
        """Forget the waiting trials."""
        self._waiting.clear()

    def cancel(self) -> None:
        """Forget the waiting trials."""
        self.forget()


def _told(take: Take, trial: TrialSpec, event: Event) -> None:
    take(TrialUpdate(trial, event))
