"""One value that is far from all others leaves the frame of a chart; a long name never leaves its place."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from drawn import chart_named, matplotlib_figure
from raw_records import raw_phase
from synthetic_study import TUNED, Plan, write_study

from steepest.study.report.charts.chart import printed_figures
from steepest.study.report.charts.charts import build_charts
from steepest.study.report.charts.frames import EVERYTHING, fence
from steepest.study.report.charts.plotly_renderer import plotly_figure
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.names import folded
from steepest.study.report.page import render_page
from steepest.study.report.stored.reader import read_study
from steepest.study.report.tables.tables import to_html
from steepest.study.report.write import all_tables

LOSS = {"metric": {"name": "loss", "direction": "minimize"}}
CALM = replace(TUNED, labels=("SGD", "Adam", "Momentum"), ends={}, search_ends={}, skipped={}, restarts={})
LONG = "my_rules.an_optimizer_with_a_rather_long_name[momentum=0.9,betas=(0.9,0.999)]"


def _blown_up(folder: Path) -> Path:
    """Let the losses of one reported trial, and of one point of a search, be finite and huge."""
    for phase, begin in (("evaluation", 0.5), ("search", 0.0)):
        entry, records, _ = next(one for one in raw_phase(folder, phase) if one[0]["optimizer"] == "Adam")
        for record in records[int(begin * len(records)) :]:
            record |= {key: 1e30 for key in record if key.endswith("loss")}
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / "trials" / f"{entry['id']}.jsonl").write_text(lines)
    return folder


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("wild")
    return findings(read_study(_blown_up(write_study(folder, replace(CALM, overrides=LOSS)))))


def test_no_axis_is_flattened_by_one_huge_loss(wild: Findings) -> None:
    for chart in build_charts(wild):
        for name, axis in (("x", chart.x), ("y", chart.y)):
            drawn = [value for series in chart.series for value in getattr(series, name) if math.isfinite(value)]
            if max(drawn, default=0.0) > 1e6:
                assert axis.bounds is not None, (chart.key, name)
            assert axis.bounds is None or max(map(abs, axis.bounds)) < 1e4, (chart.key, name)


def test_what_lies_outside_a_frame_is_told(wild: Findings) -> None:
    charts = build_charts(wild)
    verdicts, seeds = chart_named(charts, "verdicts"), chart_named(charts, "every-seed")
    notes = [note for one in verdicts.series if one.kind == "stop" for note in one.notes]
    assert notes == ["seed 0: −1e+30, beyond the frame"]
    assert "Differences far beyond all others are drawn as a × at the edge." in verdicts.note
    crosses = [one for one in seeds.series if one.kind == "stop"]
    assert [one.label for one in crosses] == ["Adam"]
    low, high = seeds.x.bounds or EVERYTHING
    assert low < crosses[0].x[0] < high
    assert "outside the frame" in chart_named(charts, "training-loss-per-step").note
    assert "outside the frame" in chart_named(charts, "learning-rate-sensitivity").note


def test_a_log_axis_has_ticks_inside_its_frame(wild: Findings) -> None:
    steps = chart_named(build_charts(wild), "training-loss-per-step")
    low, high = steps.y.bounds or EVERYTHING
    ticks = plotly_figure(steps)["layout"]["yaxis"]["tickvals"]
    assert sum(low <= tick <= high for tick in ticks) >= 3


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_everyday_values_stay_inside(scale: float) -> None:
    for values in ([1.0, 2.0, 3.0, 10.0], [0.9, 0.9, 0.9, 0.1], [-0.3, 0.0, 0.01, 0.02], [5.0], [], [0.0, 0.0, 7.0]):
        assert fence([scale * value for value in values]) == EVERYTHING
    assert fence([scale * value for value in (0.1, 0.2, 5.0, 500.0)], log=True) == EVERYTHING


@pytest.mark.parametrize("far", [1e30, -1e30, 1.7e308])
def test_a_value_far_away_is_outside(far: float) -> None:
    low, high = fence([0.3, 0.31, 0.35, 0.5, 0.5, far])
    assert -1.0 < low < 0.3 < 0.5 < high < 1.0


def test_long_names_are_folded_whole(found: Callable[[Plan], Findings]) -> None:
    its = found(replace(CALM, labels=("SGD", LONG, "Adam")))
    charts = build_charts(its)
    rows = [chart for chart in charts if chart.section in ("verdicts", "seeds", "targets")]
    assert len(rows) > 2
    for chart in rows:
        names = [name for _, name in chart.y.ticks if "rather" in name]
        assert names[0].replace("\n", "").startswith(LONG)
        assert max(map(len, names[0].split("\n"))) <= 30
        drawn = plotly_figure(chart)["layout"]
        assert drawn["height"] >= 16 * names[0].count("\n") * len(chart.y.ticks)
    figure = next(figure for figure in printed_figures(charts) if figure.key == "verdicts")
    labels = [text.get_text() for text in matplotlib_figure(figure).axes[0].get_yticklabels()]
    assert any(label.replace("\n", "").startswith(LONG) for label in labels)
    page = render_page(its, charts, all_tables(its))
    assert "rather_<wbr>long_<wbr>name[<wbr>momentum=0.9" in page


def test_what_is_too_long_for_every_place_is_cut() -> None:
    lines = folded("x" * 500).split("\n")
    assert len(lines) == 5
    assert lines[-1].endswith("…")
    assert folded("betas=(0.9,0.999)", 12) == "betas=(0.9,\n0.999)"


def test_only_names_and_words_break(found: Callable[[Plan], Findings]) -> None:
    """A place to break in a cell that does not wrap would make its row tall."""
    its = found(replace(CALM, labels=("SGD", LONG, "Adam")))
    for table in all_tables(its).values():
        for cell in re.findall(r"<td[^>]*>[^<]*<wbr>", to_html(table)):
            assert "words" in cell
