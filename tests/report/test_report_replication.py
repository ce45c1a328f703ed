"""Whether two verdicts agree, by hand and over every pair of verdicts."""

import itertools
import math
from pathlib import Path

import pytest
from synthetic_study import TUNED, Plan, write_study

from steepest.study.report.findings.findings import findings
from steepest.study.report.findings.replication import Agreement, agreement
from steepest.study.report.stored.reader import read_study
from steepest.study.report.text.replication import replication_document, replication_lines
from steepest.study.statistics.intervals import Interval
from steepest.study.statistics.verdicts import Comparison, Verdict


def judged(verdict: Verdict, low: float = -1.0, high: float = 1.0) -> Comparison:
    interval = Interval(low, high, 0.95, "by hand")
    return Comparison("one", "reference", 9, (low + high) / 2, interval, 0.5, 0.5, 0.5, None, verdict)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (judged(Verdict.BETTER), judged(Verdict.BETTER), Agreement.SAME),
        (judged(Verdict.BETTER), judged(Verdict.WORSE), Agreement.CONTRADICTS),
        (judged(Verdict.BETTER), judged(Verdict.UNDECIDED), Agreement.WEAKER),
        (judged(Verdict.NOT_ENOUGH_SEEDS), judged(Verdict.WORSE), Agreement.STRONGER),
        (judged(Verdict.UNDECIDED), judged(Verdict.NOT_ENOUGH_SEEDS), Agreement.SAME),
        (judged(Verdict.BETTER, 0.1, 0.4), judged(Verdict.EQUIVALENT, -0.1, 0.2), Agreement.COMPATIBLE),
        (judged(Verdict.BETTER, 0.3, 0.4), judged(Verdict.EQUIVALENT, -0.1, 0.2), Agreement.CONTRADICTS),
        (judged(Verdict.EQUIVALENT), judged(Verdict.BOTH_DIVERGED, -math.inf, math.inf), Agreement.CONTRADICTS),
        (judged(Verdict.BOTH_DIVERGED), judged(Verdict.BOTH_DIVERGED), Agreement.SAME),
    ],
)
def test_two_verdicts(first: Comparison, second: Comparison, expected: Agreement) -> None:
    assert agreement(first, second) is expected


def test_the_order_of_the_two_turns_weaker_into_stronger_and_changes_nothing_else() -> None:
    swapped = {Agreement.WEAKER: Agreement.STRONGER, Agreement.STRONGER: Agreement.WEAKER}
    for one, other in itertools.product(map(judged, Verdict), repeat=2):
        found = agreement(one, other)
        assert agreement(other, one) is swapped.get(found, found)
        assert (found in swapped) == (one.verdict.is_open != other.verdict.is_open)


def test_all_is_said_of_two_studies(tmp_path: Path) -> None:
    first = findings(read_study(write_study(tmp_path / "first", TUNED)))
    fewer = Plan(labels=("SGD", "Momentum", "Adam"), seeds=3, trials=8, timing_rounds=0, reference="SGD")
    second = findings(read_study(write_study(tmp_path / "second", fewer)))
    lines = replication_lines(first, second)
    assert len(lines) == 1 + 4
    assert "of 4 verdicts against SGD" in lines[0]
    assert "2 missing in one of the two" in lines[0]
    assert lines[-1].startswith("Lion: ")
    assert lines[-1].endswith("; then without a paired seed: not comparable")
    document = replication_document(first, second)
    assert [one["agreement"] for one in document["comparisons"][2:]] == [None, None]
    assert document["comparisons"][0]["second"]["pairs"] == 3


def test_one_optimizer_has_no_verdict_to_repeat(tmp_path: Path) -> None:
    alone = findings(read_study(write_study(tmp_path / "study", Plan(labels=("SGD",)))))
    assert "no verdict to repeat" in replication_lines(alone, alone)[0]
