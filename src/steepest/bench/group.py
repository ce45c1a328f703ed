"""One rule over one case: the implementations measured in turn, and the figures derived from their samples."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from . import lane as lanes
from .cases import Case
from .implementations import OWN, TORCH, Implementation
from .lane import Lane, UnavailableError
from .timing import Timer, interleaved, quartiles

MEMORY: Final = "memory"
ADD: Final = "in-place add"


@dataclass(frozen=True)
class Entry:
    """An implementation and its samples.

    Attributes:
        source, mode: the library and the mode, as in `Implementation`.
        unavailable: why it has no samples, or None.
        executor: the executor that ran, or None if the optimizer does not name it.
        steps: steps in a sample.
        samples: seconds per step, one number per round.
        moved_bytes: bytes that a step must read and write, each counted once.
        peak_bytes: additional memory that a step needs while it runs; None if it cannot be measured.
        writes_gradients: the step changed the gradients, and was given copies.
    """

    source: str
    mode: str
    unavailable: str | None = None
    executor: str | None = None
    steps: int = 0
    samples: tuple[float, ...] = ()
    moved_bytes: int = 0
    peak_bytes: int | None = None
    writes_gradients: bool = False

    @property
    def name(self) -> str:
        """The implementation's name in tables."""
        return ADD if self.source == MEMORY else f"{self.source} {self.mode}"

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of the seconds per step."""
        return quartiles(self.samples)

    @property
    def median(self) -> float:
        """The median seconds per step."""
        return self.quartiles[1]

    @property
    def bytes_per_second(self) -> float:
        """The moved bytes per second of the median step."""
        return self.moved_bytes / self.median


@dataclass(frozen=True)
class Group:
    """The results of one rule over one case."""

    case: str
    rule: str
    rounds: int
    entries: tuple[Entry, ...]

    @property
    def measured(self) -> tuple[Entry, ...]:
        """The entries with samples."""
        return tuple(entry for entry in self.entries if entry.unavailable is None)

    @property
    def torchs_best(self) -> Entry | None:
        """The fastest mode of torch, or None if torch does not have the rule."""
        return min((e for e in self.measured if e.source == TORCH), key=lambda e: e.median, default=None)

    @property
    def has_own(self) -> bool:
        """True if any of our executors ran."""
        return any(entry.source == OWN for entry in self.measured)

    def ratio(self, entry: Entry) -> float | None:
        """Return how many times faster an entry is than torch's best mode, or None without one.

        The in-place add does not count.
        """
        best = self.torchs_best
        return None if best is None or entry.source == MEMORY else best.median / entry.median

    def of_add(self, entry: Entry) -> float:
        """Return an entry's moved bytes per second as a fraction of the in-place add's."""
        (add,) = (e for e in self.measured if e.source == MEMORY)
        return entry.bytes_per_second / add.bytes_per_second


def run_group(
    case: Case, rule: str, taking_part: Sequence[Implementation], rounds: int, timer: Timer, device: str
) -> Group:
    """Measure every implementation and the in-place add over the same parameters and gradients."""
    forget_compiled_code()
    params = case.parameters(device)
    ready: list[tuple[Entry, Lane]] = []
    failed: list[Entry] = []
    for implementation in taking_part:
        try:
            ready.append(
                (Entry(implementation.source, implementation.mode), lanes.prepare(implementation, params, timer))
            )
        except UnavailableError as error:
            failed.append(Entry(implementation.source, implementation.mode, unavailable=str(error)))
    ready.append((Entry(MEMORY, ADD), lanes.in_place_add(params, timer)))
    measured = _measure(ready, rounds, timer, device)
    del ready, params
    gc.collect()  # an optimizer is part of a reference cycle, and the next group needs the memory
    return Group(case.name, rule, rounds, (*measured, *failed))


def _measure(ready: list[tuple[Entry, Lane]], rounds: int, timer: Timer, device: str) -> list[Entry]:
    samples = interleaved([lane for _, lane in ready], rounds, timer)
    return [
        Entry(
            source=entry.source,
            mode=entry.mode,
            executor=lane.executor,
            steps=lane.steps,
            samples=tuple(taken),
            moved_bytes=lane.moved_bytes,
            peak_bytes=lane.peak_extra_bytes(device),
            writes_gradients=lane.writes_gradients,
        )
        for (entry, lane), taken in zip(ready, samples, strict=True)
    ]


def forget_compiled_code() -> None:
    """Reset torch.compile. After several sets of shapes it would otherwise give up and run code uncompiled."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
