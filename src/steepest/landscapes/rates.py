"""The search of a rate: the same points of every optimizer's range, the same budget, starts and noise."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from steepest.landscapes.apart import Run, ends_apart, is_walked_apart
from steepest.landscapes.declaration import Point, Surface
from steepest.landscapes.paths import BEYOND, Walk, walk
from steepest.landscapes.together import is_walked_together, walk_together
from steepest.study import seeds
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.planning.search import Range

RESOLUTION: Final = 1e-12
"""Values nearer to the minimum than this count as equal to it."""

DIGITS: Final = 6
"""Decimals of a score that count: scores that agree in these are ties."""

TUNING_SEEDS: Final = 3
"""Draws of the noise on which a rate is tried, on a stochastic surface. The drawn paths have another."""


@dataclass(frozen=True)
class Choice:
    """A rate, and where it comes from.

    Attributes:
        rate: the rate; None for an optimizer without one.
        how: `tuned` by the search, `given` by the user, or `own`: the optimizer finds its steps itself.
        rates: the rates that were tried, from low to high.
        scores: their scores, the lower the better: the mean log10 of the final value above the minimum, or the mean
            final value where nobody knows the minimum. Infinite where a run was lost.
        default: the optimizer's usual rate, which is among those that were tried.
    """

    rate: float | None
    how: Literal["tuned", "given", "own"]
    rates: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    default: float | None = None

    @property
    def ties(self) -> int:
        """The number of rates that have the best score; the smallest of them is taken."""
        return self.scores.count(min(self.scores)) if self.scores else 0

    @property
    def words(self) -> str:
        """The rate in words, such as `rate 0.03, tuned`."""
        if self.rate is None:
            return "finds its own rate"
        lost = "" if not self.scores or min(self.scores) < math.inf else ", as all rates are lost"
        return f"rate {self.rate:.3g}, {self.how}{lost}"


def choose(
    surface: Surface,
    config: OptimizerConfig,
    starts: Sequence[Point],
    *,
    budget: int,
    points: int,
    seed: int,
    lr: float | None,
) -> tuple[OptimizerConfig, Choice]:
    """Return an optimizer with its rate, which is searched unless it is given.

    Args:
        surface: the surface.
        config: the optimizer. A rate in its brackets is given.
        starts: the starts, all of which count.
        budget: gradients of a run.
        points: the number of rates that are tried in addition to the default: the middles of equal parts of the
            declared range on its own scale, the same for every optimizer.
        seed: the seed of the drawn paths, which is not one of those that rates are tried on.
        lr: a rate for every optimizer that takes one; None searches.
    """
    usual = config.rate
    if "lr" in config.fixed:
        return config, Choice(usual, "given")
    if lr is not None and "lr" in config.origin.names:
        return config.with_options({"lr": lr}), Choice(lr, "given")
    declared = config.origin.ranges.get("lr")
    if declared is None or not config.origin.takes_schedule:
        return config, Choice(None, "own")
    tried = {Range(declared).at((place + 0.5) / points) for place in range(points)}
    default = usual if usual is not None and usual > 0 else None
    rates = sorted(tried | ({default} if default else set()))
    scores = [score(surface, each) for each in _searched(surface, config, rates, starts, budget, seed)]
    best = scores.index(min(scores))
    return config.with_options({"lr": rates[best]}), Choice(rates[best], "tuned", tuple(rates), tuple(scores), default)


def _searched(
    surface: Surface, config: OptimizerConfig, rates: Sequence[float], starts: Sequence[Point], budget: int, seed: int
) -> list[list[float]]:
    """Return what `_ends` does, by the fastest way that gives the same bits."""
    if is_walked_together(surface, config):
        return _ends_together(surface, config, rates, starts, budget, seed)
    if is_walked_apart(surface, config):
        with suppress(Exception):  # which of the runs it is that raises, only each run by itself can tell
            return _ends_apart(surface, config, rates, starts, budget, seed)
    return _ends(surface, config, rates, starts, budget, seed)


def _ends(
    surface: Surface, config: OptimizerConfig, rates: Sequence[float], starts: Sequence[Point], budget: int, seed: int
) -> list[list[float]]:
    """Return for every rate the value at the end of each run; infinite for one that is lost."""
    return [
        [
            _end(walk(surface, config.with_options({"lr": rate}), start, budget=budget, seed=number))
            for start, number in _trials(surface, starts, seed)
        ]
        for rate in rates
    ]


def _trials(surface: Surface, starts: Sequence[Point], seed: int) -> list[tuple[Point, int]]:
    """Return the starts and numbers of the noise with which each rate is tried."""
    numbers = [seeds.derive("order", seed, "tuning", place) for place in range(TUNING_SEEDS if surface.seen else 1)]
    return [(start, number) for start in starts for number in numbers]


def _end(walked: Walk) -> float:
    return math.inf if walked.is_lost else float(walked.values[-1])


def _ends_together(
    surface: Surface, config: OptimizerConfig, rates: Sequence[float], starts: Sequence[Point], budget: int, seed: int
) -> list[list[float]]:
    """Return what `_ends` does, to the bit, of runs that are walked at once."""
    runs = walk_together(surface, config, np.array(starts), budget, seed, rates)
    _, _, values = next(runs)
    limits, is_lost = np.maximum(BEYOND, np.abs(values)), np.zeros(values.shape, dtype=bool)
    for _, positions, values in runs:
        is_lost |= ~(np.isfinite(positions).all(-1) & (np.abs(values) <= limits))
    ends: list[list[float]] = np.where(is_lost, math.inf, values).tolist()
    return ends


def _ends_apart(
    surface: Surface, config: OptimizerConfig, rates: Sequence[float], starts: Sequence[Point], budget: int, seed: int
) -> list[list[float]]:
    """Return what `_ends` does, to the bit, of runs in groups of their own."""
    trials = _trials(surface, starts, seed)
    ends = ends_apart(surface, config, [Run(rate, *trial) for rate in rates for trial in trials], budget)
    return [ends[place : place + len(trials)] for place in range(0, len(ends), len(trials))]


def score(surface: Surface, ends: Sequence[float]) -> float:
    """Return how well some runs ended, the lower the better. See `Choice.scores`."""
    return round(sum(final_score(surface, end) for end in ends) / len(ends), DIGITS)


def final_score(surface: Surface, value: float) -> float:
    """Return the log10 of a value above the minimum, at least `RESOLUTION`; the value where that is not known."""
    return value if surface.floor is None else math.log10(max(value - surface.floor, RESOLUTION))
