"""Trials -> figures over seeds. Pure functions: nothing here reads a file or draws."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from steepest.study.records.format import FINISHED
from steepest.study.report.findings.measures import Measure, table_measures
from steepest.study.report.stored.study import Study, Trial


@dataclass(frozen=True)
class Spread:
    """One figure of one optimizer over its seeds: every value, their mean and their standard deviation.

    The deviation is the sample's (n - 1) and is None with fewer than two seeds: one value has no spread.
    """

    values: tuple[tuple[int, float], ...]

    @property
    def count(self) -> int:
        """The number of seeds that the mean covers."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """The mean, or None without values."""
        return statistics.fmean(value for _, value in self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation, or None with fewer than two values."""
        return statistics.stdev(value for _, value in self.values) if self.count > 1 else None


@dataclass(frozen=True)
class Summary:
    """One optimizer: how its trials ended and its figures over the finished seeds."""

    label: str
    planned: int
    statuses: Mapping[str, int]
    spreads: Mapping[str, Spread]

    @property
    def finished(self) -> int:
        """The number of trials that finished."""
        return self.statuses.get(FINISHED, 0)

    @property
    def coverage(self) -> str:
        """The number of seeds that the means cover, and the fate of the others: ``2 of 3 (1 diverged)``."""
        if self.finished == self.planned:
            return str(self.planned)
        others = ", ".join(f"{count} {status}" for status, count in self.statuses.items() if status != FINISHED)
        return f"{self.finished} of {self.planned} ({others})"


def spread(trials: Iterable[Trial], measure: Measure) -> Spread:
    """Return the measure over the finished trials that have a finite value of it."""
    pairs = [(trial.seed, measure.of(trial)) for trial in trials if trial.finished]
    return Spread(tuple((seed, value) for seed, value in pairs if value is not None and math.isfinite(value)))


def summarize(study: Study) -> tuple[Summary, ...]:
    """Return one summary per optimizer, in the study's order."""
    return tuple(_summary(study, label) for label in study.labels)


def statuses(trials: Iterable[Trial]) -> dict[str, int]:
    """Count the trials by status, most frequent first."""
    return dict(Counter(trial.status for trial in trials).most_common())


def ranked(summaries: Iterable[Summary], measure: Measure) -> list[Summary]:
    """Return the summaries with a mean, best first; equal means stay in the study's order."""
    having = [summary for summary in summaries if summary.spreads[measure.key].count]
    return sorted(having, key=lambda summary: -measure.better * (summary.spreads[measure.key].mean or 0.0))


def _summary(study: Study, label: str) -> Summary:
    trials = study.trials_of(label)
    spreads = {measure.key: spread(trials, measure) for measure in table_measures(study)}
    return Summary(label, len(trials), statuses(trials), spreads)
