"""The study's verdicts: every optimizer against the reference, on the seeds that both have results of.

A trial that diverged or exceeded the time limit has the worst result: its difference from a finished one is infinite.
A trial that failed, was interrupted or has not started has no result, and its pair is missing.

In a sequential study nothing counts between two looks: a verdict is one of the last look at which all trials of the
optimizer and of the reference had ended.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from steepest.study.errors import UsageError
from steepest.study.records.format import DIVERGED, STEPS, Match
from steepest.study.report.findings.looks import first_decisive_look, looked_at, looks_of
from steepest.study.report.findings.measures import Measure, goal
from steepest.study.report.stored.study import Study
from steepest.study.statistics.permutation import per_comparison, seeds_for_a_verdict
from steepest.study.statistics.power import detectable_difference
from steepest.study.statistics.verdicts import Comparison, Verdict, compare, paired_differences

Results = Mapping[str, Mapping[int, float]]
"""By optimizer, then by seed; a value that is not finite is the worst result."""


@dataclass(frozen=True)
class VerdictRow:
    """One optimizer compared with the reference.

    Attributes:
        label: the optimizer.
        differences: (seed, difference), positive where the optimizer is better than the reference.
        planned: how many seeds the study wanted.
        lost: why the optimizer's own trials have the worst result (diverged, timed out), and how many of each.
        missing: how the trials without a result ended, and how many of each.
        comparison: the verdict and its figures; None without a single pair.
    """

    label: str
    differences: tuple[tuple[int, float], ...]
    planned: int
    lost: Mapping[str, int]
    missing: Mapping[str, int]
    comparison: Comparison | None

    @property
    def infinite(self) -> int:
        """The number of infinite differences."""
        return sum(math.isinf(difference) for _, difference in self.differences)

    @property
    def undefined(self) -> int:
        """The number of seeds on which neither the optimizer nor the reference has a finite result."""
        return sum(math.isnan(difference) for _, difference in self.differences)


@dataclass(frozen=True)
class Condition:
    """The point of training at which optimizers are compared: its end, or an equal cost of some kind.

    Attributes:
        match: the kind of equal cost.
        budget: the common budget; None at equal steps, and where the costs are not known yet.
        reads: by optimizer, the median share of its steps at which its trials were read; empty at the end of training.
    """

    match: Match = STEPS
    budget: float | None = None
    reads: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_early(self) -> bool:
        """True if some trials are read before the end of training."""
        return bool(self.reads)

    @property
    def is_waiting(self) -> bool:
        """True if nothing can be compared, as no cost of this kind is known."""
        return self.match != STEPS and self.budget is None


@dataclass(frozen=True)
class Verdicts:
    """All comparisons of one measure with the reference, corrected together.

    `looks` are the planned numbers of seeds of a sequential study; empty for any other. `condition` is the point of
    training.
    """

    measure: Measure
    reference: str | None
    margin: float
    alpha: float
    rows: tuple[VerdictRow, ...]
    looks: tuple[int, ...] = ()
    condition: Condition = Condition()

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The comparisons of optimizers that share a seed with the reference."""
        return tuple(row.comparison for row in self.rows if row.comparison is not None)

    @property
    def level(self) -> float:
        """The level of every interval over all looks, such that all of them hold together at 1 - alpha."""
        return 1.0 - per_comparison(max(len(self.comparisons), 1), self.alpha)

    @property
    def seeds_needed(self) -> int | None:
        """The fewest seeds that can give a verdict; None where no number can, or nothing is compared."""
        if self.looks and self.comparisons:
            return first_decisive_look(self.looks, len(self.comparisons), self.alpha)
        try:
            return seeds_for_a_verdict(len(self.comparisons), self.alpha)
        except UsageError:
            return None

    @property
    def detectable(self) -> float | None:
        """The difference, in standard deviations, that the fewest pairs find with probability 0.8; None if none.

        None for a sequential study too.
        """
        if not self.comparisons or self.looks:
            return None
        return detectable_difference(
            min(comparison.n for comparison in self.comparisons), len(self.comparisons), self.alpha
        )

    def only_diverged(self, labels: Collection[str]) -> bool:
        """Return whether these optimizers have no other trials with the worst result than diverged ones."""
        return all(row.lost.keys() <= {DIVERGED} for row in self.rows if row.label in labels)

    def labels(self, verdict: Verdict) -> list[str]:
        """Return the optimizers with this verdict, in the study's order."""
        return [comparison.label for comparison in self.comparisons if comparison.verdict is verdict]


def verdicts(study: Study) -> Verdicts:
    """Return the study's verdicts at equal steps: its metric on the test set, at the end of the schedule."""
    measure = goal(study)
    results = {label: _finals(study, label, measure) for label in study.labels}
    return judge(study, results, measure, study.protocol.margin)


def judge(study: Study, results: Results, measure: Measure, margin: float) -> Verdicts:
    """Compare the results of every optimizer with the reference's."""
    reference = study.reference
    pairs = {
        label: _differences(results[label], results[reference], measure)
        for label in study.labels
        if reference is not None and label != reference
    }
    if study.protocol.looks:
        pairs = {label: looked_at(study, label, its) for label, its in pairs.items()}
    found = _compared(study, pairs, margin)
    rows = tuple(_verdict_row(study, label, its, found.get(label), measure) for label, its in pairs.items())
    return Verdicts(measure, reference, margin, study.protocol.alpha, rows, study.protocol.looks)


def _finals(study: Study, label: str, measure: Measure) -> dict[int, float]:
    """Return the measure of every trial with a result, NaN for the worst one."""
    return {trial.seed: measure.result(trial) for trial in study.trials_of(label) if trial.counts}


def _differences(
    own: Mapping[int, float], other: Mapping[int, float], measure: Measure
) -> tuple[tuple[int, float], ...]:
    seeds = sorted(own.keys() & other.keys())
    values = [own[seed] for seed in seeds], [other[seed] for seed in seeds]
    return tuple(zip(seeds, paired_differences(*values, maximize=measure.better > 0), strict=True))


def _compared(study: Study, pairs: Mapping[str, tuple[tuple[int, float], ...]], margin: float) -> dict[str, Comparison]:
    having = {label: [difference for _, difference in found] for label, found in pairs.items() if found}
    looks = {label: looks_of(study, label, pairs[label]) for label in having} if study.protocol.looks else None
    found = compare(having, str(study.reference), margin, study.protocol.alpha, looks)
    return {comparison.label: comparison for comparison in found}


def _verdict_row(
    study: Study,
    label: str,
    differences: tuple[tuple[int, float], ...],
    comparison: Comparison | None,
    measure: Measure,
) -> VerdictRow:
    trials = study.trials_of(label)
    return VerdictRow(
        label=label,
        differences=differences,
        planned=len(trials),
        lost=dict(Counter(why for trial in trials if (why := measure.lost(trial)) is not None)),
        missing=dict(Counter(trial.status for trial in trials if not trial.counts)),
        comparison=comparison,
    )
