"""Times to target against the raw records."""

import csv
import io
import itertools
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from raw_records import Records, raw_phase
from synthetic_study import TUNED, Plan

from steepest.study.report.charts.palette import style_of
from steepest.study.report.charts.row_charts import target_charts
from steepest.study.report.findings.findings import Findings
from steepest.study.report.tables.answer_tables import targets_table
from steepest.study.report.tables.tables import to_csv
from steepest.study.report.text.explanations import target_words


def _hit(records: Records, target: float) -> dict[str, float] | None:
    """The first evaluation that meets the target with the next one."""
    measured = [record for record in records if "validation_accuracy" in record]
    for one, two in itertools.pairwise(measured):
        if min(one["validation_accuracy"], two["validation_accuracy"]) >= target:
            return one
    return None


@pytest.mark.parametrize("number", [0, 1, 2])
def test_medians_in_all_units_follow_from_the_raw_records(tuned: Findings, tuned_folder: Path, number: int) -> None:
    target = tuned.targets[number]
    seconds: dict[str, list[float]] = {entry["optimizer"]: [] for entry, *_ in raw_phase(tuned_folder, "timing")}
    for entry, _, times in raw_phase(tuned_folder, "timing"):
        seconds[entry["optimizer"]].append(times[-1]["step_seconds"])
    for row in target.rows:
        ended = [
            _hit(records, target.value)
            for entry, records, _ in raw_phase(tuned_folder, "evaluation")
            if entry["optimizer"] == row.label
            and (_hit(records, target.value) or records[-1].get("status") in ("finished", "diverged"))
        ]
        assert row.known == len(ended)
        assert row.hits == sum(hit is not None for hit in ended)
        steps = [math.inf if hit is None else hit["step"] for hit in ended]
        assert row.median("steps") == statistics.median(steps)
        assert row.median("epochs") == statistics.median([math.inf if h is None else h["epoch"] for h in ended])
        assert row.median("gradient evaluations") == statistics.median([2 * step for step in steps])
        assert row.median("seconds") == pytest.approx(statistics.median(steps) * statistics.median(seconds[row.label]))


def test_an_interrupted_trial_counts_once_it_has_arrived(tuned: Findings) -> None:
    known = [next(row for row in target.rows if row.label == "AdamW").known for target in tuned.targets]
    assert known == [7, 7, 6]


def test_a_missed_target_is_shown_as_missed_and_has_no_mean(tuned: Findings) -> None:
    rows = [row for row in csv.DictReader(io.StringIO(to_csv(targets_table(tuned)))) if row["Target"] == "0.99"]
    assert {row["Steps"] for row in rows} == {"inf"}
    assert {row["Reached"].split(" of")[0] for row in rows} == {"0"}
    assert "missed" in {cell.text for row in targets_table(tuned).rows for cell in row}


def test_without_a_timing_pass_there_are_no_seconds_and_the_page_says_why(found: Callable[[Plan], Findings]) -> None:
    its = found(replace(TUNED, timing_rounds=0))
    assert "Seconds" not in [column.title for column in targets_table(its).columns]
    assert "no timing pass was made" in target_words(its)


def test_records_without_evaluations_of_the_gradient_leave_that_unit_out(
    found: Callable[[Plan], Findings], tmp_path: Path
) -> None:
    from steepest.study.report.findings.findings import findings
    from steepest.study.report.stored.reader import read_study

    found(TUNED)
    for path in (tmp_path / "trials").iterdir():
        path.write_text(path.read_text().replace('"evaluations"', '"forgotten"'))
    its = findings(read_study(tmp_path))
    assert "gradient evaluations" not in its.targets[0].rows[0].times
    assert "Gradient evaluations" not in [column.title for column in targets_table(its).columns]


def test_misses_stand_in_the_stripe_beyond_the_horizon(tuned: Findings) -> None:
    charts = target_charts(tuned, {label: style_of(index) for index, label in enumerate(tuned.study.labels)})
    for chart, target in zip(charts, tuned.targets, strict=True):
        stripe = chart.guides[0]
        for row in target.rows:
            marks = {one.kind: one for one in chart.series if one.label == row.label}
            assert len(marks["dots"].x if "dots" in marks else ()) == row.hits
            lost = marks["stop"].x if "stop" in marks else ()
            assert len(lost) == row.known - row.hits
            assert all(stripe.low < x < stripe.high for x in lost)


def test_a_study_without_targets_has_none(mixed_folder: Path, found: Callable[[Plan], Findings]) -> None:
    its = found(replace(TUNED, targets=()))
    assert (its.targets, targets_table(its).rows) == ((), ())
