"""Every printed figure against one computed here from the raw records."""

import csv
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raw_records import mean_and_deviation, raw_trials, raw_value
from synthetic_study import PAPER, Plan

from steepest.study.report.answer import answer, caution
from steepest.study.report.contents import acting, results_table, settings_table, trials_table
from steepest.study.report.reader import Study
from steepest.study.report.summary import Spread, Summary, summarize
from steepest.study.report.tables import Number, Over, to_csv

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
    cells = [cell for row in results_table(found, summarize(found)).rows for cell in row if isinstance(cell, Over)]
    assert all(cell.deviation == "" and cell.tag == "" for cell in cells)


def test_published_figures_stand_beside_full_studies_only(study: Callable[[Plan], Study]) -> None:
    quick = study(Plan(labels=("Adam", "SGD")))
    assert "paper" not in to_csv(results_table(quick, summarize(quick)))
    full = study(Plan(labels=("Adam", "SGD", "NAG"), preset="full"))
    rows = _rows(to_csv(results_table(full, summarize(full))))
    published: Any = PAPER["rows"]
    for row, (title, key) in itertools.product(rows, COLUMNS.items()):
        assert _number(row[f"{title} (paper)"]) == published.get(row["Optimizer"], {}).get(key)


def test_the_best_is_marked_with_those_the_spread_does_not_separate(study: Callable[[Plan], Study]) -> None:
    found = study(Plan(seeds=4))
    summaries = summarize(found)
    means = {summary.label: summary.spreads["test_accuracy"] for summary in summaries}
    first = max(means.values(), key=lambda spread: spread.mean or 0)
    expected = {
        label
        for label, spread in means.items()
        if (first.mean or 0) - (spread.mean or 0) <= max(first.deviation or 0, spread.deviation or 0)
    }
    rows = results_table(found, summaries).rows
    marked = {row[0].text for row in rows if row[4].tag == "best"}
    assert marked == expected
    assert not any(row[5].tag for row in rows if isinstance(row[5], Over | Number) and row[5].tag not in ("best", ""))


def test_the_answer_names_first_and_second_with_their_figures(study: Callable[[Plan], Study], tmp_path: Path) -> None:
    found = study(Plan(seeds=3))
    means = {
        label: mean_and_deviation([raw_value(*pair, "test_accuracy") or 0 for pair in seeds.values()])
        for label, seeds in raw_trials(tmp_path).items()
    }
    first, second = sorted(means, key=lambda label: -(means[label][0] or 0))[:2]
    mean, deviation = means[first]
    sentence = answer(found, summarize(found))
    assert sentence.startswith(
        f"{first} had the highest mean test accuracy: {mean:.3f} ± {deviation:.3f} over 3 seeds, "
    )
    assert f"above {second}" in sentence or f"level with {second}" in sentence
    assert "significant" not in sentence


def _summary(label: str, *values: float) -> Summary:
    return Summary(label, len(values), {"finished": len(values)}, {"test_accuracy": Spread(tuple(enumerate(values)))})


@pytest.mark.parametrize(
    ("second", "ending"),
    [
        ((0.88, 0.90), "that gap is no larger than the spread between seeds, so these runs do not separate the two."),
        ((0.70, 0.71), "that gap is 27.6 times the larger seed spread of the two."),
        ((0.70,), "one of the two has a single seed, so this decides nothing."),
    ],
)
def test_the_gap_is_weighed_against_the_spread(mixed: Study, second: tuple[float, ...], ending: str) -> None:
    sentence = answer(mixed, [_summary("B", *second), _summary("A", 0.895, 0.905)])
    assert sentence.startswith("So far, A had the highest mean test accuracy: 0.900 ± 0.007 over 2 seeds, ")
    assert sentence.endswith(ending)


def test_equal_means_are_level(mixed: Study) -> None:
    sentence = answer(mixed, [_summary("A", 0.9, 0.9), _summary("B", 0.9, 0.9)])
    assert "level with B" in sentence
    assert "do not separate" in sentence


def test_others_within_the_spread_are_named(mixed: Study) -> None:
    order = [_summary("A", 0.89, 0.91), _summary("B", 0.88, 0.90), _summary("C", 0.889, 0.89), _summary("D", 0.1, 0.1)]
    assert "Also within one seed spread of A: C." in caution(mixed, order)


def test_one_seed_decides_nothing(study: Callable[[Plan], Study]) -> None:
    found = study(Plan(seeds=1))
    assert answer(found, summarize(found)).endswith("with one seed each this decides nothing.")


def test_one_optimizer_is_called_neither_highest_nor_lowest(study: Callable[[Plan], Study]) -> None:
    found = study(Plan(labels=("Adam",)))
    sentence = answer(found, summarize(found))
    assert "highest" not in sentence
    assert "no other optimizer has a finished trial" in sentence


def test_a_metric_to_minimise_asks_for_the_lowest(study: Callable[[Plan], Study]) -> None:
    found = study(Plan(overrides={"metric": {"name": "loss", "direction": "minimize"}}))
    summaries = summarize(found)
    means = {summary.label: summary.spreads["test_loss"].mean or 0 for summary in summaries}
    assert answer(found, summaries).startswith(
        f"{min(means, key=lambda label: means[label])} had the lowest mean test loss"
    )


def test_without_finished_trials_there_is_no_answer(study: Callable[[Plan], Study]) -> None:
    found = study(Plan(labels=("Adam",), seeds=2, ends={("Adam", 0): "diverged", ("Adam", 1): "not started"}))
    assert answer(found, summarize(found)) == "No trial has finished yet, so there is nothing to compare."


def test_trials_that_did_not_finish_are_counted_in_the_open(mixed: Study) -> None:
    sentences = " ".join(caution(mixed, summarize(mixed)))
    assert "Of 27 trials, 1 diverged, 1 interrupted, 1 failed and 1 not started" in sentences


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
