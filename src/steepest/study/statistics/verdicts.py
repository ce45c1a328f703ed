"""Verdicts: several optimizers, each against one reference, on paired seeds.

The guarantee holds at family-wise level alpha for all comparisons of one call together. They share the reference, and
any dependence between them is allowed:

* "better" or "worse" is said of any optimizer that equals the reference (its paired differences are as likely to be d
  as -d) with probability at most alpha: exact sign-flip tests, Holm's correction.
* "equivalent" is said of any optimizer whose true mean difference exceeds the margin with probability at most alpha:
  intervals of level 1 - alpha / comparisons that hold together, for differences symmetric about their centre.

The guarantee is about new seeds of these trials. It does not cover another test sample, another draw of the search, or
a second measure judged in another call. "Undecided" claims nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from steepest.study.errors import UsageError
from steepest.study.statistics.intervals import Interval, effect_interval, median_interval
from steepest.study.statistics.permutation import (
    flipped_values,
    holm,
    per_comparison,
    sign_flip_p_value,
    smallest_p_value,
)
from steepest.study.statistics.sequential import Looks, sequential_p_value
from steepest.study.statistics.vectors import Vector, vector


class Verdict(StrEnum):
    """A study's verdict on an optimizer, compared with its reference."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    BOTH_DIVERGED = "both diverged"
    UNDECIDED = "undecided"
    NOT_ENOUGH_SEEDS = "not enough seeds"

    @property
    def is_open(self) -> bool:
        """True if the verdict claims nothing, so that more seeds may change it."""
        return self in (Verdict.UNDECIDED, Verdict.NOT_ENOUGH_SEEDS)


@dataclass(frozen=True)
class Comparison:
    """One optimizer against the reference; positive differences favour the optimizer.

    Attributes:
        label: the optimizer.
        reference: the optimizer that it is compared with.
        n: the number of pairs.
        estimate: the mean difference; the median where a difference is not finite (see `median_difference`); NaN where
            no pair has a finite result on either side.
        interval: of that mean or median, at level 1 - alpha / comparisons, so that all of a call hold together.
        p_value: two-sided, of the sign-flip test.
        adjusted_p_value: by Holm's correction over the call.
        probability_better: the share of pairs with a positive difference, ties counted half.
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
    effect_size: float | None
    verdict: Verdict


def compare(
    differences: Mapping[str, Sequence[float]],
    reference: str,
    margin: float,
    alpha: float = 0.05,
    looks: Mapping[str, Looks] | None = None,
) -> tuple[Comparison, ...]:
    """Judge every optimizer against the reference. The module's docstring states the guarantee.

    The first rule that holds decides. *Both diverged*: neither side of any pair has a finite result. *Not enough
    seeds*: the smallest possible p value exceeds alpha / comparisons. *Equivalent*: the interval lies within
    [-margin, margin]; never with margin 0, which declares none, nor with a difference that is not finite. *Better* or
    *worse*: the adjusted p value is at most alpha; the sign of the test's statistic says which. Otherwise *undecided*.

    Args:
        differences: by optimizer, one per paired seed, positive where the optimizer is better than the reference, NaN
            where neither side has a finite result (`paired_differences` makes them).
        reference: the label of the optimizer that all are compared with.
        margin: the largest difference without practical meaning, in the measure's unit; 0 where none is declared.
        alpha: the family-wise error rate.
        looks: by optimizer, the looks so far of a sequential test; without it, all differences are tested once. Then
            "not enough seeds" means that the last look could not reject, and an interval has the level of what its
            look may spend, so that the intervals of all looks hold together.

    Raises:
        UsageError: a negative or infinite margin, or an optimizer without differences.
    """
    if not (margin >= 0.0 and math.isfinite(margin)):
        raise UsageError(f"The margin of practical equivalence is {margin}; give a finite number of at least 0.")
    if not differences:
        return ()
    level = per_comparison(len(differences), alpha)
    pairs = {label: _Pairs.of(values, f"differences of {label}") for label, values in differences.items()}
    steps = [per_comparison(count, alpha) for count in range(1, len(pairs) + 1)]
    made = {label: None if looks is None else looks[label] for label in pairs}
    p_values = [_p_value(its, made[label], steps) for label, its in pairs.items()]
    rows = zip(pairs.items(), p_values, holm(p_values), strict=True)
    return tuple(
        _comparison(label, reference, its, p, adjusted, _rules(margin, alpha, level, made[label]))
        for (label, its), p, adjusted in rows
    )


def paired_differences(values: Sequence[float], reference: Sequence[float], *, maximize: bool) -> tuple[float, ...]:
    """Return how much better an optimizer is than the reference on every seed: positive is better, shape (n,).

    A value that is not finite (a diverged trial, a missed target) is worse than every finite one: the difference is
    infinite, and NaN where both sides have one: two failures have no difference, and are not alike either.

    Raises:
        UsageError: the two differ in length.

    >>> paired_differences([0.5, 0.5, float("nan")], [0.25, float("nan"), float("nan")], maximize=True)
    (0.25, inf, nan)
    """
    if len(values) != len(reference):
        raise UsageError(f"{len(values)} values and {len(reference)} of the reference; give one of each per seed.")
    return tuple(_difference(*pair, 1.0 if maximize else -1.0) for pair in zip(values, reference, strict=True))


def median_difference(differences: Sequence[float]) -> float:
    """Return the median. Midway between minus and plus infinity it is 0, as neither side is favoured.

    >>> median_difference([1.0, 2.0, float("inf")]), median_difference([-float("inf"), float("inf")])
    (2.0, 0.0)
    """
    values = np.sort(vector(differences, "differences"))
    low, high = float(values[(len(values) - 1) // 2]), float(values[len(values) // 2])
    return 0.0 if math.isinf(low) and low == -high else low / 2.0 + high / 2.0


def _p_value(pairs: "_Pairs", looks: Looks | None, levels: Sequence[float]) -> float:
    values = pairs.values.tolist()
    return sign_flip_p_value(values) if looks is None else sequential_p_value(values, looks, levels)


@dataclass(frozen=True)
class _Rules:
    """The margin, the family-wise error rate, and the levels of one comparison: of its interval, and all spent."""

    margin: float
    alpha: float
    level: float
    spent: float


def _rules(margin: float, alpha: float, level: float, looks: Looks | None) -> _Rules:
    if looks is None:
        return _Rules(margin, alpha, level, level)
    return _Rules(margin, alpha, level * looks.last_share, level * looks.shares[-1])


@dataclass(frozen=True)
class _Pairs:
    """Differences. A pair of which both sides diverged is a tie without a size, here 0, and counted in `undefined`."""

    values: Vector
    undefined: int

    @classmethod
    def of(cls, differences: Sequence[float], what: str) -> "_Pairs":
        undefined = sum(math.isnan(difference) for difference in differences)
        return cls(
            vector([0.0 if math.isnan(difference) else difference for difference in differences], what), undefined
        )

    @property
    def finite(self) -> bool:
        return not self.undefined and bool(np.isfinite(self.values).all())

    @property
    def none_defined(self) -> bool:
        return self.undefined == len(self.values)

    @property
    def estimate(self) -> float:
        if self.none_defined:
            return math.nan
        return float(self.values.mean()) if self.finite else median_difference(self.values.tolist())

    def interval(self, level: float) -> Interval:
        """Return the interval of the mean; of the median where a tie without a size would pull the mean to 0."""
        if self.none_defined:
            return Interval(-math.inf, math.inf, level, "none, as no difference is defined")
        if not self.undefined:
            return effect_interval(self.values.tolist(), level)
        interval = median_interval(self.values.tolist(), level)
        return replace(interval, method=f"{interval.method}, as both sides of a pair diverged")


def _comparison(
    label: str, reference: str, pairs: _Pairs, p_value: float, adjusted: float, rules: _Rules
) -> Comparison:
    interval = pairs.interval(1.0 - rules.level)
    return Comparison(
        label=label,
        reference=reference,
        n=len(pairs.values),
        estimate=pairs.estimate,
        interval=interval,
        p_value=p_value,
        adjusted_p_value=adjusted,
        probability_better=_probability_better(pairs.values),
        effect_size=_effect_size(pairs.values) if pairs.finite else None,
        verdict=_verdict(pairs, interval, adjusted, rules),
    )


def _verdict(pairs: _Pairs, interval: Interval, adjusted: float, rules: _Rules) -> Verdict:
    if pairs.none_defined:
        return Verdict.BOTH_DIVERGED
    if smallest_p_value(len(pairs.values)) > rules.spent:
        return Verdict.NOT_ENOUGH_SEEDS
    if pairs.finite and rules.margin > 0.0 and interval.within(rules.margin):
        return Verdict.EQUIVALENT
    if adjusted > rules.alpha:
        return Verdict.UNDECIDED
    return Verdict.BETTER if flipped_values(pairs.values.tolist()).sum() > 0.0 else Verdict.WORSE


def _probability_better(differences: Vector) -> float:
    """Return the share of positive differences, with ties counted half."""
    wins, ties = int((differences > 0.0).sum()), int((differences == 0.0).sum())
    return (wins + ties / 2.0) / len(differences)


def _effect_size(differences: Vector) -> float | None:
    if len(differences) < 2 or np.ptp(differences) == 0.0:
        return None
    return float(differences.mean() / differences.std(ddof=1))


def _difference(value: float, reference: float, direction: float) -> float:
    if math.isfinite(value) and math.isfinite(reference):
        return direction * (value - reference)
    if math.isfinite(value) == math.isfinite(reference):
        return math.nan
    return math.inf if math.isfinite(value) else -math.inf
