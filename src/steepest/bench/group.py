"""One rule over one case: everyone measured in turn, and what follows from the samples."""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from . import lane as lanes
from .cases import Case
from .implementations import OWN, TORCH, Implementation
from .lane import Lane, UnavailableError
from .timing import Timer, interleaved

MEMORY: Final = "memory"
ADD: Final = "in-place add"


@dataclass(frozen=True)
class Entry:
    """An implementation and its samples.

    Attributes:
        source, mode: who it is.
        unavailable: why it has no samples, or None.
        executor: what ran, where the optimizer says so.
        steps: steps in a sample.
        samples: seconds per step, one number per round.
        moved_bytes: what a step must read and write, each once.
        peak_bytes: memory that a step needs beside what is there before it; None where it cannot be told.
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
        """What tables call it."""
        return ADD if self.source == MEMORY else f"{self.source} {self.mode}"

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of the seconds per step."""
        if len(self.samples) == 1:
            return (self.samples[0],) * 3
        low, median, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return low, median, high

    @property
    def median(self) -> float:
        """The median seconds per step."""
        return self.quartiles[1]

    @property
    def bytes_per_second(self) -> float:
        """The speed at which the bytes that must be moved were moved."""
        return self.moved_bytes / self.median


@dataclass(frozen=True)
class Group:
    """What came out for one rule over one case."""

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
        """torch's fastest mode, if torch has the rule."""
        return min((e for e in self.measured if e.source == TORCH), key=lambda e: e.median, default=None)

    @property
    def has_own(self) -> bool:
        """Whether any executor of ours ran."""
        return any(entry.source == OWN for entry in self.measured)

    def ratio(self, entry: Entry) -> float | None:
        """How many times faster than torch's best mode, or None without one; the in-place add is no rival."""
        best = self.torchs_best
        return None if best is None or entry.source == MEMORY else best.median / entry.median

    def of_add(self, entry: Entry) -> float:
        """The bytes moved per second, as a part of the in-place add's."""
        (add,) = (e for e in self.measured if e.source == MEMORY)
        return entry.bytes_per_second / add.bytes_per_second


def run_group(
    case: Case, rule: str, taking_part: Sequence[Implementation], rounds: int, timer: Timer, device: str
) -> Group:
    """Measure everyone, and the in-place add, over the same parameters and gradients."""
    _forget_compiled_code()
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


def _forget_compiled_code() -> None:
    """Let a peer that compiles start anew: after several sets of shapes torch would give up and run it uncompiled."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
