"""Time to target, with misses: a trial that never reaches its target has an infinite time.

A miss is a censored value. It takes part in medians, where only order counts, and never in a mean.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from steepest.study.errors import UsageError
from steepest.study.statistics.vectors import vector


def crossing(positions: Sequence[float], values: Sequence[float], target: float, *, maximize: bool) -> float | None:
    """Return the first position whose value and whose successor's value meet the target; None without one.

    The second evaluation confirms the first, so that one lucky evaluation is not a success. A crossing at the last
    evaluation is unconfirmed: None. NaN never meets a target; equality does.

    Args:
        positions: where the evaluations took place (steps, epochs, gradient evaluations), rising, shape (n,).
        values: what they measured, shape (n,).
        target: the value to reach.
        maximize: whether larger values are better.

    Raises:
        UsageError: lengths that differ, positions that do not rise, or a target that is NaN.

    >>> crossing([10, 20, 30, 40], [0.7, 0.9, 0.92, 0.95], target=0.9, maximize=True)
    20.0
    >>> crossing([10, 20, 30, 40], [0.9, 0.8, 0.85, 0.95], target=0.9, maximize=True)
    """
    _check(positions, values, target)
    met = [value >= target if maximize else value <= target for value in values]
    for place in range(len(met) - 1):
        if met[place] and met[place + 1]:
            return float(positions[place])
    return None


def misses(times: Sequence[float]) -> int:
    """Return the number of infinite times."""
    return sum(math.isinf(time) for time in vector(times, "times"))


def median_with_censoring(times: Sequence[float]) -> float:
    """Return the median of times, some infinite. It is infinite if half of them or more are.

    Raises:
        UsageError: no time, or one is NaN.

    >>> median_with_censoring([3.0, math.inf, 1.0]), median_with_censoring([1.0, math.inf])
    (3.0, inf)
    """
    ordered = sorted(float(time) for time in vector(times, "times"))
    return ordered[(len(ordered) - 1) // 2] / 2.0 + ordered[len(ordered) // 2] / 2.0


def _check(positions: Sequence[float], values: Sequence[float], target: float) -> None:
    if len(positions) != len(values):
        raise UsageError(f"{len(positions)} positions and {len(values)} values; give one of each per evaluation.")
    if any(not before < after for before, after in pairwise(positions)):
        raise UsageError("The positions of the evaluations do not rise; give them in the order they were made.")
    if math.isnan(target):
        raise UsageError("The target is NaN; give a number.")
