"""Paired sign-flip permutation tests, and Holm's correction for several of them.

The null hypothesis is "optimizer and reference are alike on every seed": a paired difference is as likely to be d as
-d, so each of the 2^n sign patterns was equally likely (Fisher, The Design of Experiments, 1935, section 21). Flipping
the signs of a subset S of the pairs lowers the sum by twice the sum over S. The flipped sum is therefore at least the
observed one exactly when S sums to at most zero. Test (here) and interval (`intervals`) both count subsets.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import scipy

from steepest.study.errors import UsageError
from steepest.study.statistics.vectors import Vector, probability, vector

EXACT_UP_TO: Final = 16
"""The largest number of pairs for which all subsets are taken. Above it, a random 2^16 - 1 of them are taken."""
TIE: Final = 1e-10
"""Sums that differ by less, relative to the sum of sizes, are equal: 0.91 - 0.90 and 0.81 - 0.80 differ in rounding."""


def sign_flip_p_value(differences: Sequence[float], *, seed: int = 0) -> float:
    """Return the two-sided p value of the paired sign-flip test on the mean: the share of patterns at least as extreme.

    It is exact up to n = 16. Above, a random 2^16 - 1 of the patterns are taken and the observed one: (count + 1) /
    (draws + 1). That is as valid (Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology
    9(1), article 39).
    With an infinite difference the mean does not exist: see `flipped_values`.

    Args:
        differences: one per pair, shape (n,); infinite where only one side missed or diverged.
        seed: of the random patterns; without effect up to n = 16.

    Raises:
        UsageError: no difference, or one is NaN.

    >>> sign_flip_p_value([1.0, 2.0, 3.0])
    0.25
    >>> sign_flip_p_value([1.0, 1.0, 1.0, 1.0, 1.0, float("inf")])
    0.03125
    """
    values = flipped_values(differences)
    values = values if values.sum() >= 0.0 else -values
    sums = subsets(len(values), seed) @ values
    count = 1 + int(np.count_nonzero(sums <= TIE * np.abs(values).sum()))
    return min(1.0, 2.0 * count / patterns(len(values)))


def flipped_values(differences: Sequence[float]) -> Vector:
    """Return the numbers whose signs are flipped and whose sum is the statistic, shape (n,).

    They are the differences, or, if one is infinite, the signed ranks of the sizes (Pratt 1959): ties share their
    average rank, infinities have the highest, zeros count nothing but keep their rank. The choice depends only on the
    sizes, which no flip changes, so the test stays exact.

    >>> flipped_values([0.1, -float("inf"), 0.0, 0.3]).tolist()
    [2.0, -4.0, 0.0, 3.0]
    """
    values = vector(differences, "differences")
    if np.isfinite(values).all():
        return values
    return np.asarray(np.sign(values) * scipy.stats.rankdata(np.abs(values)), dtype=np.float64)


@lru_cache(maxsize=2)
def subsets(n: int, seed: int = 0) -> Vector:
    """Return distinct non-empty subsets of n things as rows of zeros and ones, shape (patterns(n) - 1, n), read-only.

    >>> subsets(2).tolist()
    [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    """
    rows = _every_subset(n) if n <= EXACT_UP_TO else _random_subsets(n, seed)
    rows.setflags(write=False)
    return rows


def patterns(n: int) -> int:
    """Return the number of sign patterns in the test with n pairs: `subsets` and the observed pattern.

    >>> patterns(10), patterns(30)
    (1024, 65536)
    """
    return 1 << min(n, EXACT_UP_TO)


def smallest_p_value(n: int) -> float:
    """Return the smallest two-sided p value of n pairs: all differences have one sign, which 2 of the 2^n patterns do.

    >>> smallest_p_value(5)
    0.0625
    """
    return min(1.0, math.ldexp(2.0, -n))


def seeds_for_a_verdict(comparisons: int, alpha: float = 0.05) -> int:
    """Return the smallest number of seeds at which one of so many comparisons can pass Holm's first step.

    Raises:
        UsageError: alpha / comparisons is less than the smallest p value of the random patterns, 2^-15.

    >>> [seeds_for_a_verdict(comparisons) for comparisons in (1, 2, 8, 13)]
    [6, 7, 9, 10]
    """
    level = per_comparison(comparisons, alpha)
    for n in range(1, EXACT_UP_TO + 1):
        if smallest_p_value(n) <= level:
            return n
    raise UsageError(
        f"{comparisons} comparisons at alpha = {alpha} need p values below {level:.1e}, and the test resolves "
        f"{smallest_p_value(EXACT_UP_TO):.1e}; compare fewer optimizers in one study."
    )


def per_comparison(comparisons: int, alpha: float) -> float:
    """Return the level of one of several comparisons, alpha / comparisons (Bonferroni, and the first step of Holm).

    Raises:
        UsageError: fewer than one comparison, or alpha outside (0, 1).
    """
    if comparisons < 1:
        raise UsageError(f"{comparisons} comparisons; at least one is needed, so name a second optimizer.")
    return probability(alpha, "alpha") / comparisons


def tail_count(n: int, level: float) -> int:
    """Return the number of sign patterns in one tail of the two-sided test at this level.

    >>> tail_count(10, 0.05)
    25
    """
    return int(patterns(n) * probability(level, "level") / 2.0)


def attainable_level(n: int, level: float) -> float:
    """Return the largest attainable significance level up to ``level`` of the test with n pairs: p values are discrete.

    >>> attainable_level(5, 0.05), attainable_level(6, 0.05)
    (0.0, 0.03125)
    """
    return 2.0 * tail_count(n, level) / patterns(n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values, in the given order. At most alpha means rejected at family-wise level alpha.

    Valid under any dependence of the tests (Holm 1979, Scandinavian Journal of Statistics 6, 65-70).

    >>> holm([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.04]
    """
    if not p_values:
        return []
    values = vector(p_values, "p values")
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def _every_subset(n: int) -> Vector:
    return _bits(np.arange(1, patterns(n), dtype=np.int64), n)


def _random_subsets(n: int, seed: int) -> Vector:
    """Return subsets that differ in their first 62 members, because they are distinct random 64-bit numbers."""
    random = np.random.default_rng(seed)
    count, numbered = patterns(n) - 1, min(n, 62)
    codes = 1 + random.choice(2**numbered - 1, size=count, replace=False, shuffle=False)
    rows = np.empty((count, n))  # filled in place: hundreds of seeds make hundreds of megabytes
    rows[:, :numbered] = _bits(codes, numbered)
    rows[:, numbered:] = random.integers(0, 2, size=(count, n - numbered))
    return rows


def _bits(codes: np.ndarray[tuple[int], np.dtype[np.int64]], n: int) -> Vector:
    return ((codes[:, None] >> np.arange(n)) & 1).astype(np.float64)
