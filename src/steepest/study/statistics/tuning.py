"""Cost and resolution of tuning: the expected best of k trials, and learning-rate curves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from steepest.study.errors import UsageError
from steepest.study.statistics.vectors import Vector, finite_vector

Edge = Literal["low", "high"]


def expected_best(scores: Sequence[float], *, maximize: bool) -> list[float]:
    """Return the mean of the best score of k trials, drawn without replacement from all N, for k = 1..N.

    The best of k is at most the i-th worst score with probability C(i, k) / C(N, k): exact, with no resampling. (Dodge
    et al. 2019, EMNLP, draw with replacement instead, and so expect less of k trials: Tang et al. 2020, ACL.) For
    points of a quasi-random sequence, which are not independent draws, it is an estimate.

    A trial that diverged (a score that is not finite) ranks last and counts as the worst finite score. That flatters
    it, but without a bound of the measure any other number would be invented. Report the number of diverged trials next
    to the curve.

    Returns:
        N numbers, never getting worse; all NaN where no score is finite.

    >>> expected_best([1.0, 2.0, 6.0], maximize=True)
    [3.0, 4.666666666666667, 6.0]
    """
    direction = 1.0 if maximize else -1.0
    ordered = np.sort(_failures_last(scores, direction))
    n = len(ordered)
    ranks, draws = np.arange(n + 1)[:, None], np.arange(n)[None, :]
    at_most = np.cumprod(np.clip(ranks - draws, 0, None) / (n - draws), axis=1)
    return [float(direction * value) for value in ordered @ np.diff(at_most, axis=0)]


def _failures_last(scores: Sequence[float], direction: float) -> Vector:
    """Return the scores, larger is better, with failures replaced by the worst finite one (NaN if there is none)."""
    values = direction * np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        raise UsageError("No score; give one per trial, a score that is not finite for one that diverged.")
    finite = values[np.isfinite(values)]
    return np.where(np.isfinite(values), values, finite.min() if finite.size else math.nan)


@dataclass(frozen=True)
class Sensitivity:
    """A learning-rate curve and its good basin: the rates around the best one that cost at most the margin.

    Attributes:
        points: (rate, score) in rising order, one per rate; the score of a rate that diverged is NaN.
        best: the rate with the best score (of several, the middle one).
        low: the basin's lower end, interpolated linearly in log10(rate).
        high: its upper end.
        decades: log10(high / low), the width; a lower bound where the basin `reaches` an end of the range.
        at_edge: the end of the searched range on which the best rate lies, so that a better one may lie beyond; None
            where the search has enclosed it, and for a single rate.
    """

    points: tuple[tuple[float, float], ...]
    best: float
    low: float
    high: float
    decades: float
    at_edge: Edge | None

    @property
    def reaches(self) -> tuple[Edge, ...]:
        """The ends of the searched range to which the basin extends, beyond which it may continue."""
        low: tuple[Edge, ...] = ("low",) if self.low == self.points[0][0] else ()
        high: tuple[Edge, ...] = ("high",) if self.high == self.points[-1][0] else ()
        return low + high


def sensitivity(
    rates: Sequence[float], scores: Sequence[float], *, maximize: bool, margin: float
) -> Sensitivity | None:
    """Return the learning-rate curve of a search and the width of its basin; None if every trial diverged.

    Of several trials at one rate the best counts: the curve is the profile over the other hyperparameters. The basin
    is contiguous around the best rate; where its neighbour diverged it ends at its last finite point.

    Args:
        rates: the learning rates, positive, in any order, shape (n,).
        scores: a score each, not finite where the trial diverged.
        maximize: whether larger scores are better.
        margin: the largest allowed distance from the best score, at least 0, in the score's unit.

    Raises:
        UsageError: no rate, lengths that differ, a rate that is not positive and finite, or a margin that
            is negative or infinite.
    """
    _check(rates, scores, margin)
    direction = 1.0 if maximize else -1.0
    curve = _profile(rates, scores, direction)
    heights = [height for _, height in curve]
    if max(heights) == -math.inf:
        return None
    ties = [place for place, height in enumerate(heights) if height == max(heights)]
    peak = ties[len(ties) // 2]
    floor = heights[peak] - margin
    low, high = _basin_end(curve[peak::-1], floor), _basin_end(curve[peak:], floor)
    return Sensitivity(
        points=tuple((rate, direction * height if math.isfinite(height) else math.nan) for rate, height in curve),
        best=curve[peak][0],
        low=low,
        high=high,
        decades=math.log10(high / low),
        at_edge=_edge(peak, len(curve)),
    )


def _check(rates: Sequence[float], scores: Sequence[float], margin: float) -> None:
    if len(rates) != len(scores):
        raise UsageError(f"{len(rates)} learning rates and {len(scores)} scores; give one of each per trial.")
    if not all(0.0 < rate < math.inf for rate in finite_vector(rates, "learning rates")):
        raise UsageError(f"The smallest learning rate is {min(rates)}; on a logarithmic axis all must be positive.")
    if not 0.0 <= margin < math.inf:
        raise UsageError(f"The margin of the basin is {margin}; give a finite number of at least 0.")


def _profile(rates: Sequence[float], scores: Sequence[float], direction: float) -> list[tuple[float, float]]:
    """Return (rate, height), rising in rate.

    A height is the best score at the rate, larger is better, -inf if all failed.
    """
    best: dict[float, float] = {}
    for rate, score in zip(rates, scores, strict=True):
        height = direction * float(score) if math.isfinite(score) else -math.inf
        best[float(rate)] = max(height, best.get(float(rate), -math.inf))
    return sorted(best.items())


def _basin_end(curve: list[tuple[float, float]], floor: float) -> float:
    """Return the rate at which a curve that starts at the best point first falls below the floor.

    The slope to a height of -inf does not have a length, so the basin ends at its foot.
    """
    for (rate, height), (next_rate, next_height) in pairwise(curve):
        if next_height < floor:
            return rate * math.pow(next_rate / rate, (height - floor) / (height - next_height))
    return curve[-1][0]


def _edge(place: int, count: int) -> Edge | None:
    if count == 1:
        return None
    return "low" if place == 0 else "high" if place == count - 1 else None
