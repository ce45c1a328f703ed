"""The interface of loggers, and what they are told of a trial."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from steepest.study.report.errors import ReportError


@dataclass(frozen=True, kw_only=True)
class LoggedTrial:
    """A trial as a logger gets it.

    Attributes:
        study: the study's name.
        started: the time at which the study was planned, in seconds since 1970. It is the same in every export.
        id: the trial's name, which is its only one in the study.
        optimizer: the label of its optimizer.
        seed: its seed.
        phase: `evaluation`, or `search`.
        hyperparameters: all options of its optimizer, and the `schedule` of its learning rate.
        config: the workload, its length, batch size, precision and the like, the same for all trials of the study.
    """

    study: str
    started: float
    id: str
    optimizer: str
    seed: int
    phase: str
    hyperparameters: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The optimizer, seed, phase and hyperparameters, which tell the trial from the others of its study."""
        return {"optimizer": self.optimizer, "seed": self.seed, "phase": self.phase, **self.hyperparameters}


class Logger(Protocol):
    """A tool that shows curves.

    A trial is one call of `begin_trial`, one of `points` for every step that has figures, in the order of steps, and
    one of `end_trial`. Trials come one after the other. A trial whose records have grown since comes again from its
    beginning, under the same id; what it replaces is to be dropped.

    Any class with these methods is a logger. From the command line it is called with a folder of its own, a `Path`.
    """

    def begin_trial(self, trial: LoggedTrial) -> None:
        """Begin a trial."""

    def points(self, step: int, values: Mapping[str, float]) -> None:
        """Take the figures of a step by name; they may be infinite or NaN."""

    def end_trial(self, status: str, results: Mapping[str, float]) -> None:
        """End the trial.

        Args:
            status: `finished`, `diverged`, `failed`, `timed out`, or `interrupted` for a trial that has no end yet.
            results: its last figures by name, such as `test_accuracy`; empty for a trial that has no end yet.
        """


METHODS = ("begin_trial", "points", "end_trial")


def package(name: str, tool: str, extra: str) -> Any:
    """Return an imported module; raise `ReportError` with the command that installs it where it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ReportError(
            f"{tool} needs {error.name}, which is not installed: pip install 'steepest[{extra}]'."
        ) from error
