"""Rankings and what they survive, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from steepest.study.errors import UsageError
from steepest.study.statistics.robustness import (
    agreement,
    leave_one_out,
    overall,
    rankings,
    under_other_conditions,
)

TABLE = {
    "digits": {"adam": 0.9, "sgd": 0.8, "muon": 0.7},
    "cnn": {"adam": 0.9, "sgd": 0.8, "muon": 0.7},
    "text": {"adam": 0.1, "sgd": 0.2, "muon": 0.3},
}


def test_rankings_worked_by_hand() -> None:
    assert rankings(TABLE)["text"] == {"adam": 3.0, "sgd": 2.0, "muon": 1.0}
    assert overall(TABLE) == pytest.approx({"adam": 5 / 3, "sgd": 2.0, "muon": 7 / 3})


@pytest.mark.parametrize("failed", [math.nan, math.inf, -math.inf])
def test_failures_are_tied_last_and_equals_share_their_rank(failed: float) -> None:
    ranks = rankings({"one": {"a": failed, "b": 0.5, "c": failed, "d": 0.5, "e": 0.9}})["one"]
    assert ranks == {"a": 4.5, "b": 2.5, "c": 4.5, "d": 2.5, "e": 1.0}


def test_who_could_not_run_everywhere_is_not_ranked() -> None:
    ranks = rankings({"one": {"a": 1.0, "lbfgs": 9.0, "b": 2.0}, "two": {"a": 1.0, "b": 2.0}})
    assert ranks["one"] == {"a": 2.0, "b": 1.0}


def test_leaving_one_workload_out_worked_by_hand() -> None:
    """Without digits or cnn all three tie at rank 2; without text the order is the same, and sharper."""
    without_digits, without_cnn, without_text = leave_one_out(TABLE)
    assert (without_digits.change, without_cnn.change, without_text.change) == ("digits", "cnn", "text")
    assert (without_text.tau, without_text.first, without_text.first_stays) == (1.0, ("adam",), True)
    assert (without_cnn.tau, without_cnn.first_stays) == (None, False)
    assert set(without_cnn.first) == {"adam", "sgd", "muon"}


def test_one_workload_cannot_be_left_out() -> None:
    assert leave_one_out({"digits": TABLE["digits"]}) == ()


def test_other_conditions_worked_by_hand() -> None:
    """Of the three pairs, swapping the last two turns one over: tau = (2 - 1) / 3; turning all over gives -1."""
    at = {
        "target 1": {"digits": {"a": 3.0, "b": 2.0, "c": 1.0}},
        "target 2": {"digits": {"a": 3.0, "b": 1.0, "c": 2.0}},
        "target 3": {"digits": {"a": 1.0, "b": 2.0, "c": 3.0}},
    }
    second, third = under_other_conditions(at, base="target 1")
    assert (second.change, second.first, second.first_stays) == ("target 2", ("a",), True)
    assert second.tau == pytest.approx(1 / 3)
    assert (third.tau, third.first, third.first_stays) == (-1.0, ("c",), False)


def test_the_tau_of_tied_rankings_by_scipy() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        before, after = (dict(zip("abcdef", random.integers(1, 5, size=6).astype(float), strict=True)) for _ in "12")
        oracle = kendalltau(list(before.values()), list(after.values())).statistic
        shuffled = {name: after[name] for name in "fbdaec"}
        assert agreement("x", before, shuffled).tau == pytest.approx(oracle)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="No workload"):
        rankings({})
    with pytest.raises(UsageError, match="No optimizer has a score on all of one, two"):
        rankings({"one": {"a": 1.0}, "two": {"b": 1.0}})
    with pytest.raises(UsageError, match="no scores for 'quick'; there are for full"):
        under_other_conditions({"full": TABLE}, base="quick")
    with pytest.raises(UsageError, match="one ranking is of a, the other of b"):
        agreement("quick", {"a": 1.0}, {"b": 1.0})
