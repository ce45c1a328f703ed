"""Performance profiles across problems (Dolan and More 2002, Mathematical Programming 91, 201-213).

A profile compares a solver with the best of those present: its rho(1) is the share of its wins, its limit the share of
its successes. The order of two solvers in between may change with a third one (Gould and Scott 2016, ACM TOMS 43(2),
15).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from steepest.study.errors import UsageError
from steepest.study.statistics.vectors import Vector, probability, vector

Resampled = Literal["problems", "seeds", "both"]


@dataclass(frozen=True)
class Profile:
    """A curve of one solver.

    Attributes:
        solver: its label.
        taus: factors of the best solver's cost, rising, at least 1.
        shares: rho(tau), the share of problems that it solves at no more than tau times the best cost.
    """

    solver: str
    taus: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Band:
    """A pointwise bootstrap band around a profile; low and high are shares at the taus."""

    profile: Profile
    low: tuple[float, ...]
    high: tuple[float, ...]
    level: float


def performance_profile(costs: Mapping[str, Sequence[float]], taus: Sequence[float]) -> tuple[Profile, ...]:
    """Return the profile of every solver.

    Args:
        costs: by solver, one per problem, in the same order for all: positive, infinite for a failure.
        taus: factors of at least 1, rising.

    Raises:
        UsageError: no solver, different numbers of problems, a cost that is not positive, or taus that are below 1 or
            do not rise.
    """
    grid = _grid(taus)
    shares = _shares(_ratios(_table(costs)), grid)
    return tuple(
        Profile(solver, tuple(grid.tolist()), tuple(row)) for solver, row in zip(costs, shares.tolist(), strict=True)
    )


def profile_bands(
    costs: Mapping[str, Sequence[Sequence[float]]],
    taus: Sequence[float],
    *,
    over: Resampled = "both",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Band, ...]:
    """Return profiles of the median costs over seeds, with percentile bands from resampling.

    A resampled problem or seed is the same for all solvers, as seeds are paired. Bands over seeds show the effect
    of other seeds on these problems. Bands over problems show the effect of other problems like these.

    Args:
        costs: by solver, by problem, by seed: positive, infinite for a failure. Problems may differ in their seeds.
        taus: factors of at least 1, rising.
        over: the resampled units, drawn with replacement.
        level: of the band, pointwise.
        resamples: the number of resamples.
        seed: of the draws.

    Raises:
        UsageError: as `performance_profile`, or solvers whose seeds differ in number on a problem.
    """
    problems = _problems(costs)
    medians = {solver: [float(_median(table[row])) for table in problems] for row, solver in enumerate(costs)}
    random = np.random.default_rng(seed)
    drawn = _resampled(problems, over, resamples, random)
    shares = _shares(_ratios(drawn), _grid(taus))
    tail = (1.0 - probability(level, "level")) / 2.0
    low, high = np.quantile(shares, [tail, 1.0 - tail], axis=0)
    return tuple(
        Band(profile, tuple(low[row].tolist()), tuple(high[row].tolist()), level)
        for row, profile in enumerate(performance_profile(medians, taus))
    )


def _resampled(problems: list[Vector], over: Resampled, resamples: int, random: np.random.Generator) -> Vector:
    """Return the median costs of every resample, shape (resamples, solvers, problems)."""
    columns = [_redrawn_medians(table, over, resamples, random) for table in problems]
    medians = np.stack(columns, axis=2)
    if over == "seeds":
        return medians
    chosen = random.integers(0, len(problems), size=(resamples, 1, len(problems)))
    return np.take_along_axis(medians, np.broadcast_to(chosen, medians.shape), axis=2)


def _redrawn_medians(table: Vector, over: Resampled, resamples: int, random: np.random.Generator) -> Vector:
    """Return one problem's medians over its seeds, resampled if requested, shape (resamples, solvers)."""
    solvers, seeds = table.shape
    if over == "problems":
        return np.broadcast_to(_median(table), (resamples, solvers))
    chosen = random.integers(0, seeds, size=(resamples, seeds))
    return _median(np.moveaxis(table[:, chosen], 0, 1))


def _median(values: Vector) -> Vector:
    """Return the median over the last axis, infinite where one of the two middle values is."""
    ordered, n = np.sort(values, axis=-1), values.shape[-1]
    return np.asarray(ordered[..., (n - 1) // 2] / 2.0 + ordered[..., n // 2] / 2.0, dtype=np.float64)


def _ratios(costs: Vector) -> Vector:
    """Return the ratios to the best solver, shape (..., solvers, problems); infinite where all solvers failed."""
    best = costs.min(axis=-2, keepdims=True)
    return np.asarray(costs / np.where(np.isinf(best), 1.0, best), dtype=np.float64)


def _shares(factors: Vector, taus: Vector) -> Vector:
    """Return the shares of problems with a factor of at most tau, shape (..., solvers, taus)."""
    within: NDArray[np.bool_] = factors[..., None, :] <= taus[:, None]
    return np.asarray(within.mean(axis=-1), dtype=np.float64)


def _table(costs: Mapping[str, Sequence[float]]) -> Vector:
    """Return checked costs, shape (solvers, columns)."""
    if not costs:
        raise UsageError("No solver; give the costs of at least one.")
    rows = {solver: vector(row, f"costs of {solver}") for solver, row in costs.items()}
    counts = {solver: len(row) for solver, row in rows.items()}
    if len(set(counts.values())) > 1:
        raise UsageError(f"The numbers of costs differ ({counts}); give one for each, infinite for a failure.")
    for solver, row in rows.items():
        if row.min() <= 0.0:
            raise UsageError(f"A cost of {solver} is {row.min()}; a ratio needs positive costs.")
    return np.stack(list(rows.values()))


def _problems(costs: Mapping[str, Sequence[Sequence[float]]]) -> list[Vector]:
    """Return one table per problem, shape (solvers, seeds of the problem)."""
    counts = {solver: len(problems) for solver, problems in costs.items()}
    if not costs or len(set(counts.values())) > 1 or not max(counts.values()):
        raise UsageError(f"The numbers of problems are {counts}; give at least one, and as many for every solver.")
    return [
        _table({solver: problems[place] for solver, problems in costs.items()}) for place in range(max(counts.values()))
    ]


def _grid(taus: Sequence[float]) -> Vector:
    grid = vector(taus, "taus")
    if grid[0] < 1.0 or math.isinf(grid[-1]) or (np.diff(grid) <= 0.0).any():
        raise UsageError(f"The factors tau are {grid.tolist()}; give finite ones of at least 1, rising.")
    return grid
