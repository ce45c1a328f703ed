"""What a study folder holds, as typed, immutable objects. Nothing here opens a file."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Point = int | str

SEARCH: Final = "search"
EVALUATION: Final = "evaluation"
TIMING: Final = "timing"
DEFAULTS: Final = "defaults"
UNSTARTED: Final = "not started"
INTERRUPTED: Final = "interrupted"
FINISHED: Final = "finished"
DIVERGED: Final = "diverged"
FAILED: Final = "failed"
TIMED_OUT: Final = "timed out"
FROM_PYTHON: Final = "comparison"
"""The workload's name in studies that `steepest.study.compare` has run."""


@dataclass(frozen=True)
class Epoch:
    """What was recorded at one evaluation: at an epoch's end, within one (a fraction), or before training (0)."""

    epoch: float
    step: int
    values: Mapping[str, float]
    seconds: float | None = None


@dataclass(frozen=True)
class Trial:
    """One training run as its records tell it.

    `point` is the point of the search space that it runs, None for a setting that was given. `options` are the
    hyperparameters that its record says it ran with. Of a search trial only the last evaluation is read.
    """

    id: str
    optimizer: str
    seed: int
    phase: str = EVALUATION
    point: Point | None = None
    status: str = UNSTARTED
    step: int = 0
    epoch: float = 0
    steps: Array = field(default_factory=lambda: np.empty(0))
    losses: Array = field(default_factory=lambda: np.empty(0))
    epochs: tuple[Epoch, ...] = ()
    final: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    examples: float | None = None
    step_seconds: float | None = None
    executor: str | None = None
    reason: str | None = None
    traceback: str | None = None
    restarts: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the trial ran to its planned end."""
        return self.status == FINISHED

    @property
    def counts(self) -> bool:
        """Whether the trial has a result. Diverging and exceeding the time limit are the worst one; others are missing.

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
class Dimension:
    """One searched hyperparameter: a range with its scale, or a list of values."""

    low: float | None = None
    high: float | None = None
    scale: str = "log"
    complement: bool = False
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class OptimizerSetting:
    """One competitor of the study: its label, registered name, resolved options, and what was searched for it.

    `skipped` is the reason why it took no part; `points` are the options that a search tried, by point.
    """

    label: str
    name: str
    options: Mapping[str, Any]
    executor: str | None
    schedule: str | None = None
    skipped: str | None = None
    space: Mapping[str, Dimension] = field(default_factory=dict)
    points: Mapping[Point, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """The point that an optimizer's search chose, or the setting it was given, and all options that it runs with."""

    point: Point | None
    given: Mapping[str, Any]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Protocol:
    """What was decided before anything ran.

    Attributes:
        trials: points of the search for every optimizer, beside the library's defaults; 0 where nothing is tuned.
        tuning_seeds: seeds of the search.
        sampler: how points were drawn.
        searched: hyperparameters that were asked to be searched.
        schedule: the learning rate's schedule that was asked for.
        reference: the label of the optimizer that all others are compared with.
        alpha: the family-wise error rate of the verdicts.
        margin: the difference of the metric without practical meaning; 0 where none was declared.
        targets: values of the validation metric, easiest first.
        timing_rounds: how often the seconds of every optimizer's step were to be taken.
        extensions: further searches after the first, each with the (low, high) of its new rates by optimizer; those
            that are not named got further points of the range that they had.
    """

    trials: int = 0
    tuning_seeds: tuple[int, ...] = ()
    sampler: str | None = None
    searched: tuple[str, ...] = ()
    schedule: str | None = None
    reference: str | None = None
    alpha: float = 0.05
    margin: float = 0.0
    targets: tuple[float, ...] = ()
    timing_rounds: int = 0
    extensions: tuple[Mapping[str, tuple[float, float]], ...] = ()


@dataclass(frozen=True)
class Published:
    """Figures that somebody else published for the same optimizers."""

    source: str
    setting: str
    rows: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Study:
    """Everything a study folder holds. `trials` are those that are reported: the evaluation's."""

    folder: str
    name: str
    title: str
    description: str
    workload: str
    preset: str
    metric: str
    maximize: bool
    protocol: Protocol
    optimizers: tuple[OptimizerSetting, ...]
    chosen: Mapping[str, Choice]
    trials: tuple[Trial, ...]
    search_trials: tuple[Trial, ...]
    timing_trials: tuple[Trial, ...]
    published: Published | None
    notices: tuple[str, ...]
    config: Mapping[str, Any]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    seed_purposes: Mapping[str, str]
    versions: Mapping[str, Any]
    machine: Mapping[str, Any]
    threads: int | None
    commit: str | None
    created: str | None
    command: str | None

    def trials_of(self, label: str) -> tuple[Trial, ...]:
        """The evaluation trials of the optimizer with this label, in the study's order."""
        return self._by_label.get(label, ())

    @property
    def running(self) -> tuple[OptimizerSetting, ...]:
        """The optimizers that were not skipped."""
        return tuple(setting for setting in self.optimizers if setting.skipped is None)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the optimizers that were not skipped, in display order."""
        return tuple(setting.label for setting in self.running)

    @property
    def reference(self) -> str | None:
        """The label that all others are compared with; the first one where the plan names none. None without any."""
        named = self.protocol.reference
        return named if named in self.labels else next(iter(self.labels), None)

    @property
    def tuned(self) -> bool:
        """Whether a search was planned."""
        return self.protocol.trials > 0

    @property
    def fallback(self) -> str | None:
        """The sentence that says which data stood in for the wanted ones, or None."""
        found = self.data.get("fallback")
        return str(found) if found else None

    @property
    def task(self) -> tuple[str, ...]:
        """What tells its workload from others, whatever its size and schedule.

        A workload of the library is known by its name. In users' files, and in Python, one name may stand for several:
        those are known by their data and their model too.
        """
        source = str(mapping_at(self.config, "task").get("source") or self.workload)
        if ":" not in source and source != FROM_PYTHON:
            return (self.workload,)
        data = sorted(mapping_at(self.data, "sha256").items())
        return (self.workload, str(data), str(self.model.get("sha256")))

    def rerun(self, trial: Trial) -> str:
        """The command that runs one trial again and says whether its curve is the same, bit for bit."""
        return f"steepest rerun {shlex.quote(self.folder)} {shlex.quote(trial.id)}"

    @cached_property
    def _by_label(self) -> Mapping[str, tuple[Trial, ...]]:
        return by_label(self.trials)


def mapping_at(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under a key, an empty one where there is none."""
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def by_label(trials: Sequence[Trial]) -> dict[str, tuple[Trial, ...]]:
    """The trials of every optimizer, each in the given order."""
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.optimizer, []).append(trial)
    return {label: tuple(ones) for label, ones in found.items()}
