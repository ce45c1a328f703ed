"""A sequential study counts only whole looks, and the report says how it was tested."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic_study import Plan

from steepest.study.report import write_report
from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.looks import first_decisive_look, looks_made
from steepest.study.report.text.answer import _figures, answer, caution
from steepest.study.report.text.explanations import verdict_words
from steepest.study.report.text.fairness import fairness
from steepest.study.report.text.methods import methods
from steepest.study.statistics.verdicts import Verdict, compare

LABELS = ("SGD", "Adam", "Rprop")
Find = Callable[[Plan], Findings]


def sequential(seeds: int, looks: tuple[int, ...], **more: Any) -> Plan:
    protocol: Mapping[str, Any] = {"looks": list(looks), "spending": 2.0}
    return Plan(labels=LABELS, seeds=seeds, overrides={"protocol": protocol}, **more)


def counts(found: Findings) -> list[int]:
    return [comparison.n for comparison in found.verdicts.comparisons]


def test_only_the_seeds_of_whole_looks_count(found: Find) -> None:
    got = found(sequential(13, (5, 10, 15)))
    assert counts(got) == [10, 10]
    assert [looks_made(got.study, label) for label in LABELS] == [2, 2, 2]


@pytest.mark.parametrize(("status", "pairs"), [("interrupted", 5), ("not started", 5), ("diverged", 10), ("failed", 9)])
def test_a_trial_that_has_not_ended_keeps_its_look_from_being_one(found: Find, status: str, pairs: int) -> None:
    assert counts(found(sequential(10, (5, 10), ends={("Adam", 7): status}))) == [pairs, 10]


def test_the_reference_holds_up_all_looks(found: Find) -> None:
    assert counts(found(sequential(10, (5, 10), ends={("SGD", 7): "interrupted"}))) == [5, 5]


def test_before_the_first_look_nothing_is_said(found: Find) -> None:
    got = found(sequential(10, (10, 20), ends={(label, 9): "not started" for label in LABELS}))
    said = answer(got.study, got.verdicts, got.summaries)
    assert said == "No verdict before the first look, which is planned at 10 seeds."


def test_the_report_says_how_it_was_tested(found: Find) -> None:
    got = found(sequential(20, (10, 20)))
    assert "in 2 planned looks (at 10 and 20 seeds; after a share t of them t to the power of 2" in methods(got)
    assert "planned looks at 10 and 20 seeds" in " ".join(fairness(got).controlled)
    assert "all planned looks (at 10 and 20 seeds)" in dict(verdict_words(got.verdicts))["Better, worse"]
    assert got.verdicts.labels(Verdict.BETTER) == ["Adam", "Rprop"]
    assert "planned look" in write_report(Path(got.study.folder)).read_text(encoding="utf-8")
    assert "planned look" not in methods(found(Plan(labels=LABELS, seeds=20)))


def test_at_the_maximum_the_report_says_that_it_is_reached(found: Find) -> None:
    got = found(replace(sequential(10, (5, 10)), labels=("SGD", "Momentum", "NAG"), reference="Momentum"))
    still = got.verdicts.labels(Verdict.UNDECIDED)
    said = " ".join(caution(got.study, got.verdicts, got.searches))
    assert still
    assert "The planned maximum of 10 seeds is reached" in said
    assert "larger --seeds" not in said


def test_seeds_that_were_added_by_hand_are_told(found: Find) -> None:
    plan = Plan(labels=LABELS, seeds=8, overrides={"seed_counts": [5, 8]})
    got = found(plan)
    said = [one for one in caution(got.study, got.verdicts, got.searches) if "by hand" in one]
    assert len(said) == 1
    assert "(5, then 8)" in said[0]
    assert "more frequent than 5%; --more-seeds plans such looks" in said[0]


def test_the_first_look_that_can_decide() -> None:
    assert first_decisive_look((6, 12), 1, 0.05) == 12
    assert first_decisive_look((9, 18), 1, 0.05) == 9
    assert first_decisive_look((2, 4), 8, 0.05) is None


def test_an_interval_beyond_zero_keeps_its_sign() -> None:
    """Holm's second step asks for less than intervals that hold together: a verdict, and an end beyond zero."""
    table = {"first": [1.0, 1.1, 1.2, 0.9, 0.8, 1.3, 0.7], "second": [1.0, 1.1, 1.2, 0.9, 0.8, 1.3, -0.1]}
    for side, verdict in ((1.0, Verdict.BETTER), (-1.0, Verdict.WORSE)):
        turned = {label: [side * one for one in values] for label, values in table.items()}
        second = compare(turned, "reference", 0.0)[1]
        assert second.verdict is verdict
        assert _figures(second) == "by 0.89, interval -0.1 to 1.3"
