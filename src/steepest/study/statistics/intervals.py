"""Confidence intervals that keep their coverage with the few seeds of a study."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from steepest.study.statistics.permutation import TIE, subsets, tail_count
from steepest.study.statistics.vectors import Vector, finite_vector, probability, vector


@dataclass(frozen=True)
class Interval:
    """A confidence interval. An infinite end means that the data do not bound that side.

    Attributes:
        level: the claimed coverage, in (0, 1); the true coverage is at least that under the method's assumptions.
        method: the method's name in words for a report.
    """

    low: float
    high: float
    level: float
    method: str

    @property
    def is_finite(self) -> bool:
        """True if both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def within(self, margin: float) -> bool:
        """Return whether every value of the interval is at most ``margin`` in size."""
        return -margin <= self.low and self.high <= margin


def sign_flip_interval(differences: Sequence[float], level: float = 0.95, *, seed: int = 0) -> Interval:
    """Return the interval of mean differences that `permutation.sign_flip_p_value` does not reject, at 1 - level.

    Shifting the differences by theta and testing counts the subsets with a mean of at most theta, so that the ends are
    order statistics of the 2^n - 1 subset means (Hartigan 1969, JASA 64, 1303-1317; Tritchler 1984, JASA 79, 200-207).
    It covers exactly 1 - `permutation.attainable_level` for differences that are symmetric about their centre,
    whatever their law. Above n = 16 a random 2^16 - 1 subsets stand for all, which covers as much (Hartigan, same
    paper). With too few pairs for the level (n < 6 at 95 %) it is the whole line.

    Raises:
        UsageError: no difference, or one is not finite: `effect_interval` takes those.

    >>> sign_flip_interval([1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
    Interval(low=1.0, high=9.0, level=0.95, method='inverted sign-flip test')
    """
    values = finite_vector(differences, "differences")
    low, high = -math.inf, math.inf
    tail = tail_count(len(values), 1.0 - probability(level, "level"))
    if tail > 0:
        chosen = subsets(len(values), seed)
        means = np.partition(chosen @ values / chosen.sum(axis=1), [tail - 1, len(chosen) - tail])
        low, high = (_end(float(mean), values) for mean in (means[tail - 1], means[len(means) - tail]))
    return Interval(low, high, level, "inverted sign-flip test")


def _end(mean: float, values: Vector) -> float:
    """Return the mean of a subset; 0 where its sum is 0 but for rounding, as the test has it."""
    return 0.0 if abs(mean) <= TIE * np.abs(values).sum() else mean


def median_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the median's interval between two order statistics.

    It assumes nothing of the law, covers at least ``level``, and takes infinite values (David and Nagaraja, Order
    Statistics, 2003, section 7.1). With too few values for the level (n < 6 at 95 %) it is the whole line.

    Raises:
        UsageError: no value, or one is NaN.

    >>> median_interval([3.0, 1.0, 2.0, 4.0, float("inf"), 5.0])
    Interval(low=1.0, high=inf, level=0.95, method='order statistics of the median')
    """
    array = np.sort(vector(values, "values"))
    n = len(array)
    tails = 2.0 * scipy.special.bdtr(np.arange((n + 1) // 2), n, 0.5)
    position = int(np.count_nonzero(tails <= 1.0 - probability(level, "level")))
    low, high = (float(array[position - 1]), float(array[n - position])) if position else (-math.inf, math.inf)
    return Interval(low, high, level, "order statistics of the median")


def effect_interval(differences: Sequence[float], level: float = 0.95, *, seed: int = 0) -> Interval:
    """Return the interval of a paired effect's mean by `sign_flip_interval`; with an infinite one, of its median.

    Raises:
        UsageError: no difference, or one is NaN.
    """
    if np.isfinite(vector(differences, "differences")).all():
        return sign_flip_interval(differences, level, seed=seed)
    interval = median_interval(differences, level)
    return replace(interval, method=f"{interval.method}, as a difference is infinite")
