"""Verdicts: each rule alone, and what they are worth over simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from simulated import in_band

from steepest.study.errors import UsageError
from steepest.study.statistics.intervals import median_interval, sign_flip_interval
from steepest.study.statistics.permutation import attainable_level
from steepest.study.statistics.vectors import Vector
from steepest.study.statistics.verdicts import Comparison, Verdict, compare, median_difference, paired_differences

INF = math.inf
SPREAD = [0.8, 0.9, 1.0, 1.1, 1.2, 0.7, 1.3, 0.85, 1.15]
"""Nine differences, the fewest that eight comparisons need; mean 1."""


def only(differences: list[float], margin: float = 0.0, others: int = 0) -> Comparison:
    """The comparison of one optimizer among ``others`` that the reference equals exactly."""
    table = {"one": differences} | {f"other {i}": [0.0] * 9 for i in range(others)}
    return compare(table, "reference", margin)[0]


@pytest.mark.parametrize(
    ("differences", "margin", "verdict"),
    [
        (SPREAD, 0.0, Verdict.BETTER),
        ([-d for d in SPREAD], 0.0, Verdict.WORSE),
        ([d - 1.0 for d in SPREAD], 0.0, Verdict.UNDECIDED),
        (
            [d - 1.0 for d in SPREAD],
            0.31,
            Verdict.EQUIVALENT,
        ),  # the interval is the range, [-.3, .3]
        ([d - 1.0 for d in SPREAD], 0.29, Verdict.UNDECIDED),
        (SPREAD, 1.3, Verdict.EQUIVALENT),  # better, and yet by less than matters
        (SPREAD, 1.29, Verdict.BETTER),
        (SPREAD[:8], 9.0, Verdict.NOT_ENOUGH_SEEDS),
        ([*SPREAD[:8], INF], 0.0, Verdict.BETTER),
        ([-INF, *(-d for d in SPREAD[1:])], 0.0, Verdict.WORSE),
        ([INF, -INF, *SPREAD[2:]], 0.0, Verdict.UNDECIDED),
        ([0.0] * 9, 0.0, Verdict.UNDECIDED),
        ([0.0] * 9, 0.1, Verdict.EQUIVALENT),
    ],
)
def test_each_rule(differences: list[float], margin: float, verdict: Verdict) -> None:
    assert only(differences, margin, others=7).verdict == verdict


def test_an_infinite_difference_is_outside_every_margin() -> None:
    differences = [0.01 * (-1) ** i for i in range(29)]
    assert only([*differences, 0.01], margin=1.0).verdict == Verdict.EQUIVALENT
    assert only([*differences, INF], margin=1.0).verdict == Verdict.UNDECIDED
    assert median_interval([*differences, INF]).within(1.0)


def test_more_comparisons_ask_for_more() -> None:
    assert only(SPREAD[:6]).verdict == Verdict.BETTER
    assert only(SPREAD[:6], others=1).verdict == Verdict.NOT_ENOUGH_SEEDS
    assert only(SPREAD, others=7).interval.level == pytest.approx(1 - 0.05 / 8)
    assert only(SPREAD, others=7).adjusted_p_value == 8 * only(SPREAD).p_value


def test_the_numbers_of_a_comparison_worked_by_hand() -> None:
    got = only([1.0, 2.0, 3.0, 0.0, -1.0, 4.0])
    assert (got.label, got.reference, got.n) == ("one", "reference", 6)
    assert got.estimate == 1.5
    assert got.effect_size == pytest.approx(1.5 / math.sqrt((0.25 + 0.25 + 2.25 + 2.25 + 6.25 + 6.25) / 5))
    assert got.probability_better == 4.5 / 6
    # Six subsets sum to at most 0: the empty one, {0}, {-1}, {-1, 0}, {-1, 1} and {-1, 0, 1}.
    assert got.p_value == 2 * 6 / 64
    assert got.interval == sign_flip_interval([1.0, 2.0, 3.0, 0.0, -1.0, 4.0], 0.95)


def test_with_a_miss_the_median_stands_for_the_mean() -> None:
    got = only([*SPREAD, -INF])
    assert got.estimate == 0.95
    assert got.effect_size is None
    assert "median" in got.interval.method
    assert only([0.5] * 9).effect_size is None


def test_the_direction_is_that_of_the_tests_statistic() -> None:
    """One huge loss outweighs eight small wins in the mean, so the mean's test must not say "better"."""
    got = only([0.01] * 8 + [-5.0])
    assert got.estimate < 0.0
    assert got.probability_better > 0.5
    assert got.verdict == Verdict.UNDECIDED


def test_paired_differences() -> None:
    assert paired_differences([0.75, 0.5], [0.5, 0.75], maximize=True) == (0.25, -0.25)
    assert paired_differences([0.75, 0.5], [0.5, 0.75], maximize=False) == (-0.25, 0.25)
    for miss in (INF, -INF, math.nan):
        for maximize in (True, False):
            got = paired_differences([1.0, miss, miss], [miss, 1.0, miss], maximize=maximize)
            assert got[:2] == (INF, -INF)
            assert math.isnan(got[2])  # two failures are neither alike nor different


@pytest.mark.parametrize("n", [1, 24])
def test_when_both_diverged_everywhere_nothing_is_equivalent(n: int) -> None:
    got = only([math.nan] * n, margin=1.0)
    assert got.verdict == Verdict.BOTH_DIVERGED
    assert math.isnan(got.estimate)
    assert (got.p_value, got.probability_better, got.interval.is_finite) == (1.0, 0.5, False)


def test_a_pair_of_which_both_diverged_is_a_tie_without_a_size() -> None:
    nearly_equal = [0.01, -0.01] * 5
    assert only(nearly_equal, margin=1.0).verdict == Verdict.EQUIVALENT
    got = only([*nearly_equal, math.nan], margin=1.0)
    assert got.verdict == Verdict.UNDECIDED
    assert got.effect_size is None
    assert got.interval.method == "order statistics of the median, as both sides of a pair diverged"
    assert only([*SPREAD, math.nan]).verdict == Verdict.BETTER


def test_the_median_difference() -> None:
    assert median_difference([3.0, 1.0, 2.0, 5.0]) == 2.5
    assert median_difference([-INF, -INF, 1.0, 2.0]) == -INF
    assert median_difference([-INF, 1.0, INF]) == 1.0
    assert median_difference([-INF, INF]) == 0.0


@pytest.mark.parametrize("margin", [-0.1, INF, math.nan])
def test_a_margin_that_makes_no_sense_is_refused(margin: float) -> None:
    with pytest.raises(UsageError, match="margin of practical equivalence"):
        compare({"one": SPREAD}, "reference", margin)


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"2 values and 1 of the reference"):
        paired_differences([1.0, 2.0], [1.0], maximize=True)
    assert compare({}, "reference", 0.0) == ()


def judged(studies: Vector, margin: float = 0.0) -> list[list[Verdict]]:
    """The verdicts of many studies, differences of shape (studies, comparisons, n)."""
    return [
        [one.verdict for one in compare({str(i): row for i, row in enumerate(study)}, "reference", margin)]
        for study in studies
    ]


def decided(verdicts: list[list[Verdict]]) -> int:
    """In how many studies one verdict at least is better or worse."""
    return sum(not {Verdict.BETTER, Verdict.WORSE}.isdisjoint(study) for study in verdicts)


def test_a_against_a_gives_family_wise_false_verdicts_as_often_as_attainable() -> None:
    """Eight independent comparisons at n = 10: each errs at 6/1024 in the first step of Holm's correction."""
    studies = np.random.default_rng(0).normal(size=(600, 8, 10))
    attainable = 1.0 - (1.0 - attainable_level(10, 0.05 / 8)) ** 8
    assert 0.045 < attainable < 0.05
    assert in_band(decided(judged(studies)), 600, attainable)


def test_a_against_a_with_one_reference_for_all_errs_no_more_often() -> None:
    """Eight optimizers and their reference, all drawn from one skewed law: the comparisons depend on each other."""
    scores = np.random.default_rng(1).exponential(size=(600, 9, 10))
    errors = decided(judged(scores[:, 1:] - scores[:, :1]))
    assert errors <= 0.05 * 600 or in_band(errors, 600, 0.05)
    assert errors > 0


def test_what_differs_by_more_than_the_margin_is_called_equivalent_at_most_at_alpha() -> None:
    """Mean differences just outside the margin, the hardest case, and just enough noise to be mistaken."""
    studies = 0.5 + np.random.default_rng(2).normal(scale=0.15, size=(400, 4, 12))
    verdicts = judged(studies, margin=0.5)
    wrong = sum(Verdict.EQUIVALENT in study for study in verdicts)
    assert wrong > 0
    assert wrong <= 0.05 * 400 or in_band(wrong, 400, 0.05)


def test_what_is_alike_is_called_equivalent_with_enough_seeds() -> None:
    studies = np.random.default_rng(3).normal(scale=0.1, size=(50, 4, 12))
    verdicts = judged(studies, margin=0.2)
    assert sum(verdict == Verdict.EQUIVALENT for study in verdicts for verdict in study) > 190
