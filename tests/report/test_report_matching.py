"""Verdicts at equal training seconds and equal gradient evaluations, recomputed from the raw records."""

import json
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from raw_records import raw_phase, raw_trials
from synthetic_study import Plan, write_study

from steepest.study.report.across import contents
from steepest.study.report.across.across import across
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.findings.matching import TOLERANCE, Matched
from steepest.study.report.page import render_page
from steepest.study.report.stored.reader import read_study
from steepest.study.report.tables.matched_table import matched_table
from steepest.study.report.tables.tables import to_csv
from steepest.study.report.text.answer import answer, caution, seen
from steepest.study.report.text.fairness import fairness
from steepest.study.report.text.matching import differing, matched_words
from steepest.study.report.text.methods import methods
from steepest.study.report.text.outcome import outcome
from steepest.study.report.write import all_tables
from steepest.study.statistics.verdicts import Verdict

LABELS = ("SGD", "Momentum", "Adam")
PLAN = Plan(labels=LABELS, seeds=8, epochs=5, evaluations=2, timing_rounds=3)
STEP = {"SGD": 0.001, "Momentum": 0.0015, "Adam": 0.002}
"""Seconds of a step: of 120 steps, 80 of Momentum's and 60 of Adam's cost no more than all of SGD's."""

Changed = Callable[[list[dict[str, Any]], str], None]


def _study(
    folder: Path, plan: Plan = PLAN, match: str = "steps", changed: Changed | None = None, **step: float
) -> Path:
    """Write a study whose timing pass has found these seconds of a step, the same in every round."""
    overrides = {**plan.overrides, "protocol": {"match": match}} if match != "steps" else plan.overrides
    write_study(folder, replace(plan, overrides=overrides))
    for entry, _, times in raw_phase(folder, "timing"):
        times[-1]["step_seconds"] = (STEP | step)[entry["optimizer"]]
        _write(folder / "times" / f"{entry['id']}.jsonl", times)
    for entry, records, _ in raw_phase(folder, "evaluation"):
        if changed is not None and records:
            changed(records, entry["optimizer"])
            _write(folder / "trials" / f"{entry['id']}.jsonl", records)
    return folder


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def _found(folder: Path) -> tuple[Findings, Matched, Matched]:
    found = findings(read_study(folder))
    steps, seconds, evaluations = found.matches
    assert [one.match for one in found.matches] == ["steps", "seconds", "evaluations"]
    assert steps.equal
    return found, seconds, evaluations


def _many(records: list[dict[str, Any]], label: str) -> None:
    """Let Adam take three gradient evaluations in a step, and SGD and Momentum one."""
    for record in records:
        if "evaluations" in record:
            record["evaluations"] = record["step"] * (3 if label == "Adam" else 1)


def test_a_trial_is_read_at_its_last_evaluation_within_the_smallest_total(tmp_path: Path) -> None:
    folder = _study(tmp_path)
    _, seconds, _ = _found(folder)
    assert seconds.budget == pytest.approx(120 * 0.001)
    assert seconds.reads == {"SGD": 1.0, "Momentum": pytest.approx(72 / 120), "Adam": pytest.approx(60 / 120)}
    read = {"SGD": 120, "Momentum": 72, "Adam": 60}  # evaluations are at 12, 24, ... steps; 84 is 5 % beyond 80
    values = {
        label: {
            seed: next(r["validation_accuracy"] for r in records if r["kind"] == "epoch" and r["step"] == read[label])
            for seed, (records, _) in trials.items()
            if records and records[-1].get("status") == "finished" and len(records) > 2
        }
        for label, trials in _evaluations(folder).items()
    }
    for row in seconds.verdicts.rows:
        expected = {seed: values[row.label][seed] - values["SGD"][seed] for seed in range(8)}
        assert dict(row.differences) == pytest.approx(expected)


def _evaluations(folder: Path) -> dict[str, dict[int, Any]]:
    found: dict[str, dict[int, Any]] = {}
    for entry, records, times in raw_phase(folder, "evaluation"):
        found.setdefault(entry["optimizer"], {})[entry["seed"]] = (records, times)
    return found


def test_costs_within_the_tolerance_are_equal(tmp_path: Path) -> None:
    edge = 0.001 * (1 + TOLERANCE) * (1 - 1e-6)
    found, seconds, evaluations = _found(_study(tmp_path / "a", Momentum=0.00101, Adam=edge))
    assert seconds.equal
    assert evaluations.equal
    assert [one.verdicts.rows for one in (seconds, evaluations)] == [found.verdicts.rows] * 2
    assert matched_words(found) == (
        "Costs are equal within 5%: equal steps are equal training seconds and equal gradient evaluations here, so "
        "that all three give the same verdicts."
    )
    assert "matched" not in all_tables(found)
    assert differing(found) == ()
    _, seconds, _ = _found(_study(tmp_path / "b", Momentum=0.00101, Adam=edge * 1.001))
    assert not seconds.equal
    assert seconds.reads == {"SGD": 1.0, "Momentum": 1.0, "Adam": pytest.approx(108 / 120)}


def test_equal_costs_are_compared_on_the_test_set_by_any_name(tmp_path: Path) -> None:
    same = {"Momentum": 0.001, "Adam": 0.001}
    usual = findings(read_study(_study(tmp_path / "a", **same)))
    found = findings(read_study(_study(tmp_path / "b", match="seconds", **same)))
    assert found.verdicts.rows == usual.verdicts.rows
    said = answer(found.study, found.verdicts, found.summaries)
    assert said.startswith("On test accuracy at the end of training, where training seconds are equal within 5%, over")


def test_the_plan_decides_which_verdicts_are_the_answer(tmp_path: Path) -> None:
    usual, seconds, _ = _found(_study(tmp_path / "steps"))
    assert usual.verdicts is usual.matches[0].verdicts
    found, same, _ = _found(_study(tmp_path / "seconds", match="seconds"))
    assert found.verdicts is same.verdicts
    assert same.verdicts.rows == seconds.verdicts.rows
    said = answer(found.study, found.verdicts, found.summaries)
    assert said.startswith(
        "On validation accuracy at equal training seconds (120 ms, the smallest total), over 8 paired"
    )
    assert seen(found.verdicts, found.summaries) == ""
    assert "better by, at equal training seconds" in next(iter(outcome(found).values()))
    assert caution(found.study, found.verdicts, found.searches)
    words = methods(found)
    assert (
        "Every trial that ended within 5% of 120 ms of training seconds was compared at its end, any other at" in words
    )
    assert "validation accuracy at equal training seconds (120 ms, the smallest total) was compared by" in words
    checks = fairness(found)
    assert any("Equal cost of the kind that the plan names" in one for one in checks.controlled)
    assert any("schedules: Momentum at 60% and Adam at 50% of the steps" in one for one in checks.uncontrolled)
    page = render_page(found, [], all_tables(found))
    assert "The plan named training seconds before anything ran" in page


def test_a_study_of_equal_steps_shows_the_other_two_beside(tmp_path: Path) -> None:
    found, _, evaluations = _found(_study(tmp_path, changed=_many))
    assert evaluations.budget == 120
    assert evaluations.reads == {"SGD": 1.0, "Momentum": 1.0, "Adam": pytest.approx(36 / 120)}
    assert any(
        "Equal steps are not equal training seconds and gradient evaluations here" in one
        for one in fairness(found).uncontrolled
    )
    lines = to_csv(matched_table(found)).splitlines()
    assert lines[0].split(",")[:4] == ["Optimizer", "Equal steps", "Difference", "Equal training seconds"]
    assert [line.split(",")[0] for line in lines[1:]] == list(LABELS)
    words = matched_words(found)
    assert "120 ms of training seconds and 120 of gradient evaluations. A trial that ends within 5% of it" in words
    assert "The plan named steps before anything ran" in words


def test_other_verdicts_at_other_costs_are_told(tmp_path: Path) -> None:
    """Adam wins at the end, and loses where it has taken half of its steps."""

    def staged(records: list[dict[str, Any]], label: str) -> None:
        for record in records:
            late = record.get("step", 0) > 60
            if label == "Adam" and "validation_accuracy" in record:
                record["validation_accuracy"] = 0.99 if late else 0.11
            if label == "Adam" and "test_accuracy" in record:
                record["test_accuracy"] = 0.99

    found, seconds, _ = _found(_study(tmp_path, changed=staged))
    assert Verdict.BETTER in {one.verdict for one in found.verdicts.comparisons if one.label == "Adam"}
    assert Verdict.WORSE in {one.verdict for one in seconds.verdicts.comparisons if one.label == "Adam"}
    assert any("At equal training seconds some verdicts are other ones: " in one for one in differing(found))
    assert "Adam worse" in " ".join(differing(found))


def test_a_diverged_trial_is_the_worst_at_any_budget(tmp_path: Path) -> None:
    plan = replace(PLAN, ends={("Adam", 2): "diverged", ("Adam", 3): "failed", ("Momentum", 1): "timed out"})
    _, seconds, _ = _found(_study(tmp_path, plan))
    rows = {row.label: dict(row.differences) for row in seconds.verdicts.rows}
    assert rows["Adam"][2] == rows["Momentum"][1] == -math.inf
    assert 3 not in rows["Adam"]


def test_a_trial_without_an_evaluation_within_the_budget_is_the_worst(tmp_path: Path) -> None:
    def first_late(records: list[dict[str, Any]], label: str) -> None:
        if label == "Adam":
            records[:] = [one for one in records if one["kind"] != "epoch" or one["step"] > 60]

    _, seconds, _ = _found(_study(tmp_path, changed=first_late))
    row = next(row for row in seconds.verdicts.rows if row.label == "Adam")
    assert [value for _, value in row.differences] == [-math.inf] * 8


def test_seconds_wait_for_the_timing_pass(tmp_path: Path) -> None:
    plan = replace(PLAN, timing_rounds=0)
    found = findings(read_study(_study(tmp_path / "a", plan, match="seconds")))
    assert answer(found.study, found.verdicts, found.summaries) == (
        "No verdict yet: the plan compares at equal training seconds, and the timing pass has not run."
    )
    assert outcome(found)["Adam"]["verdict"] == ""
    assert "Equal cost" not in " ".join(fairness(found).controlled)
    assert render_page(found, [], all_tables(found))
    usual, seconds, _ = _found(_study(tmp_path / "b", plan))
    assert not seconds.is_known
    assert "Not known: training seconds of SGD, Momentum and Adam." in matched_words(usual)


def test_an_optimizer_that_was_not_timed_is_named(tmp_path: Path) -> None:
    folder = _study(tmp_path)
    for path in (folder / "times").glob("02-timing-*"):
        path.unlink()
    found, seconds, _ = _found(folder)
    assert seconds.unknown == ("Adam",)
    assert [one.label for one in seconds.verdicts.comparisons] == ["Momentum"]
    assert "Not known: training seconds of Adam." in matched_words(found)


def test_evaluations_that_differ_between_seeds_share_the_smallest_total(tmp_path: Path) -> None:
    """A line search evaluates as often as it needs; the budget is that of the cheapest trial of all."""

    def searching(records: list[dict[str, Any]], label: str) -> None:
        _many(records, label)
        if label == "SGD" and records[-1].get("test_accuracy", 0) > 0:
            cheap = records[-1]["test_accuracy"] == best[0]
            for record in records:
                if "evaluations" in record:
                    record["evaluations"] = record["step"] * (1 if cheap else 2)

    values = [records[-1]["test_accuracy"] for records, _ in _evaluations(_study(tmp_path / "probe"))["SGD"].values()]
    best = [max(values)]
    _, _, evaluations = _found(_study(tmp_path / "study", changed=searching))
    assert evaluations.budget == 120
    assert evaluations.reads["SGD"] == pytest.approx(statistics.median([0.5] * 7 + [1.0]))


def test_a_comparison_across_workloads_says_what_its_verdicts_are(tmp_path: Path) -> None:
    folders = {
        name: _study(tmp_path / name, replace(PLAN, overrides={"workload": name, "name": name}), match="seconds")
        for name in ("one", "two")
    }
    found = across({name: findings(read_study(folder)) for name, folder in folders.items()})
    told = "Verdicts are those at equal training seconds, where the plan names that; ranks and profiles are those of"
    assert any(sentence.startswith(told) for sentence in contents.cautions(found))


def test_nothing_is_said_of_one_optimizer(tmp_path: Path) -> None:
    found = findings(read_study(_study(tmp_path, replace(PLAN, labels=("SGD",)))))
    assert matched_words(found) == ""
    assert not matched_table(found).rows
    assert raw_trials(tmp_path)
