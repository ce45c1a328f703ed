"""The sign-flip test and Holm's correction: worked by hand, beside scipy, and over simulated studies."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy.stats import permutation_test, wilcoxon
from simulated import in_band

from steepest.study.errors import UsageError
from steepest.study.statistics.permutation import (
    attainable_level,
    flipped_values,
    holm,
    patterns,
    seeds_for_a_verdict,
    sign_flip_p_value,
    smallest_p_value,
    subsets,
)

INF = math.inf


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),  # +++ and its mirror image reach 6
        ([-1.0, 2.0, 3.0], 4 / 8),  # +++ and -++ reach 4
        ([1.0, 1.0, -1.0], 8 / 8),  # every pattern reaches 1
        ([0.0, 2.0, 3.0], 4 / 8),  # the sign of a zero changes nothing
        ([0.0, 0.0], 1.0),
        ([7.0], 1.0),
        ([-1.0, -2.0, -4.0, -8.0, -16.0], 2 / 32),
        ([1.0, -2.0, INF], 6 / 8),  # ranks 1, 2, 3: +++ (6), -++ (4) and +-+ (2) reach 2
        ([0.0, 1.0, INF, INF], 4 / 16),  # ranks 1, 2, 3.5, 3.5, the first counting nothing: ?+++ alone reaches 9
    ],
)
def test_worked_by_hand(differences: list[float], p_value: float) -> None:
    assert sign_flip_p_value(differences) == p_value


@pytest.mark.parametrize("n", [2, 5, 9, 12])
@pytest.mark.parametrize("shift", [0.0, 0.5, -1.0])
def test_every_pattern_by_scipy(n: int, shift: float) -> None:
    differences = np.random.default_rng(n).normal(shift, size=n)
    oracle = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True)
    assert sign_flip_p_value(differences) == pytest.approx(oracle.pvalue, abs=1e-12)


@pytest.mark.parametrize("n", [4, 7, 11])
def test_with_an_infinite_difference_it_is_wilcoxons_test(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.7, size=n)
    largest = int(np.abs(differences).argmax())
    missed = differences.copy()
    missed[largest] *= INF
    assert sign_flip_p_value(missed) == pytest.approx(wilcoxon(differences, method="exact").pvalue, abs=1e-12)


def test_ranks_are_averaged_over_ties_and_infinities_share_the_highest() -> None:
    assert flipped_values([INF, -0.5, 0.5, 0.0, -INF, 2.0]).tolist() == [5.5, -2.5, 2.5, 0.0, -5.5, 4.0]
    assert flipped_values([3.0, -1.0]).tolist() == [3.0, -1.0]


@pytest.mark.parametrize("differences", [[0.3, -0.1, 2.0, 0.7, 1.1], [0.3, -0.1, INF, 0.7, -INF], [0.0, INF, 0.0]])
def test_neither_the_sign_of_all_nor_their_order_changes_the_p_value(differences: list[float]) -> None:
    p_value = sign_flip_p_value(differences)
    assert sign_flip_p_value([-d for d in differences]) == p_value
    assert sign_flip_p_value(sorted(differences)) == p_value


def test_rounding_does_not_break_a_tie() -> None:
    """0.91 - 0.90 and 0.11 - 0.10 differ by 9e-17; in exact numbers every pattern of {1, 1, -1} reaches 1."""
    assert sign_flip_p_value([0.91 - 0.90, 0.11 - 0.10, 0.10 - 0.11]) == 1.0
    assert sign_flip_p_value([1e-5, 1e-5, -1e-5 * (1 - 1e-6)]) < 1.0


@pytest.mark.parametrize("n", [17, 25, 80])
def test_random_patterns_agree_with_all_of_them(n: int) -> None:
    """Above 16 pairs; a count of 65,536 patterns is a binomial sample of them all, here counted by scipy's own draw."""
    differences = np.random.default_rng(n).normal(0.25, size=n)
    ours = sign_flip_p_value(differences, seed=1)
    oracle = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9999, vectorized=True, rng=3
    ).pvalue
    assert ours == pytest.approx(oracle, abs=4 * math.sqrt(oracle * (1 - oracle) / 9999))
    assert ours == sign_flip_p_value(differences, seed=1)
    assert ours != sign_flip_p_value(differences, seed=2)


def test_the_p_value_of_random_patterns_is_never_zero() -> None:
    assert sign_flip_p_value([1.0] * 40) == 2 / 65536


@pytest.mark.parametrize("n", [3, 10, 17, 20])
def test_subsets_are_distinct_and_not_empty(n: int) -> None:
    rows = subsets(n)
    codes = rows @ 2.0 ** np.arange(n)
    assert rows.shape == (patterns(n) - 1, n)
    assert len(np.unique(codes)) == len(rows)
    assert codes.min() >= 1.0
    assert rows.mean() == pytest.approx(0.5, abs=0.1 if n == 3 else 0.01)


def test_random_subsets_of_more_than_62_things_take_in_every_one() -> None:
    shares = subsets(70).mean(axis=0)
    assert np.abs(shares - 0.5).max() < 5 * 0.5 / math.sqrt(65535)


@pytest.mark.parametrize("n", [5, 6, 10])
def test_a_true_null_hypothesis_is_rejected_as_often_as_attainable(n: int) -> None:
    """A against A: both sides drawn from one skewed law, seed by seed."""
    studies, random = 4000, np.random.default_rng(n)
    differences = random.exponential(size=(studies, n)) - random.exponential(size=(studies, n))
    rejected = sum(sign_flip_p_value(row) <= 0.05 for row in differences)
    assert in_band(rejected, studies, attainable_level(n, 0.05))


def test_the_levels_that_can_be_attained() -> None:
    assert [smallest_p_value(n) for n in (1, 2, 9)] == [1.0, 0.5, 2 / 512]
    assert attainable_level(5, 0.05) == 0.0
    assert attainable_level(10, 0.05) == 50 / 1024
    assert attainable_level(9, 0.05 / 8) == 2 / 512
    assert attainable_level(9, 2 / 512) == 2 / 512
    assert attainable_level(40, 0.05) == pytest.approx(0.05, abs=2 / 65536)


@pytest.mark.parametrize("comparisons", [1, 3, 8, 100])
def test_the_seeds_for_a_verdict_are_the_fewest(comparisons: int) -> None:
    n = seeds_for_a_verdict(comparisons)
    assert 2 / 2**n <= 0.05 / comparisons < 2 / 2 ** (n - 1)
    assert holm([sign_flip_p_value([1.0] * n)] + [1.0] * (comparisons - 1))[0] <= 0.05
    assert holm([sign_flip_p_value([1.0] * (n - 1))] + [1.0] * (comparisons - 1))[0] > 0.05


def test_eight_comparisons_need_nine_seeds() -> None:
    assert seeds_for_a_verdict(8) == 9


def test_holm_worked_by_hand() -> None:
    """Sorted .01 .02 .03 .04; times 4 3 2 1: .04 .06 .06 .04; none below an earlier one: .04 .06 .06 .06."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_rejects_what_the_steps_reject() -> None:
    """Its definition: in rising order, compare with alpha / m, alpha / (m - 1), ..., and stop at the first failure."""
    random = np.random.default_rng(0)
    for p_values in random.random((200, 6)) ** 3:
        rejected = set()
        for step, index in enumerate(np.argsort(p_values)):
            if p_values[index] > 0.05 / (6 - step):
                break
            rejected.add(int(index))
        assert {i for i, adjusted in enumerate(holm(p_values.tolist())) if adjusted <= 0.05} == rejected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sign_flip_p_value([]), "at least one number"),
        (lambda: sign_flip_p_value([0.1, math.nan]), r"NaN at position 1.*infinite value"),
        (lambda: holm([0.1, math.nan]), "NaN at position 1"),
        (lambda: seeds_for_a_verdict(0), "name a second optimizer"),
        (lambda: seeds_for_a_verdict(8, 1.5), "alpha is 1.5"),
        (lambda: seeds_for_a_verdict(100_000), "compare fewer optimizers"),
        (lambda: attainable_level(9, 0.0), "level is 0.0"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_the_definition_over_every_pattern() -> None:
    """The count of subsets beside the count of patterns, for values with many ties."""
    random = np.random.default_rng(1)
    for differences in random.integers(-3, 4, size=(50, 6)).astype(float):
        totals = np.abs(np.array(list(product((1.0, -1.0), repeat=6))) @ differences)
        assert sign_flip_p_value(differences) == np.mean(totals >= abs(differences.sum()))
