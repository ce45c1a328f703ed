"""Studies of hundreds of seeds: the page stays small, and says what it leaves out."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn import chart_named
from synthetic_study import Plan, write_study

from steepest.study.report.charts import rows
from steepest.study.report.charts.charts import build_charts
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.page import render_page
from steepest.study.report.stored.reader import read_study
from steepest.study.report.tables import contents
from steepest.study.report.tables.contents import shown_trials_table, trials_table
from steepest.study.report.tables.tables import to_csv
from steepest.study.report.write import all_tables
from steepest.study.statistics.permutation import subsets

SEEDS = 60
LOST = {("SGD", 11): "failed", ("Adam", 59): "diverged"}
MANY = Plan(labels=("SGD", "Adam"), seeds=SEEDS, ends=LOST, targets=(0.5,), reference="SGD")
CHARTS = ("verdicts", "every-seed", "steps-to-target-1")


@pytest.fixture
def many(found: Callable[[Plan], Findings]) -> Findings:
    return found(MANY)


def dots(found: Findings, key: str) -> dict[str, tuple[float, ...]]:
    return {one.label: one.x for one in chart_named(build_charts(found), key).series if one.kind == "dots"}


@pytest.mark.parametrize("key", CHARTS)
def test_a_row_of_many_seeds_keeps_its_ends_and_says_so(
    many: Findings, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dots(many, key)
    assert "are drawn in a row" not in chart_named(build_charts(many), key).note
    monkeypatch.setattr(rows, "MOST_MARKS", 20)
    thinned = dots(many, key)
    note = chart_named(build_charts(many), key).note
    assert f"Of {max(map(len, whole.values()))} seeds at most 20 are drawn in a row" in note
    for label, values in whole.items():
        assert len(thinned[label]) <= 20 < len(values)
        assert set(thinned[label]) <= set(values)
        assert {min(values), max(values)} <= set(thinned[label])


def test_estimates_are_of_all_seeds(many: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    def estimates() -> list[object]:
        return [one for one in chart_named(build_charts(many), "every-seed").series if one.kind == "tick"]

    before = estimates()
    monkeypatch.setattr(rows, "MOST_MARKS", 20)
    assert before == estimates() != []


def test_the_page_has_the_trials_that_did_not_finish_and_the_file_has_all(
    many: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown_trials_table(many.study) == trials_table(many.study)
    whole = render_page(many, build_charts(many), all_tables(many))
    monkeypatch.setattr(contents, "MOST_ROWS", 10)
    shown = listed(to_csv(shown_trials_table(many.study)))
    assert len(shown) == 10
    assert {(row["Optimizer"], int(row["Seed"])) for row in shown if row["Status"] != "finished"} == set(LOST)
    page = render_page(many, build_charts(many), all_tables(many))
    assert (
        f"These are 10 of {2 * SEEDS}, those that did not finish before all others; tables/trials.csv has all." in page
    )
    assert len(listed(to_csv(all_tables(many)["trials"]))) == 2 * SEEDS
    assert page.count("steepest rerun") == whole.count("steepest rerun") * 10 // (2 * SEEDS)


def listed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_page_grows_little_with_seeds_beyond_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST_MARKS", 20)
    monkeypatch.setattr(contents, "MOST_ROWS", 20)
    sizes = []
    for seeds in (40, 80):
        its = findings(read_study(write_study(tmp_path / str(seeds), Plan(labels=("SGD", "Adam"), seeds=seeds))))
        sizes.append(len(render_page(its, build_charts(its), all_tables(its))))
    assert abs(sizes[1] - sizes[0]) < 40 * 100  # their numbers in lists; a row of the table has ten times as much


def test_patterns_of_many_seeds_are_zeros_and_ones_that_differ() -> None:
    rows_of = subsets(100, 3)
    assert rows_of.shape == (2**16 - 1, 100)
    assert set(np.unique(rows_of)) == {0.0, 1.0}
    assert len(np.unique(rows_of[:, :62], axis=0)) == len(rows_of)
    assert abs(rows_of[:, 62:].mean() - 0.5) < 0.01
