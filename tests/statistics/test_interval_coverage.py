"""Intervals cover what they claim, counted over simulated studies whose truth is 0."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from simulated import SYMMETRIC, in_band, skewed

from steepest.study.statistics.intervals import (
    Interval,
    median_interval,
    sign_flip_interval,
)
from steepest.study.statistics.permutation import attainable_level

STUDIES = 1500


def covering(make: Callable[[np.ndarray], Interval], differences: np.ndarray) -> int:
    intervals: list[Interval] = [make(row) for row in differences]
    return sum(interval.low <= 0.0 <= interval.high for interval in intervals)


@pytest.mark.parametrize("law", SYMMETRIC)
@pytest.mark.parametrize("n", [5, 6, 10])
def test_the_sign_flip_interval_covers_exactly_for_any_symmetric_law(law: str, n: int) -> None:
    differences = SYMMETRIC[law](np.random.default_rng(n), (STUDIES, n))
    assert in_band(covering(sign_flip_interval, differences), STUDIES, 1.0 - attainable_level(n, 0.05))


@pytest.mark.parametrize(("n", "outside"), [(5, 0), (6, 2 * 1), (10, 2 * (1 + 10))])
def test_the_median_interval_covers_exactly_for_any_law(n: int, outside: int) -> None:
    """Of the 2^n ways to lie on either side of the median, ``outside`` leave it out of the interval."""
    differences = np.random.default_rng(n).exponential(size=(STUDIES, n)) - np.log(2.0)
    assert in_band(covering(median_interval, differences), STUDIES, 1.0 - outside / 2**n)


def test_what_skewness_costs() -> None:
    """Two scores of one skewed law have symmetric differences. Skewed differences are covered less than claimed by both
    intervals of the mean; the sign-flip interval loses no more than Student's.
    """
    differences = skewed(np.random.default_rng(0), (STUDIES, 10))
    sign_flip = covering(sign_flip_interval, differences)
    student = ttest_1samp(differences, 0.0, axis=1).confidence_interval()
    assert in_band(sign_flip, STUDIES, 0.905)
    assert sign_flip >= int(((student.low <= 0.0) & (student.high >= 0.0)).sum())
