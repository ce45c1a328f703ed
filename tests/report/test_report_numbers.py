"""Every printed figure against one computed here from the raw records."""

import csv
import io
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raw_records import mean_and_deviation, raw_trials, raw_value
from synthetic_study import PAPER, Plan

from steepest.study.report.findings.settings import acting
from steepest.study.report.findings.summary import summarize
from steepest.study.report.stored.study import Study
from steepest.study.report.tables.contents import results_table, settings_table, trials_table
from steepest.study.report.tables.tables import MeanSd, to_csv, to_markdown

COLUMNS = {
    "Training loss": "train_loss",
    "Training accuracy": "train_accuracy",
    "Test accuracy": "test_accuracy",
    "Examples/s": "examples_per_second",
}


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_results_table_equals_the_raw_records(mixed: Study, mixed_folder: Path) -> None:
    raw = raw_trials(mixed_folder)
    rows = _rows((mixed_folder / "report/tables/results.csv").read_text(encoding="utf-8"))
    assert [row["Optimizer"] for row in rows] == list(raw)
    for row, (title, key) in itertools.product(rows, COLUMNS.items()):
        values = [raw_value(*pair, key) for pair in raw[row["Optimizer"]].values()]
        known = [value for value in values if value is not None]
        mean, deviation = mean_and_deviation(known)
        assert int(row[f"{title} seeds"]) == len(known)
        assert _number(row[f"{title} mean"]) == _close(mean)
        assert _number(row[f"{title} sd"]) == _close(deviation)


def test_the_trials_table_equals_the_raw_records(mixed: Study, mixed_folder: Path) -> None:
    raw = raw_trials(mixed_folder)
    rows = _rows((mixed_folder / "report/tables/trials.csv").read_text(encoding="utf-8"))
    assert len(rows) == sum(len(seeds) for seeds in raw.values())
    for row in rows:
        records, times = raw[row["Optimizer"]][int(row["Seed"])]
        steps = [record["step"] for record in records if "step" in record]
        assert int(row["Step"]) == max(steps, default=0)
        if row["Status"] == "finished":
            figures = [_number(row[title]) for title in COLUMNS]
            assert figures == pytest.approx([raw_value(records, times, key) for key in COLUMNS.values()])
            assert float(row["Seconds"]) == pytest.approx(times[-1]["train_seconds"])
        else:
            assert row["Test accuracy"] == ""


def test_every_seed_is_kept_beside_mean_and_deviation(mixed: Study, mixed_folder: Path) -> None:
    raw = raw_trials(mixed_folder)["Adam"]
    spread = next(summary for summary in summarize(mixed) if summary.label == "Adam").spreads["test_accuracy"]
    assert spread.values == tuple((seed, raw_value(*pair, "test_accuracy")) for seed, pair in raw.items())


def test_means_say_how_many_seeds_they_cover(mixed: Study) -> None:
    coverage = {summary.label: summary.coverage for summary in summarize(mixed)}
    assert coverage["Adam"] == "3"
    assert coverage["RMSProp"] == "2 of 3 (1 diverged)"
    assert coverage["AdaMax"] == "2 of 3 (1 interrupted)"
    assert coverage["NAdam"] == "1 of 3 (1 failed, 1 not started)"


def test_one_seed_has_no_spread(study: Callable[[Plan], Study]) -> None:
    found = study(Plan(seeds=1))
    cells = [cell for row in results_table(found, summarize(found)).rows for cell in row if isinstance(cell, MeanSd)]
    assert all(cell.deviation == "" for cell in cells)


def test_published_figures_stand_beside_full_studies_only(study: Callable[[Plan], Study]) -> None:
    quick = study(Plan(labels=("Adam", "SGD")))
    assert "paper" not in to_csv(results_table(quick, summarize(quick)))
    full = study(Plan(labels=("Adam", "SGD", "NAG"), preset="full"))
    rows = _rows(to_csv(results_table(full, summarize(full))))
    published: Any = PAPER["rows"]
    for row, (title, key) in itertools.product(rows, COLUMNS.items()):
        assert _number(row[f"{title} (paper)"]) == published.get(row["Optimizer"], {}).get(key)


def test_settings_show_what_acts(mixed: Study) -> None:
    shown = {row[0].text: row[2].text for row in settings_table(mixed).rows}
    assert shown["Adam"] == "lr=0.01, betas=(0.9, 0.999), eps=1e-08"
    assert shown["Momentum"] == "lr=0.01, momentum=0.9"
    assert acting({"weight_decay": 0.0, "foreach": None, "betas": ()}) == {}


def test_the_table_of_trials_has_a_row_for_each(mixed: Study) -> None:
    assert len(trials_table(mixed).rows) == len(mixed.trials) == 27


def _number(text: str) -> float | None:
    return float(text) if text else None


def _close(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("margin", "decimals"), [(0.0, 3), (0.01, 3), (0.0005, 5)])
def test_tables_show_a_tenth_of_the_margin(study: Callable[[Plan], Study], margin: float, decimals: int) -> None:
    made = study(Plan(labels=("Adam", "SGD"), margin=margin))
    printed = to_markdown(results_table(made, summarize(made)))
    assert {len(digits) for digits in re.findall(r"0\.(\d+)", printed)} == {decimals}
