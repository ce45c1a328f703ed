"""Time to target: what counts as a crossing, and what a miss does to medians."""

from __future__ import annotations

import math

import pytest

from steepest.study.errors import UsageError
from steepest.study.statistics.targets import (
    crossing,
    median_with_censoring,
    misses,
)

INF = math.inf
NAN = math.nan
STEPS = [100, 200, 300, 400]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.9, 0.9, 0.1, 0.1], 100.0),
        ([0.1, 0.9, 0.95, 0.1], 200.0),
        ([0.9, 0.1, 0.9, 0.9], 300.0),  # the first was one lucky evaluation
        ([0.1, 0.2, 0.3, 0.9], None),  # nobody confirmed the last
        ([0.9, 0.1, 0.9, 0.1], None),
        ([0.8, 0.8, 0.8, 0.8], 100.0),  # equality meets the target
        ([0.9, NAN, 0.9, 0.9], 300.0),
        ([NAN, NAN, NAN, NAN], None),
        ([INF, INF, 0.1, 0.1], 100.0),
    ],
)
def test_a_crossing_counts_when_confirmed(values: list[float], expected: float | None) -> None:
    assert crossing(STEPS, values, target=0.8, maximize=True) == expected
    assert crossing(STEPS, [-value for value in values], target=-0.8, maximize=False) == expected


def test_one_evaluation_or_none_confirms_nothing() -> None:
    assert crossing([1], [1.0], target=0.5, maximize=True) is None
    assert crossing([], [], target=0.5, maximize=True) is None


@pytest.mark.parametrize(
    ("times", "median"),
    [
        ([3.0, 1.0, 2.0], 2.0),
        ([4.0, 1.0, 2.0, 3.0], 2.5),
        ([INF, 1.0, 2.0], 2.0),
        ([INF, INF, 1.0, 2.0], INF),
        ([INF, INF], INF),
        ([5.0], 5.0),
    ],
)
def test_a_miss_enters_medians(times: list[float], median: float) -> None:
    assert median_with_censoring(times) == median
    assert misses(times) == times.count(INF)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="1 positions and 2 values"):
        crossing([1], [0.1, 0.2], target=0.5, maximize=True)
    with pytest.raises(UsageError, match="do not rise"):
        crossing([1, 1], [0.1, 0.2], target=0.5, maximize=True)
    with pytest.raises(UsageError, match="target is NaN"):
        crossing([1, 2], [0.1, 0.2], target=NAN, maximize=True)
    with pytest.raises(UsageError, match="NaN at position 1"):
        median_with_censoring([1.0, NAN])
