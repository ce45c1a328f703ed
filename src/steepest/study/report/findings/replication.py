"""The verdicts of a study next to those of its replication, comparison by comparison."""

from dataclasses import dataclass
from enum import StrEnum

from steepest.study.report.findings.verdicts import Verdicts
from steepest.study.statistics.intervals import Interval
from steepest.study.statistics.verdicts import Comparison, Verdict


class Agreement(StrEnum):
    """A replication's verdict, compared with the first one.

    "Compatible" is said of two verdicts that differ and may both be true, such as better and equivalent: their
    intervals have values in common.
    """

    SAME = "same"
    WEAKER = "weaker"
    STRONGER = "stronger"
    COMPATIBLE = "compatible"
    CONTRADICTS = "contradicts"


@dataclass(frozen=True)
class ReplicatedRow:
    """One optimizer in a study and in its replication; None where it shares no seed with the reference."""

    label: str
    first: Comparison | None
    second: Comparison | None

    @property
    def agreement(self) -> Agreement | None:
        """The agreement of the verdicts; None where one of them is missing."""
        if self.first is None or self.second is None:
            return None
        return agreement(self.first, self.second)


def replicated(first: Verdicts, second: Verdicts) -> tuple[ReplicatedRow, ...]:
    """Pair the comparisons of two studies by their labels, in the first one's order."""
    found = {row.label: row.comparison for row in second.rows}
    return tuple(ReplicatedRow(row.label, row.comparison, found.get(row.label)) for row in first.rows)


def agreement(first: Comparison, second: Comparison) -> Agreement:
    """Compare two verdicts on one optimizer."""
    was_open, is_open = first.verdict.is_open, second.verdict.is_open
    if first.verdict is second.verdict or (was_open and is_open):
        return Agreement.SAME
    if was_open or is_open:
        return Agreement.STRONGER if was_open else Agreement.WEAKER
    if Verdict.EQUIVALENT in (first.verdict, second.verdict) and _overlap(first.interval, second.interval):
        return Agreement.COMPATIBLE
    return Agreement.CONTRADICTS


def _overlap(one: Interval, other: Interval) -> bool:
    return one.is_finite and other.is_finite and one.low <= other.high and other.low <= one.high
