"""The predicted power beside simulations of the test itself, and beside a case with a closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm
from simulated import in_band

from steepest.study.errors import UsageError
from steepest.study.statistics.permutation import seeds_for_a_verdict, sign_flip_p_value
from steepest.study.statistics.power import MOST_SEEDS, detectable_difference, power_of, seeds_to_detect
from steepest.study.statistics.verdicts import Verdict, compare


@pytest.mark.parametrize(("n", "comparisons"), [(6, 1), (7, 2), (9, 8)])
def test_with_the_fewest_seeds_all_differences_must_be_positive(n: int, comparisons: int) -> None:
    """One pattern in each tail: found when all n are positive, with probability Phi(effect)^n."""
    for effect in (0.5, 1.5, 2.5):
        assert power_of(n, effect, comparisons) == pytest.approx(norm.cdf(effect) ** n, abs=0.015)
    assert detectable_difference(n, comparisons) == pytest.approx(norm.ppf(0.8 ** (1 / n)), abs=0.04)


def found(n: int, effect: float, level: float, studies: int) -> int:
    random = np.random.default_rng(100 + n)
    rows = random.normal(effect, size=(studies, n))
    return sum(sign_flip_p_value(row) <= level and row.sum() > 0.0 for row in rows)


@pytest.mark.parametrize(("n", "studies"), [(7, 3000), (10, 3000), (12, 1500)])
@pytest.mark.parametrize("effect", [0.4, 1.0])
def test_the_predicted_power_is_that_of_the_test(n: int, studies: int, effect: float) -> None:
    assert in_band(found(n, effect, 0.05, studies), studies, power_of(n, effect, comparisons=1))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "comparisons"), [(13, 8), (14, 1), (16, 8), (20, 8)])
def test_above_twelve_the_noncentral_t_law_is_close(n: int, comparisons: int) -> None:
    effect = detectable_difference(n, comparisons)
    assert effect is not None
    share = found(n, effect, 0.05 / comparisons, 400) / 400
    assert share == pytest.approx(0.8, abs=0.02 + 3.3 * math.sqrt(0.8 * 0.2 / 400))


@pytest.mark.slow
def test_a_planted_difference_is_found_with_the_predicted_power() -> None:
    """A whole study: eight comparisons at n = 10, seven of them with the reference's own law."""
    effect = detectable_difference(10, 8)
    assert effect is not None
    studies = np.random.default_rng(5).normal(size=(400, 8, 10))
    studies[:, 3] += effect
    verdicts = [compare({str(i): row for i, row in enumerate(study)}, "reference", 0.0)[3].verdict for study in studies]
    assert in_band(verdicts.count(Verdict.BETTER), 400, 0.8)


@pytest.mark.parametrize(("n", "comparisons"), [(10, 8), (12, 1), (30, 8)])
def test_the_detectable_difference_has_the_power_asked_for(n: int, comparisons: int) -> None:
    for power in (0.5, 0.8, 0.95):
        effect = detectable_difference(n, comparisons, power=power)
        assert effect is not None
        assert power_of(n, effect, comparisons) == pytest.approx(power, abs=1e-3)
        assert power_of(n, -effect, comparisons) == power_of(n, effect, comparisons)


def test_more_seeds_find_smaller_differences_and_more_comparisons_only_larger_ones() -> None:
    by_seeds = [detectable_difference(n, 8) for n in (9, 10, 12, 13, 16, 30, 100)]
    assert by_seeds == sorted(by_seeds, key=lambda effect: -(effect or 0.0))
    by_comparisons = [detectable_difference(20, comparisons) for comparisons in (1, 2, 8, 20)]
    assert by_comparisons == sorted(by_comparisons, key=lambda effect: effect or 0.0)


@pytest.mark.parametrize("comparisons", [1, 8])
def test_no_promise_below_the_fewest_seeds(comparisons: int) -> None:
    n = seeds_for_a_verdict(comparisons)
    assert detectable_difference(n - 1, comparisons) is None
    assert power_of(n - 1, 100.0, comparisons) == 0.0
    assert detectable_difference(n, comparisons) is not None


def test_enormous_effects_are_certain() -> None:
    assert power_of(20, 1e6, 8) == power_of(10, 1e6, 8) == 1.0


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="power is 80"):
        detectable_difference(10, 8, power=80)
    with pytest.raises(UsageError, match="name a second optimizer"):
        power_of(10, 1.0, comparisons=0)


@pytest.mark.parametrize(("effect", "comparisons"), [(3.0, 8), (1.0, 8), (0.5, 8), (0.5, 1)])
def test_the_seeds_to_detect_are_the_fewest_that_do(effect: float, comparisons: int) -> None:
    n = seeds_to_detect(effect, comparisons) or 0
    assert power_of(n, effect, comparisons) >= 0.8 > power_of(n - 1, effect, comparisons)
    assert seeds_to_detect(-effect, comparisons) == n
    assert (detectable_difference(n, comparisons) or 0) <= effect


def test_more_than_the_largest_number_of_seeds_is_not_recommended() -> None:
    assert seeds_to_detect(0.01, 8) is None
    assert power_of(MOST_SEEDS, 0.01, 8) < 0.8
