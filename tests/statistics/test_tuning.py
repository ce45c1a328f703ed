"""The expected best of k trials beside every subset of them, and learning-rate basins worked by hand."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import hypergeom

from steepest.study.errors import UsageError
from steepest.study.statistics.tuning import expected_best, sensitivity

INF = math.inf
NAN = math.nan


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("scores", [[0.3], [0.1, 0.9, 0.4, 0.9, 0.2], [5.0, -1.0, 2.5, 3.0, 0.0, 7.0, 7.5, -3.0]])
def test_expected_best_is_the_mean_over_every_subset(scores: list[float], maximize: bool) -> None:
    best = max if maximize else min
    every = [np.mean([best(subset) for subset in combinations(scores, k)]) for k in range(1, len(scores) + 1)]
    assert expected_best(scores, maximize=maximize) == pytest.approx(every)


def test_expected_best_of_many_trials_by_the_hypergeometric_law() -> None:
    """The best of k exceeds the i-th worst unless none of the N - i better ones is drawn."""
    scores = np.sort(np.random.default_rng(0).normal(size=400))
    for k in (1, 7, 399, 400):
        none_better = np.array([hypergeom.pmf(0, 400, 400 - i, k) for i in range(401)])
        assert expected_best(scores, maximize=True)[k - 1] == pytest.approx(float(np.diff(none_better) @ scores))


@pytest.mark.parametrize(("worse", "maximize"), [(-INF, True), (INF, True), (NAN, True), (INF, False), (NAN, False)])
def test_a_diverged_trial_counts_as_the_worst_finite_one(worse: float, maximize: bool) -> None:
    worst = 1.0 if maximize else 3.0
    with_it = expected_best([1.0, worse, 3.0, 2.0], maximize=maximize)
    assert with_it == expected_best([1.0, worst, 3.0, 2.0], maximize=maximize)
    assert with_it[-1] == (3.0 if maximize else 1.0)


def test_without_a_finite_score_nothing_is_expected() -> None:
    assert all(math.isnan(value) for value in expected_best([NAN, INF], maximize=True))
    with pytest.raises(UsageError, match="No score"):
        expected_best([], maximize=True)


def test_a_basin_worked_by_hand() -> None:
    """Best 0.9 at 1e-2, floor 0.8: reached halfway (in log10) to 1e-3's 0.7, and a third of the way to 1e-1's 0.6."""
    got = sensitivity([1e-1, 1e-4, 1e-2, 1e-3], [0.6, 0.5, 0.9, 0.7], maximize=True, margin=0.1)
    assert got is not None
    assert got.points == ((1e-4, 0.5), (1e-3, 0.7), (1e-2, 0.9), (1e-1, 0.6))
    assert (got.best, got.at_edge, got.reaches) == (1e-2, None, ())
    assert got.low == pytest.approx(10**-2.5)
    assert got.high == pytest.approx(10 ** (-2 + 1 / 3))
    assert got.decades == pytest.approx(0.5 + 1 / 3)


def test_a_basin_ends_at_the_first_dip() -> None:
    """1e-4 scores nearly the best, but 1e-3, between, does not: it is another basin."""
    got = sensitivity([1e-4, 1e-3, 1e-2], [0.89, 0.1, 0.9], maximize=True, margin=0.1)
    assert got is not None
    assert got.low == pytest.approx(10 ** (-2 - 0.1 / 0.8))
    assert (got.high, got.reaches, got.at_edge) == (1e-2, ("high",), "high")


@pytest.mark.parametrize("diverged", [NAN, INF, -INF])
@pytest.mark.parametrize("maximize", [True, False])
def test_a_basin_ends_before_a_rate_that_diverged(diverged: float, maximize: bool) -> None:
    got = sensitivity([1e-3, 1e-2, 1e-1, 1.0], [0.5, 0.5, 0.5, diverged], maximize=maximize, margin=0.1)
    assert got is not None
    assert (got.low, got.high, got.best) == (1e-3, 1e-1, 1e-2)
    assert (got.reaches, got.at_edge) == (("low",), None)
    assert math.isnan(got.points[-1][1])
    assert got.decades == pytest.approx(2.0)


def test_a_loss_has_the_basin_of_the_gain_turned_over() -> None:
    rates, scores = [1e-4, 1e-3, 1e-2, 1e-1], [0.5, 0.7, 0.9, 0.6]
    gain = sensitivity(rates, scores, maximize=True, margin=0.05)
    loss = sensitivity(rates, [1.0 - score for score in scores], maximize=False, margin=0.05)
    assert gain is not None
    assert loss is not None
    assert (loss.low, loss.high) == pytest.approx((gain.low, gain.high))
    assert loss.best == gain.best


@pytest.mark.parametrize(
    ("scores", "edge"),
    [([0.9, 0.5, 0.1], "low"), ([0.1, 0.5, 0.9], "high"), ([0.1, 0.9, 0.5], None), ([0.9, 0.9, 0.9], None)],
)
def test_the_edge_on_which_the_best_rate_lies(scores: list[float], edge: str | None) -> None:
    got = sensitivity([1e-3, 1e-2, 1e-1], scores, maximize=True, margin=0.0)
    assert got is not None
    assert got.at_edge == edge


def test_of_several_trials_at_a_rate_the_best_counts() -> None:
    got = sensitivity([0.1, 0.1, 0.1, 0.01], [NAN, 0.9, 0.2, 0.5], maximize=True, margin=0.0)
    assert got is not None
    assert got.points == ((0.01, 0.5), (0.1, 0.9))
    assert got.low == got.high == got.best == 0.1
    assert got.decades == 0.0


def test_one_rate_is_no_range_and_no_finite_score_no_curve() -> None:
    got = sensitivity([0.1], [0.9], maximize=True, margin=0.1)
    assert got is not None
    assert (got.at_edge, got.decades) == (None, 0.0)
    assert sensitivity([0.1, 0.2], [NAN, INF], maximize=True, margin=0.1) is None


@pytest.mark.parametrize(
    ("rates", "scores", "margin", "message"),
    [
        ([0.1], [0.5, 0.6], 0.1, "1 learning rates and 2 scores"),
        ([0.1, 0.0], [0.5, 0.6], 0.1, "smallest learning rate is 0.0"),
        ([0.1, NAN], [0.5, 0.6], 0.1, "NaN at position 1"),
        ([], [], 0.1, "at least one number"),
        ([0.1], [0.5], -0.1, "margin of the basin is -0.1"),
        ([0.1], [0.5], INF, "margin of the basin is inf"),
    ],
)
def test_what_makes_no_sense_is_refused(rates: list[float], scores: list[float], margin: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sensitivity(rates, scores, maximize=True, margin=margin)
