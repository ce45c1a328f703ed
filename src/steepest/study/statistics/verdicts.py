"""Verdicts: several optimizers, each against one reference, on paired seeds.

What is guaranteed, at family-wise level alpha for all comparisons of one call together, however they depend on each
other (they share the reference):

* "better" or "worse" is said of any optimizer that equals the reference (its paired differences are as likely to be d
  as -d) with probability at most alpha: exact sign-flip tests, Holm's correction.
* "equivalent" is said of any optimizer whose true mean difference exceeds the margin with probability at most alpha:
  intervals of level 1 - alpha / comparisons that hold together, for differences symmetric about their centre.

The guarantee is about new seeds of these trials. It is not about another test sample, another draw of the search, a
second measure judged in another call, nor about "undecided", that claims nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from steepest.study.errors import UsageError
from steepest.study.statistics.intervals import Interval, effect_interval, proportion_interval
from steepest.study.statistics.permutation import (
    flipped_values,
    holm,
    per_comparison,
    sign_flip_p_value,
    smallest_p_value,
)
from steepest.study.statistics.vectors import Vector, vector


class Verdict(StrEnum):
    """What a study may say of an optimizer beside its reference."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"
    NOT_ENOUGH_SEEDS = "not enough seeds"


@dataclass(frozen=True)
class Comparison:
    """One optimizer against the reference; positive differences favour the optimizer.

    Attributes:
        label: the optimizer.
        reference: what it is compared with.
        n: the number of pairs.
        estimate: the mean difference; the median where a difference is infinite (see `median_difference`).
        interval: of that mean or median, at level 1 - alpha / comparisons, so that all of a call hold together.
        p_value: two-sided, of the sign-flip test.
        adjusted_p_value: by Holm's correction over the call.
        probability_better: the share of pairs with a positive difference, ties counted half.
        probability_interval: of P(optimizer beats reference) + P(tie) / 2, at the level of ``interval``.
        effect_size: mean over sample standard deviation of the differences; None with one pair, equal differences or
            an infinite one.
        verdict: by the rules of `compare`.
    """

    label: str
    reference: str
    n: int
    estimate: float
    interval: Interval
    p_value: float
    adjusted_p_value: float
    probability_better: float
    probability_interval: Interval
    effect_size: float | None
    verdict: Verdict


def compare(
    differences: Mapping[str, Sequence[float]], reference: str, margin: float, alpha: float = 0.05
) -> tuple[Comparison, ...]:
    """Judge every optimizer against the reference; the module says what is guaranteed.

    The first rule that holds decides. *Not enough seeds*: the smallest possible p value exceeds alpha / comparisons.
    *Equivalent*: the interval lies within [-margin, margin]; never with margin 0, that declares none, nor with an
    infinite difference, that is outside every margin. *Better* or *worse*: the adjusted p value is at most alpha; the
    sign of the test's statistic says which. Otherwise *undecided*.

    Args:
        differences: by optimizer, one per paired seed, positive where the optimizer is better than the reference
            (`paired_differences` makes them).
        reference: the label of what all are compared with.
        margin: the largest difference without practical meaning, in the measure's unit; 0 where none is declared.
        alpha: the family-wise error rate.

    Raises:
        UsageError: a negative or infinite margin, an optimizer without differences, or a NaN.
    """
    if not (margin >= 0.0 and math.isfinite(margin)):
        raise UsageError(f"The margin of practical equivalence is {margin}; give a finite number of at least 0.")
    if not differences:
        return ()
    level = per_comparison(len(differences), alpha)
    vectors = {label: vector(values, f"differences of {label}") for label, values in differences.items()}
    p_values = [sign_flip_p_value(values.tolist()) for values in vectors.values()]
    rows = zip(vectors.items(), p_values, holm(p_values), strict=True)
    return tuple(
        _comparison(label, reference, values, p, adjusted, _Rules(margin, alpha, level))
        for (label, values), p, adjusted in rows
    )


def paired_differences(values: Sequence[float], reference: Sequence[float], *, maximize: bool) -> tuple[float, ...]:
    """Seed by seed, by how much an optimizer is better than the reference: positive is better, shape (n,).

    A value that is not finite (a diverged trial, a missed target) is worse than every finite one: the difference is
    infinite, and 0 where both sides have one.

    Raises:
        UsageError: the two differ in length.

    >>> paired_differences([0.5, 0.5, float("nan")], [0.25, float("nan"), float("nan")], maximize=True)
    (0.25, inf, 0.0)
    """
    if len(values) != len(reference):
        raise UsageError(f"{len(values)} values and {len(reference)} of the reference; give one of each per seed.")
    return tuple(
        _difference(own, other, 1.0 if maximize else -1.0) for own, other in zip(values, reference, strict=True)
    )


def median_difference(differences: Sequence[float]) -> float:
    """The median; where it would lie midway between minus and plus infinity it is 0, as neither side is favoured.

    >>> median_difference([1.0, 2.0, float("inf")]), median_difference([-float("inf"), float("inf")])
    (2.0, 0.0)
    """
    values = np.sort(vector(differences, "differences"))
    low, high = float(values[(len(values) - 1) // 2]), float(values[len(values) // 2])
    return 0.0 if math.isinf(low) and low == -high else low / 2.0 + high / 2.0


@dataclass(frozen=True)
class _Rules:
    margin: float
    alpha: float
    level: float


def _comparison(
    label: str, reference: str, differences: Vector, p_value: float, adjusted: float, rules: _Rules
) -> Comparison:
    finite = bool(np.isfinite(differences).all())
    values = [float(value) for value in differences]
    interval = effect_interval(values, 1.0 - rules.level)
    share, share_interval = _probability_better(differences, 1.0 - rules.level)
    return Comparison(
        label=label,
        reference=reference,
        n=len(values),
        estimate=float(differences.mean()) if finite else median_difference(values),
        interval=interval,
        p_value=p_value,
        adjusted_p_value=adjusted,
        probability_better=share,
        probability_interval=share_interval,
        effect_size=_effect_size(differences) if finite else None,
        verdict=_verdict(values, finite, interval, adjusted, rules),
    )


def _verdict(values: list[float], finite: bool, interval: Interval, adjusted: float, rules: _Rules) -> Verdict:
    if smallest_p_value(len(values)) > rules.level:
        return Verdict.NOT_ENOUGH_SEEDS
    if finite and rules.margin > 0.0 and interval.within(rules.margin):
        return Verdict.EQUIVALENT
    if adjusted > rules.alpha:
        return Verdict.UNDECIDED
    return Verdict.BETTER if flipped_values(values).sum() > 0.0 else Verdict.WORSE


def _probability_better(differences: Vector, level: float) -> tuple[float, Interval]:
    """The share with ties half, and an interval that covers whatever ties are: the lower end counts them as lost, the
    upper end as won.
    """
    n, wins, ties = len(differences), int((differences > 0.0).sum()), int((differences == 0.0).sum())
    low, high = proportion_interval(wins, n, level), proportion_interval(wins + ties, n, level)
    return (wins + ties / 2.0) / n, Interval(low.low, high.high, level, low.method)


def _effect_size(differences: Vector) -> float | None:
    if len(differences) < 2 or np.ptp(differences) == 0.0:
        return None
    return float(differences.mean() / differences.std(ddof=1))


def _difference(own: float, other: float, direction: float) -> float:
    if math.isfinite(own) and math.isfinite(other):
        return direction * (own - other)
    if math.isfinite(own) == math.isfinite(other):
        return 0.0
    return math.inf if math.isfinite(own) else -math.inf
