"""Performance profiles beside one drawn by hand, and bands that mean what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from steepest.study.errors import UsageError
from steepest.study.statistics.profiles import performance_profile, profile_bands

INF = math.inf
COSTS = {"adam": [10.0, 20.0, 30.0, INF], "sgd": [20.0, 10.0, 30.0, INF], "muon": [5.0, 40.0, INF, 8.0]}
"""Four problems; the best costs are 5, 10, 30 and 8."""


def test_a_profile_worked_by_hand() -> None:
    curves = {one.solver: one.shares for one in performance_profile(COSTS, [1.0, 1.9, 2.0, 4.0, 1e6])}
    assert curves == {
        "adam": (0.25, 0.25, 0.75, 0.75, 0.75),
        "sgd": (0.5, 0.5, 0.5, 0.75, 0.75),
        "muon": (0.5, 0.5, 0.5, 0.75, 0.75),
    }


def test_a_profile_is_by_its_definition() -> None:
    random = np.random.default_rng(0)
    costs = {name: random.lognormal(size=7).tolist() for name in "abcd"}
    for curve in performance_profile(costs, [1.0, 1.5, 3.0]):
        for tau, share in zip(curve.taus, curve.shares, strict=True):
            best = [min(row[p] for row in costs.values()) for p in range(7)]
            assert share == sum(costs[curve.solver][p] <= tau * best[p] for p in range(7)) / 7


def by_seed(random: np.random.Generator, problems: int, seeds: int) -> dict[str, list[list[float]]]:
    """Solver b costs 1.5 times as much as a on average, with noise from problem to problem and seed to seed."""
    return {
        solver: (
            factor
            * random.lognormal(sigma=0.4, size=(problems, 1))
            * random.lognormal(sigma=0.2, size=(problems, seeds))
        ).tolist()
        for solver, factor in (("a", 1.0), ("b", 1.5))
    }


@pytest.mark.parametrize("over", ["problems", "seeds", "both"])
def test_bands_are_around_the_profile_of_the_medians(over: str) -> None:
    costs = by_seed(np.random.default_rng(1), 8, 5)
    bands = profile_bands(costs, [1.0, 1.5, 2.0, 4.0], over=over)  # type: ignore[arg-type]
    medians = {solver: np.median(table, axis=1).tolist() for solver, table in costs.items()}
    assert tuple(band.profile for band in bands) == performance_profile(medians, [1.0, 1.5, 2.0, 4.0])
    for band in bands:
        assert all(
            low <= share <= high for low, share, high in zip(band.low, band.profile.shares, band.high, strict=True)
        )
        assert band.low[0] < band.high[0]
    assert profile_bands(costs, [1.0, 1.5, 2.0, 4.0], over=over) == bands  # type: ignore[arg-type]


def test_without_noise_over_seeds_the_band_over_seeds_is_the_curve() -> None:
    costs = {solver: [[cost] * 3 for cost in row] for solver, row in COSTS.items()}
    for band in profile_bands(costs, [1.0, 2.0], over="seeds"):
        assert band.low == band.high == band.profile.shares


def test_the_band_over_problems_is_binomial() -> None:
    """How many of a resample's 12 problems are among the 6 that a solver wins: Binomial(12, 1/2), whose quantiles at
    2.5 % and 97.5 % are 3 and 9.
    """
    costs = {"a": [[1.0], [2.0]] * 6, "b": [[2.0], [1.0]] * 6}
    for band in profile_bands(costs, [1.0], over="problems", resamples=4000):
        assert (band.low, band.high) == ((3 / 12,), (9 / 12,))


def test_seeds_are_drawn_alike_for_all_solvers() -> None:
    """b always costs a little more than a on the same seed: paired, no resample lets it win."""
    costs = {"a": [[1.0, 2.0, 4.0, 8.0, 16.0]], "b": [[1.1, 2.2, 4.4, 8.8, 17.6]]}
    a, b = profile_bands(costs, [1.0], over="seeds")
    assert (a.low, b.high) == ((1.0,), (0.0,))


def test_problems_may_differ_in_their_seeds() -> None:
    costs = {"a": [[1.0, 1.0, 1.0], [INF, 2.0]], "b": [[2.0, INF, 2.0], [1.0, 1.0]]}
    a, b = profile_bands(costs, [1.0, 2.0], over="both")
    assert a.profile.shares == (0.5, 0.5)  # its median on the second problem is a miss
    assert b.profile.shares == (0.5, 1.0)


@pytest.mark.parametrize(
    ("costs", "taus", "message"),
    [
        ({}, [1.0], "No solver"),
        ({"a": [1.0], "b": [1.0, 2.0]}, [1.0], r"numbers of costs differ \(\{'a': 1, 'b': 2\}\)"),
        ({"a": [1.0, 0.0]}, [1.0], "A cost of a is 0.0"),
        ({"a": [1.0, math.nan]}, [1.0], "costs of a hold NaN at position 1"),
        ({"a": [1.0]}, [0.5, 1.0], "at least 1, rising"),
        ({"a": [1.0]}, [2.0, 1.0], "at least 1, rising"),
        ({"a": [1.0]}, [1.0, INF], "at least 1, rising"),
    ],
)
def test_what_makes_no_sense_is_refused(costs: dict[str, list[float]], taus: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        performance_profile(costs, taus)


def test_solvers_must_share_their_problems_and_seeds() -> None:
    with pytest.raises(UsageError, match=r"numbers of problems are \{'a': 1, 'b': 2\}"):
        profile_bands({"a": [[1.0]], "b": [[1.0], [1.0]]}, [1.0])
    with pytest.raises(UsageError, match=r"numbers of costs differ"):
        profile_bands({"a": [[1.0]], "b": [[1.0, 2.0]]}, [1.0])
