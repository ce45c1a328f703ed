"""Timing by a clock: samples that last long enough, taken in turn."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import torch

from ..collector import collector_paused

T_co = TypeVar("T_co", covariant=True)

SHORTEST_SAMPLE: Final = 10e-3
"""Minimum seconds of a sample. The first step finds the caches as a rival has left them, so it must not dominate."""
MOST_STEPS: Final = 4096


class Sampled(Protocol[T_co]):
    """An object that can be timed again and again."""

    def sample(self, timer: Timer) -> T_co:
        """Return the seconds of one step, averaged over the steps of a sample, or those of its parts."""


@dataclass(frozen=True)
class Timer:
    """Reads a clock around steps.

    Attributes:
        clock: returns seconds as a float.
        synchronize: waits until the device has finished its queue.
    """

    clock: Callable[[], float] = time.perf_counter
    synchronize: Callable[[], Any] = lambda: None

    @staticmethod
    def of(device: str) -> Timer:
        """Return the timer for a device."""
        return EventTimer(synchronize=torch.cuda.synchronize) if device == "cuda" else Timer()

    def seconds(self, step: Callable[[], Any], count: int) -> float:
        """Return the seconds that ``count`` calls take together."""
        self.synchronize()
        start = self.clock()
        for _ in range(count):
            step()
        self.synchronize()
        return self.clock() - start


def _event() -> Any:
    make: Any = torch.cuda.Event  # which has no types
    return make(enable_timing=True)


@dataclass(frozen=True)
class EventTimer(Timer):
    """Reads the device's clock, by events in its queue before and after the steps.

    It waits before and after a sample only. If the host is slower than the device, the device's waiting counts.

    Attributes:
        event: makes an event, such as ``torch.cuda.Event``, which says its distance to another in milliseconds.
    """

    event: Callable[[], Any] = _event

    def seconds(self, step: Callable[[], Any], count: int) -> float:
        """Return the seconds that ``count`` calls take together."""
        self.synchronize()
        start, end = self.event(), self.event()
        start.record()
        for _ in range(count):
            step()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000


def steps_per_sample(seconds: Callable[[int], float]) -> int:
    """Return how many steps make a sample of at least `SHORTEST_SAMPLE`.

    Doubling the number until it is enough also warms up.

    Args:
        seconds: takes so many steps and returns how long they took.
    """
    count = 1
    # The faster of two: the very first steps compile, allocate and fill caches.
    while min(seconds(count), seconds(count)) < SHORTEST_SAMPLE and count < MOST_STEPS:
        count *= 2
    return count


def interleaved(lanes: Sequence[Sampled[T_co]], rounds: int, timer: Timer) -> list[list[T_co]]:
    """Return the sample of every lane in every round.

    In each round every lane takes one sample. The order is drawn anew for each round (the same in every run), so that
    nobody always comes after the same neighbour, and a machine that slows down for a while slows everybody down.
    """
    samples: list[list[T_co]] = [[] for _ in lanes]
    with collector_paused():
        for turn in range(rounds):
            for index in random.Random(turn).sample(range(len(lanes)), len(lanes)):
                samples[index].append(lanes[index].sample(timer))
    return samples


def quartiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile; of a single sample three times the sample."""
    if len(samples) == 1:
        return (samples[0],) * 3
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, median, high
