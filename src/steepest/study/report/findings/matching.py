"""Verdicts at equal cost: equal steps, equal training seconds, equal gradient evaluations.

Every optimizer takes equal steps. At an equal cost of another kind each trial is read at its last evaluation on the
validation set within a common budget, the smallest total that a finished trial has. Nothing is interpolated. A trial
that ends within a tolerance of the budget is read at its end: timings are that uncertain.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from steepest.study.records.format import EVALUATIONS, SECONDS, STEPS, Match
from steepest.study.report.findings.measures import Measure, validation_goal
from steepest.study.report.findings.time_to_target import step_seconds
from steepest.study.report.findings.verdicts import Condition, Verdicts, judge, verdicts
from steepest.study.report.stored.study import Epoch, Study, Trial

TOLERANCE: Final = 0.05
"""Costs that differ by this share are equal."""

CostOf = Callable[[Epoch], float]


@dataclass(frozen=True)
class Matched:
    """The verdicts at one kind of equal cost.

    Attributes:
        match: the kind.
        verdicts: the verdicts there; those at the end of training where costs are equal.
        equal: True if every finished trial ends within the budget, so that nothing has to be read earlier.
        unknown: optimizers whose cost is not known.
    """

    match: Match
    verdicts: Verdicts
    equal: bool = False
    unknown: tuple[str, ...] = ()

    @property
    def budget(self) -> float | None:
        """The common budget; None at equal steps, and where no cost is known."""
        return self.verdicts.condition.budget

    @property
    def reads(self) -> Mapping[str, float]:
        """By optimizer, the median share of its steps at which its trials were read."""
        return self.verdicts.condition.reads

    @property
    def is_known(self) -> bool:
        """True if something can be compared at this cost."""
        return not self.verdicts.condition.is_waiting


def matches(study: Study) -> tuple[Matched, ...]:
    """Return the verdicts at every kind of equal cost, steps first."""
    ends = Matched(STEPS, verdicts(study), equal=True)
    clocks: dict[Match, dict[str, CostOf]] = {SECONDS: _seconds(study), EVALUATIONS: _evaluations(study)}
    return (ends, *(_matched(study, unit, costs, ends.verdicts) for unit, costs in clocks.items()))


def main(study: Study, found: tuple[Matched, ...]) -> Verdicts:
    """Return the verdicts of the kind that the plan names."""
    return next(one.verdicts for one in found if one.match == study.protocol.match)


def _matched(study: Study, match: Match, costs: Mapping[str, CostOf], ends: Verdicts) -> Matched:
    unknown = tuple(label for label in study.labels if label not in costs)
    totals = [
        costs[trial.optimizer](trial.epochs[-1])
        for trial in study.trials
        if trial.finished and trial.epochs and trial.optimizer in costs
    ]
    if not totals:
        return Matched(match, replace(ends, rows=(), condition=Condition(match)), unknown=unknown)
    budget = min(totals)
    if max(totals) <= _held(budget) and not unknown:
        return Matched(match, replace(ends, condition=Condition(match, budget)), equal=True)
    return Matched(match, _read_early(study, match, costs, budget), unknown=unknown)


def _read_early(study: Study, match: Match, costs: Mapping[str, CostOf], budget: float) -> Verdicts:
    measure = validation_goal(study)
    read = {
        label: {trial.seed: _last(trial, measure.key, costs[label], budget) for trial in study.trials_of(label)}
        for label in costs
    }
    results = {label: _results(study, label, read.get(label), measure) for label in study.labels}
    reads = {label: share for label in costs if (share := _share(study.trials_of(label), read[label])) is not None}
    judged = judge(study, results, measure, study.protocol.margin)
    return replace(judged, condition=Condition(match, budget, reads))


def _results(study: Study, label: str, read: Mapping[int, Epoch | None] | None, measure: Measure) -> dict[int, float]:
    """Return the result of every trial that has one; none of an optimizer whose cost is not known."""
    trials = () if read is None else study.trials_of(label)
    return {trial.seed: _value(trial, (read or {})[trial.seed], measure.key) for trial in trials if trial.counts}


def _held(budget: float) -> float:
    return budget * (1.0 + TOLERANCE)


def _seconds(study: Study) -> dict[str, CostOf]:
    """Return the seconds up to an evaluation: its steps times the median step seconds of the timing pass."""

    def cost(seconds: float) -> CostOf:
        return lambda epoch: epoch.step * seconds

    return {label: cost(seconds) for label, seconds in step_seconds(study).items()}


def _evaluations(study: Study) -> dict[str, CostOf]:
    """Return the gradient evaluations up to an evaluation, for optimizers whose records all have them."""
    return {
        label: lambda epoch: epoch.values["evaluations"]
        for label in study.labels
        if all("evaluations" in epoch.values for trial in study.trials_of(label) for epoch in trial.epochs)
    }


def _last(trial: Trial, key: str, cost: CostOf, budget: float) -> Epoch | None:
    """Return the last evaluation on the validation set within the budget; the very last of a trial that ends there."""
    measured = [epoch for epoch in trial.epochs if key in epoch.values]
    if measured and cost(measured[-1]) <= _held(budget):
        return measured[-1]
    return max((epoch for epoch in measured if cost(epoch) <= budget), key=lambda epoch: epoch.step, default=None)


def _value(trial: Trial, read: Epoch | None, key: str) -> float:
    """Return the result of a trial, NaN for the worst one: a trial that did not finish counts so at any budget."""
    return read.values[key] if trial.finished and read is not None else math.nan


def _share(trials: tuple[Trial, ...], read: Mapping[int, Epoch | None]) -> float | None:
    """Return the median share of its steps at which a finished trial was read; None without any."""
    shares = [
        epoch.step / trial.step
        for trial in trials
        if trial.finished and trial.step and (epoch := read[trial.seed]) is not None
    ]
    return statistics.median(shares) if shares else None
