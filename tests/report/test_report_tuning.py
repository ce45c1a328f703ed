"""The search's section against the raw records, and how little of them is read."""

import csv
import io
import itertools
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from raw_records import raw_phase
from synthetic_study import FIRST_TUNING_SEED, TUNED, Plan, chosen_point, rate, search_score, write_study

from steepest.study.report.charts.palette import style_of
from steepest.study.report.charts.tuning_charts import budget_chart, sensitivity_chart
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.findings.tuning import edges
from steepest.study.report.stored import records
from steepest.study.report.stored.reader import read_study
from steepest.study.report.tables.answer_tables import cost_table, search_table, tuning_table
from steepest.study.report.tables.tables import to_csv
from steepest.study.report.text.fairness import fairness
from steepest.study.report.text.methods import methods

SEEDS = (FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1)


def _score(label: str, point: int | str) -> float:
    return statistics.fmean(search_score(TUNED, label, point, seed) for seed in SEEDS)


def _styles(its: Findings) -> dict[str, Any]:
    return {label: style_of(index) for index, label in enumerate(its.study.labels)}


def test_every_point_has_the_mean_of_its_last_scores(tuned: Findings) -> None:
    for one in tuned.searches:
        assert [tried.point for tried in one.tried] == ["defaults", *range(8)]
        for tried in one.tried:
            if (one.label, tried.point) in TUNED.search_ends:
                assert math.isnan(tried.score)
            else:
                assert tried.score == pytest.approx(_score(one.label, tried.point))
            assert tried.rate == rate(TUNED, one.label, tried.point)
        assert one.chosen == chosen_point(TUNED, one.label)


def test_skipped_optimizers_have_no_search(tuned: Findings) -> None:
    assert [one.label for one in tuned.searches] == ["SGD", "Momentum", "Adam", "AdamW", "Lion"]


@pytest.mark.parametrize("label", ["Momentum", "Adam"])
def test_the_expected_best_is_the_mean_over_all_subsets_with_the_defaults(tuned: Findings, label: str) -> None:
    """k = 0 are the library's defaults, which take part in every choice; a diverged point is no gain."""
    lost = {point for name, point in TUNED.search_ends if name == label}
    defaults = _score(label, "defaults")
    scores = [-math.inf if point in lost else _score(label, point) for point in range(8)]
    expected = [
        statistics.fmean(max((defaults, *chosen)) for chosen in itertools.combinations(scores, k)) for k in range(9)
    ]
    search = next(one for one in tuned.searches if one.label == label)
    assert [k for k, _ in search.expected] == list(range(9))
    assert [value for _, value in search.expected] == pytest.approx(expected)


def test_the_curve_ends_where_the_range_does_are_told(tuned: Findings) -> None:
    found = edges(tuned.searches)
    assert [(label, end) for label, end, _ in found] == [("SGD", "upper"), ("Momentum", "upper")]
    remarks = {row[0].text: row[-1].text for row in tuning_table(tuned).rows}
    assert "--extend" in remarks["SGD"]
    assert remarks["Adam"] == ""


def test_the_defaults_have_no_part_in_the_edge(tmp_path: Path) -> None:
    """As in --extend, which asks the drawn points alone: a defaults' rate beyond them encloses nothing."""
    write_study(tmp_path, TUNED)
    for path in (tmp_path / "trials").glob("00-search-defaults-*"):
        path.write_text(path.read_text().replace('"lr": 0.001', '"lr": 5.0'))
    sgd = findings(read_study(tmp_path)).searches[0]
    assert sgd.defaults is not None
    assert sgd.defaults.rate == 5.0
    assert sgd.curve is not None
    assert sgd.curve.at_edge == "high"


def test_an_extended_search_is_told(tmp_path: Path) -> None:
    write_study(tmp_path, TUNED)
    plan = json.loads((tmp_path / "study.json").read_text())
    plan["protocol"] |= {"trials": 4, "extensions": [{"SGD": {"low": 1.0, "high": 10.0}}]}
    (tmp_path / "study.json").write_text(json.dumps(plan))
    its = findings(read_study(tmp_path))
    ranges = {row[0].text: row[1].text for row in tuning_table(its).rows}
    assert ranges["SGD"] == "lr from 0.0001 to 1 (log); then 1 to 10"
    assert ranges["Adam"] == "lr from 0.0001 to 1 (log)"
    assert "extended once after its scores were seen" in " ".join(fairness(its).uncontrolled)
    assert "then 8 in all, for SGD beyond the edge" in methods(its)


def test_the_basin_needs_a_margin(tuned: Findings, found: Callable[[Plan], Findings]) -> None:
    widths = {row[0].text: row[6].text for row in tuning_table(tuned).rows}
    assert widths["SGD"].startswith("≥ ")
    assert float(widths["Adam"]) == pytest.approx(tuned.searches[2].curve.decades, abs=0.005)  # type: ignore[union-attr]
    without = found(replace(TUNED, margin=0.0))
    assert {row[6].text for row in tuning_table(without).rows} == {"–"}


def test_diverged_points_are_counted_beside_the_rest(tuned: Findings) -> None:
    points = {row[0].text: row[2].text for row in tuning_table(tuned).rows}
    assert points == {
        "SGD": "9 (1 diverged)", "Momentum": "9", "Adam": "9 (1 diverged)", "AdamW": "9", "Lion": "9 (1 failed)",
    }  # fmt: skip


def test_every_point_has_its_command(tuned: Findings, tuned_folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(search_table(tuned)))))
    assert len(rows) == 5 * 9
    assert sum(row["Chosen"] == "chosen" for row in rows) == 5
    ids = {entry["id"] for entry, *_ in raw_phase(tuned_folder, "search")}
    for row in rows:
        tool, verb, folder, trial = row["Run it again"].split()
        assert (tool, verb, folder) == ("steepest", "rerun", str(tuned_folder))
        assert trial in ids


def test_the_sensitivity_chart_shows_every_trial(tuned: Findings, tuned_folder: Path) -> None:
    chart = sensitivity_chart(tuned, _styles(tuned))
    assert chart.x.log
    for one in tuned.searches:
        marks = {series.kind: series for series in chart.series if series.label == one.label}
        lost = [point for name, point in TUNED.search_ends if name == one.label]
        assert len(marks["dots"].x) == (8 - len(lost)) * 2
        assert marks["chosen"].x == (rate(TUNED, one.label, one.chosen or 0),)
        assert marks["defaults"].x == (0.001,)
        assert len(marks["stop"].x if "stop" in marks else ()) == len(lost)
        assert list(marks["line"].x) == sorted(marks["line"].x)


def test_a_search_over_more_than_the_rate_has_dots_and_no_line(tmp_path: Path) -> None:
    write_study(tmp_path, TUNED)
    plan = json.loads((tmp_path / "study.json").read_text())
    for one in plan["optimizers"]:
        one["space"] |= {"weight_decay": {"values": [0, 0.1]}} if one["space"] else {}
    (tmp_path / "study.json").write_text(json.dumps(plan))
    its = findings(read_study(tmp_path))
    kinds = {series.kind for series in sensitivity_chart(its, _styles(its)).series}
    assert "line" not in kinds
    assert "dots" in kinds
    assert "weight_decay in (0, 0.1)" in tuning_table(its).rows[0][1].text


def _with_protocol(found: Findings, **changes: Any) -> Findings:
    document = replace(found.study.document, protocol=replace(found.study.protocol, **changes))
    return replace(found, study=replace(found.study, document=document))


def test_quasi_random_points_make_an_estimate_and_random_ones_do_not(tuned: Findings) -> None:
    assert "so this is an estimate" in budget_chart(tuned, _styles(tuned)).note
    random = _with_protocol(tuned, sampler="random")
    assert "estimate" not in budget_chart(random, _styles(tuned)).note
    extended = _with_protocol(random, extensions=({"SGD": {"low": 1.0, "high": 10.0}},))
    assert "estimate" in budget_chart(extended, _styles(tuned)).note


def test_costs_are_medians_over_rounds_and_ratios_to_the_reference(tuned: Findings) -> None:
    rows = {row["Optimizer"]: row for row in csv.DictReader(io.StringIO(to_csv(cost_table(tuned))))}
    assert float(rows["SGD"]["Step"]) == pytest.approx(0.001 * 1.02)
    assert float(rows["Adam"]["Step"]) == pytest.approx(0.001 * 1.22)
    assert float(rows["Adam"]["Times SGD's"]) == pytest.approx(1.22 / 1.02)
    assert [float(rows[label]["State, bytes per parameter"]) for label in ("SGD", "Momentum", "Adam")] == [0, 4, 8]


class _Counted:
    """Counts what is parsed: the lines themselves, and those joined to an array."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines = 0
        loads = json.loads

        def counting(text: bytes) -> Any:
            self.lines += text.count(b'"kind"')
            return loads(text)

        monkeypatch.setattr(records.json, "loads", counting)


def test_of_a_search_only_heads_and_ends_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 search trials cost three lines each of the record and at most two of the times, however long they are."""
    plan = Plan(labels=("SGD", "Adam"), seeds=1, epochs=1, steps_per_epoch=60, trials=499, tuning_seeds=1)
    folder = write_study(tmp_path, plan)
    evaluation = sum(len(lines) + len(times) for _, lines, times in raw_phase(folder, "evaluation"))
    counted = _Counted(monkeypatch)
    study = read_study(folder)
    assert len(study.search_trials) == 1000
    assert all(trial.finished and trial.epochs for trial in study.search_trials)
    assert counted.lines <= 1000 * (3 + 2) + evaluation
    assert counted.lines < 1000 * 60 / 10


@pytest.mark.parametrize(
    ("cut", "status", "notices"), [(9, "interrupted", 1), (0, "finished", 0)], ids=["torn", "whole"]
)
def test_a_torn_search_trial_is_interrupted_and_reported(tmp_path: Path, cut: int, status: str, notices: int) -> None:
    write_study(tmp_path, TUNED)
    path = next(path for path in sorted((tmp_path / "trials").iterdir()) if "search-3" in path.name)
    text = path.read_bytes()
    path.write_bytes(text[: len(text) - cut] if cut else text)
    study = read_study(tmp_path)
    assert len(study.notices) == notices
    assert next(trial for trial in study.search_trials if trial.id == path.stem).status == status
