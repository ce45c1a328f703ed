"""Power of a plan: the differences that a number of seeds can detect, before anything runs.

Effects are in units of the standard deviation of the paired differences, which are taken to be normal. A comparison is
held to alpha / comparisons, the first step of Holm's correction. Where other optimizers differ from the reference too,
the later steps ask for less, and a study finds somewhat more than promised here.

Up to n = 12 the sign-flip test itself is simulated, because Student's test, its limit, promises too much there: an
effect that the sign-flip test finds with probability 0.8, Student's test at the same attainable level finds with 0.92
(n = 9, eight comparisons) or 0.85 (n = 10). Above, the noncentral t law at the attainable level stands for it, within
two hundredths (`tests/statistics/test_power.py`).
"""

import math
from functools import lru_cache
from typing import Final

import numpy as np
import scipy

from steepest.study.statistics.permutation import attainable_level, per_comparison, subsets, tail_count
from steepest.study.statistics.vectors import Vector, probability

SIMULATED_UP_TO: Final = 12
"""The largest number of pairs for which the test is simulated."""
MOST_SEEDS: Final = 200
"""The largest number of seeds that is recommended."""
BATCH: Final = 256
"""The number of studies that are simulated at a time."""


def power_of(n: int, effect: float, comparisons: int, alpha: float = 0.05) -> float:
    """Return the probability of finding a difference of this size, in its true direction, with n seeds.

    Raises:
        UsageError: fewer than one comparison, or alpha outside (0, 1).

    >>> power_of(8, 3.0, comparisons=8)
    0.0
    """
    level = per_comparison(comparisons, alpha)
    if tail_count(n, level) == 0:
        return 0.0
    if n > SIMULATED_UP_TO:
        return _noncentral_power(n, abs(effect), level)
    return float(np.mean(_needed_effects(n, tail_count(n, level)) < abs(effect)))


def detectable_difference(n: int, comparisons: int, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Return the smallest difference found with probability ``power``; None if n seeds cannot give any verdict.

    Raises:
        UsageError: fewer than one comparison, or alpha or power outside (0, 1).
    """
    level = per_comparison(comparisons, alpha)
    wanted = probability(power, "power")
    if tail_count(n, level) == 0:
        return None
    if n <= SIMULATED_UP_TO:
        return max(0.0, float(np.quantile(_needed_effects(n, tail_count(n, level)), wanted)))
    if _noncentral_power(n, 0.0, level) >= wanted:
        return 0.0
    certain = _certain(_critical(n, level)) / math.sqrt(n)
    return float(scipy.optimize.brentq(lambda effect: _noncentral_power(n, effect, level) - wanted, 0.0, certain))


def seeds_to_detect(effect: float, comparisons: int, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Return the fewest seeds that find a difference of this size with probability ``power``; None above `MOST_SEEDS`.

    Raises:
        UsageError: fewer than one comparison, or alpha or power outside (0, 1).

    >>> seeds_to_detect(1.0, comparisons=8)
    17
    """
    wanted = probability(power, "power")
    return next((n for n in range(2, MOST_SEEDS + 1) if power_of(n, effect, comparisons, alpha) >= wanted), None)


@lru_cache(maxsize=64)
def _needed_effects(n: int, tail: int) -> Vector:
    """Return the smallest detectable effect of each of many studies, simulated without a difference.

    The test rejects once the lower end of its interval exceeds 0. Adding an effect moves that end by the effect.
    """
    random, chosen = np.random.default_rng(0), subsets(n)
    averaging = chosen / chosen.sum(axis=1, keepdims=True)
    chunks = []
    for _ in range(min(64, 2 ** (16 - n))):
        means = averaging @ random.normal(size=(n, BATCH))
        chunks.append(-np.partition(means, tail - 1, axis=0)[tail - 1])
    return np.concatenate(chunks)


def _noncentral_power(n: int, effect: float, level: float) -> float:
    critical = _critical(n, level)
    return float(1.0 - scipy.special.nctdtr(n - 1, min(effect * math.sqrt(n), _certain(critical)), critical))


def _critical(n: int, level: float) -> float:
    return float(scipy.special.stdtrit(n - 1, 1.0 - attainable_level(n, level) / 2.0))


def _certain(critical: float) -> float:
    """Return a noncentrality at which the power is 1 to double precision. scipy's law is NaN far above it."""
    return 2.0 * critical + 10.0
