"""One rule over one model: the implementations measured in turn, and the figures derived from their samples."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..group import forget_compiled_code
from ..implementations import OWN, TORCH, Implementation
from ..lane import UnavailableError
from ..timing import Timer, interleaved, quartiles
from .cases import Training, TrainingCase
from .lane import Parts, TrainingLane, Way, compiled_model, prepare
from .memory import MemoryEntry


@dataclass(frozen=True)
class TrainingEntry:
    """An implementation, the parts that were compiled, and the samples.

    Attributes:
        source, mode: the library and the mode, as in `Implementation`.
        compiled: the parts of the training step under ``torch.compile``, as in `Way`.
        unavailable: why it has no samples, or None.
        executor: the executor that ran, or None if the optimizer does not name it.
        steps: training steps in a sample.
        samples: seconds of the parts of a training step, one for each round.
    """

    source: str
    mode: str
    compiled: str
    unavailable: str | None = None
    executor: str | None = None
    steps: int = 0
    samples: tuple[Parts, ...] = ()

    @property
    def name(self) -> str:
        """The implementation's name in tables."""
        return f"{self.source} {self.mode}"

    def quartiles(self, part: str) -> tuple[float, float, float]:
        """Return lower quartile, median and upper quartile of the seconds of one of `PARTS`."""
        return quartiles([getattr(sample, part) for sample in self.samples])

    def median(self, part: str) -> float:
        """Return the median seconds of one of `PARTS`."""
        return self.quartiles(part)[1]

    @property
    def share_of_step(self) -> float:
        """The part of the whole time that is the optimizer's step, from 0 to 1."""
        return self.median("step") / self.median("whole")


@dataclass(frozen=True)
class TrainingGroup:
    """The results of one rule over one model."""

    case: str
    rule: str
    rounds: int
    entries: tuple[TrainingEntry, ...]
    memory: tuple[MemoryEntry, ...] = ()

    @property
    def measured(self) -> tuple[TrainingEntry, ...]:
        """The entries with samples."""
        return tuple(entry for entry in self.entries if entry.unavailable is None)

    @property
    def has_own(self) -> bool:
        """True if any of ours ran."""
        return any(entry.source == OWN for entry in self.measured)

    def ratio(self, entry: TrainingEntry, part: str) -> float | None:
        """Return how many times faster a part is than in torch's fastest mode, of those with the same parts compiled.

        Return None if torch has none.
        """
        rivals = (e for e in self.measured if e.source == TORCH and e.compiled == entry.compiled)
        best = min((rival.median(part) for rival in rivals), default=None)
        return None if best is None else best / entry.median(part)


def run_group(
    case: TrainingCase,
    rule: str,
    taking_part: Sequence[Implementation],
    ways: Sequence[Way],
    rounds: int,
    timer: Timer,
    device: str,
) -> TrainingGroup:
    """Time every implementation in every way, over one model and one batch."""
    forget_compiled_code()
    training = case.training(device)
    compiled = next((_compiled(training) for way in ways if way.model), training)
    prepared = [
        (_named(i, way), _lane(i, compiled if way.model else training, way.step, timer))
        for way in ways
        for i in taking_part
    ]
    ready = [(entry, lane) for entry, lane in prepared if isinstance(lane, TrainingLane)]
    failed = [replace(entry, unavailable=reason) for entry, reason in prepared if isinstance(reason, str)]
    timed = [lane for _, lane in ready]
    interleaved(timed, 1, timer)  # not counted: torch compiles a step again once another of its class was compiled
    samples = interleaved(timed, rounds, timer)
    measured = [
        replace(entry, executor=lane.executor, steps=lane.steps, samples=tuple(taken))
        for (entry, lane), taken in zip(ready, samples, strict=True)
    ]
    del training, compiled, prepared, ready, timed
    gc.collect()  # an optimizer is part of a reference cycle, and the next group needs the memory
    return TrainingGroup(case.name, rule, rounds, (*measured, *failed))


def _named(implementation: Implementation, way: Way) -> TrainingEntry:
    return TrainingEntry(implementation.source, implementation.mode, way.compiled)


def _lane(
    implementation: Implementation, training: Training | str, compiles_step: bool, timer: Timer
) -> TrainingLane | str:
    """Return a lane, or the reason why there is none, which ``training`` itself may be."""
    if isinstance(training, str):
        return training
    try:
        return prepare(implementation, training, compiles_step, timer)
    except UnavailableError as error:
        return str(error)


def _compiled(training: Training) -> Training | str:
    """Return the training of the compiled model, or the reason why there is none."""
    try:
        return compiled_model(training)
    except UnavailableError as error:
        return str(error)
