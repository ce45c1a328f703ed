"""A study folder as typed, immutable objects. Nothing here opens a file."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steepest.study.records.format import (
    DIVERGED,
    EVALUATION,
    FINISHED,
    FROM_PYTHON,
    TIMED_OUT,
    UNSTARTED,
    Choice,
    OptimizerEntry,
    Phase,
    Point,
    Protocol,
    StudyDocument,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Epoch:
    """The record of one evaluation: at an epoch's end, within one (a fraction), or before training (0)."""

    epoch: float
    step: int
    values: Mapping[str, float]
    seconds: float | None = None


class Layer(NamedTuple):
    """A parameter, or all together, at a sampled step: Euclidean norms, and the cosine with the update before.

    The weights are those before the step. A figure is NaN where it has no value.
    """

    gradient_norm: float
    update_norm: float
    weight_norm: float
    cosine: float


@dataclass(frozen=True)
class Sample:
    """A sampled step: all parameters as one vector, and every parameter by name."""

    step: int
    whole: Layer
    layers: Mapping[str, Layer]

    def every(self, whole: str) -> Mapping[str, Layer]:
        """Return all layers together under this name, and every layer."""
        return {whole: self.whole, **self.layers}


@dataclass(frozen=True)
class Trial:
    """One training run as its records tell it.

    `point` is the point of the search space that it runs, None for a setting that was given. `options` are the
    hyperparameters that its record says it ran with, and `schedule` is the one of its learning rate. `samples` say how
    the optimizers moved, and `logs` hold figures that no verdict uses. Of a search trial only the last evaluation
    is read.
    """

    id: str
    optimizer: str
    seed: int
    phase: Phase = EVALUATION
    point: Point | None = None
    status: str = UNSTARTED
    step: int = 0
    epoch: float = 0
    steps: Array = field(default_factory=lambda: np.empty(0))
    losses: Array = field(default_factory=lambda: np.empty(0))
    epochs: tuple[Epoch, ...] = ()
    samples: tuple[Sample, ...] = ()
    logs: tuple[Epoch, ...] = ()
    final: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = ""
    seconds: float | None = None
    examples: float | None = None
    step_seconds: float | None = None
    executor: str | None = None
    reason: str | None = None
    traceback: str | None = None
    restarts: str | None = None

    @property
    def finished(self) -> bool:
        """True if the trial ran to its planned end."""
        return self.status == FINISHED

    @property
    def counts(self) -> bool:
        """True if the trial has a result. Diverging and exceeding the time limit are the worst one; others are missing.

        A trial that was too slow counts, because leaving its pair out would reward slowness.
        """
        return self.status in (FINISHED, DIVERGED, TIMED_OUT)

    @property
    def examples_per_second(self) -> float | None:
        """Training examples per second of training time, or None if no time was recorded."""
        if not self.seconds or self.examples is None:
            return None
        return self.examples / self.seconds


@dataclass(frozen=True)
class Study:
    """A study folder: its document, and its trials by phase.

    `optimizers` are the document's, then those of trials whose optimizer it does not list. `trials` are the ones that
    are reported: the evaluation's.
    """

    folder: str
    document: StudyDocument
    optimizers: tuple[OptimizerEntry, ...]
    trials: tuple[Trial, ...]
    search_trials: tuple[Trial, ...]
    timing_trials: tuple[Trial, ...]
    notices: tuple[str, ...]

    @property
    def name(self) -> str:
        """The study's name."""
        return self.document.name

    @property
    def title(self) -> str:
        """The headline of its page."""
        return self.document.title

    @property
    def metric(self) -> str:
        """The name of the metric."""
        return self.document.metric.name

    @property
    def maximize(self) -> bool:
        """True if a larger metric is better."""
        return self.document.metric.direction == "maximize"

    @property
    def protocol(self) -> Protocol:
        """The decisions that were made before anything ran."""
        return self.document.protocol

    @property
    def chosen(self) -> Mapping[str, Choice]:
        """The options of the evaluation, by label."""
        return self.document.chosen

    def trials_of(self, label: str) -> tuple[Trial, ...]:
        """Return the evaluation trials of the optimizer with this label, in the study's order."""
        return self._by_label.get(label, ())

    @property
    def running(self) -> tuple[OptimizerEntry, ...]:
        """The optimizers that were not skipped."""
        return tuple(entry for entry in self.optimizers if entry.skipped is None)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the optimizers that were not skipped, in display order."""
        return tuple(self.sources)

    @property
    def sources(self) -> Mapping[str, str]:
        """The source of every optimizer that was not skipped, by label."""
        return {entry.label: entry.name for entry in self.running}

    @property
    def reference(self) -> str | None:
        """The label that all others are compared with; the first one where the plan names none. None without any."""
        named = self.protocol.reference
        return named if named in self.labels else next(iter(self.labels), None)

    @property
    def tuned(self) -> bool:
        """True if a search was planned."""
        return self.protocol.trials > 0

    @property
    def fallback(self) -> str | None:
        """The sentence that says which data stood in for the wanted ones, or None."""
        return None if self.document.data is None else self.document.data.fallback

    @property
    def task(self) -> tuple[str, ...]:
        """The identity of its workload."""
        return task_of(self.document)

    def rerun(self, trial: Trial) -> str:
        """Return the command that runs one trial again and says whether its curve is the same, bit for bit."""
        return f"steepest rerun {shlex.quote(self.folder)} {shlex.quote(trial.id)}"

    @cached_property
    def _by_label(self) -> Mapping[str, tuple[Trial, ...]]:
        return by_label(self.trials)


def task_of(document: StudyDocument) -> tuple[str, ...]:
    """Return the identity of a study's workload, whatever its size and schedule.

    A workload of the library is known by its name. In users' files, and in Python, one name may stand for several:
    those are known by their data and their model too.
    """
    source = document.config.task.source
    if ":" not in source and source != FROM_PYTHON:
        return (document.workload,)
    digests = sorted(document.data.sha256.items()) if document.data else document.model.code_sha256
    return (document.workload, str(digests), document.model.sha256)


def by_label(trials: Sequence[Trial]) -> dict[str, tuple[Trial, ...]]:
    """Return the trials of every optimizer, each in the given order."""
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.optimizer, []).append(trial)
    return {label: tuple(ones) for label, ones in found.items()}
