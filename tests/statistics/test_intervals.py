"""Intervals: worked by hand, beside scipy, and as the mirror image of their tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from steepest.study.errors import UsageError
from steepest.study.statistics.intervals import (
    Interval,
    effect_interval,
    median_interval,
    sign_flip_interval,
)
from steepest.study.statistics.permutation import sign_flip_p_value

INF = math.inf
Method = Callable[..., Interval]


def ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def test_sign_flip_interval_worked_by_hand() -> None:
    """Of the 64 patterns one lies in each tail at 95 %: the extreme subset means, that is values. At 80 % six do: the
    smallest six means of subsets of {1, 2, 3, 4, 5, 9} are 1, 1.5, 2, 2, 2, 7/3, the largest 9, 7, 6.5, 6, 6, 17/3.
    """
    values = [9.0, 2.0, 3.0, 1.0, 5.0, 4.0]
    assert ends(sign_flip_interval(values, 0.95)) == (1.0, 9.0)
    assert ends(sign_flip_interval(values, 0.80)) == pytest.approx((7 / 3, 17 / 3))


@pytest.mark.parametrize("n", [6, 8, 10])
def test_sign_flip_interval_is_made_of_subset_means(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    means = sorted(float(np.mean(subset)) for k in range(1, n + 1) for subset in combinations(values, k))
    tail = int(0.05 / 2 * 2**n)
    assert ends(sign_flip_interval(values, 0.95)) == pytest.approx((means[tail - 1], means[-tail]))


@pytest.mark.parametrize("n", [6, 9, 12, 20])
def test_what_lies_in_the_sign_flip_interval_is_what_the_test_does_not_reject(n: int) -> None:
    values = np.random.default_rng(n).normal(0.5, size=n)
    interval = sign_flip_interval(values, 0.95)
    nudge = 1e-6
    for end, inward in ((interval.low, nudge), (interval.high, -nudge)):
        assert sign_flip_p_value(values - (end + inward)) > 0.05
        assert sign_flip_p_value(values - (end - inward)) <= 0.05


@pytest.mark.parametrize("interval", [sign_flip_interval, median_interval])
def test_five_values_bound_nothing_at_95_percent(interval: Method) -> None:
    assert ends(interval([1.0, 2.0, 3.0, 4.0, 5.0])) == (-INF, INF)
    assert ends(interval([1.0, 2.0, 3.0, 4.0, 5.0], 0.9)) == (1.0, 5.0)
    assert ends(interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])) == (1.0, 6.0)


@pytest.mark.parametrize("make", [sign_flip_interval, median_interval])
def test_intervals_move_and_stretch_with_the_values(make: Method) -> None:
    values = np.random.default_rng(3).normal(size=11)
    low, high = ends(make(values))
    assert ends(make(10.0 - 2.0 * values)) == pytest.approx((10.0 - 2.0 * high, 10.0 - 2.0 * low))


@pytest.mark.parametrize("n", [6, 7, 10, 25])
def test_median_interval_by_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    oracle = stats.quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
    assert ends(median_interval(values)) == pytest.approx((oracle.low, oracle.high))


def test_median_interval_takes_misses() -> None:
    assert ends(median_interval([3.0, INF, 1.0, INF, 2.0, 5.0, 4.0, 6.0])) == (1.0, INF)
    assert ends(median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, INF])) == (2.0, 8.0)


def test_effect_interval_says_which_of_the_two_it_is() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert effect_interval(values) == sign_flip_interval(values)
    with_a_miss = effect_interval([*values, INF])
    assert ends(with_a_miss) == (0.1, INF)
    assert "median" in with_a_miss.method
    assert "infinite" in with_a_miss.method


def test_an_end_that_is_zero_but_for_rounding_is_zero() -> None:
    """An accuracy that is 4 hundredths better balances two that are 3 and 1 worse, but not in binary."""
    differences = [accuracy / 100 - 0.8 for accuracy in (84, 84, 77, 84, 89, 79, 85)]
    assert sign_flip_interval(differences, 0.9).low == 0.0


def test_within() -> None:
    interval = Interval(-0.1, 0.2, 0.95, "by hand")
    assert interval.within(0.2)
    assert not interval.within(0.19)
    assert not Interval(-0.3, 0.2, 0.95, "by hand").within(0.2)
    assert interval.is_finite
    assert not Interval(-INF, 0.2, 0.95, "by hand").is_finite


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sign_flip_interval([1.0, INF]), "infinite value, which has no mean"),
        (lambda: sign_flip_interval([1.0, -INF]), "infinite value, which has no mean"),
        (lambda: median_interval([1.0, math.nan]), "NaN at position 1"),
        (lambda: median_interval([1.0], 95), "level is 95; give a number between 0 and 1"),
        (lambda: median_interval([]), "at least one number"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
