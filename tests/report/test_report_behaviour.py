"""How the optimizers moved, in a report: the figures of two optimizers, by layer, and only where there are some."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from drawn import matplotlib_figure
from synthetic_study import TUNED, write_study

from steepest.study.records.format import FIGURES
from steepest.study.report.charts.chart import Chart, Figure
from steepest.study.report.charts.charts import build_charts
from steepest.study.report.charts.plotly_renderer import plotly_figure
from steepest.study.report.export import export
from steepest.study.report.findings.behaviour import MOST_LAYERS, WHOLE
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.page import render_page
from steepest.study.report.stored.reader import read_study
from steepest.study.report.write import all_tables

SAMPLED = (2, 34, 66)


def sample(seed: int, step: int, names: tuple[str, ...]) -> dict[str, object]:
    """A record whose figures say where they come from."""
    figures = [step + 0.5 * seed, 0.1 * step, 10.0, "nan" if step == 2 else 0.25]
    layered = {name: [number + step, 0.2, float(number), 0.5] for number, name in enumerate(names, 1)}
    return {
        "kind": "behaviour",
        "step": step,
        "epoch": 1,
        "layers": layered,
        **dict(zip(FIGURES, figures, strict=True)),
    }


def with_samples(folder: Path, names: tuple[str, ...]) -> Path:
    """A study whose evaluation trials have samples and a logged figure before their end."""
    write_study(folder, TUNED)
    for entry in json.loads((folder / "study.json").read_text())["trials"]:
        path = folder / "trials" / f"{entry['id']}.jsonl"
        if entry["phase"] == "evaluation" and path.exists():
            *lines, last = path.read_text().splitlines()
            lines += [json.dumps(sample(entry["seed"], step, names)) for step in SAMPLED]
            lines += [json.dumps({"kind": "log", "epoch": 1, "step": 24, "sharpness": 3.0 + entry["seed"]})]
            path.write_text("\n".join([*lines, last, ""]))
    return folder


@pytest.fixture(scope="module")
def moved_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_samples(tmp_path_factory.mktemp("moved"), ("in.weight", "in.bias"))


@pytest.fixture(scope="module")
def moved(moved_folder: Path) -> Findings:
    return findings(read_study(moved_folder))


@pytest.fixture(scope="module")
def charts(moved: Findings) -> dict[str, Chart]:
    return {chart.key: chart for chart in build_charts(moved) if chart.section == "behaviour"}


def test_the_best_optimizer_and_the_reference_are_shown(moved: Findings, charts: dict[str, Chart]) -> None:
    best = max(moved.summaries, key=lambda one: one.spreads["test_accuracy"].mean or 0.0).label
    assert moved.study.reference == "SGD" != best
    assert moved.behaviour.labels == (best, "SGD")
    assert all([series.label for series in chart.series] == [best, "SGD"] for chart in charts.values())


def test_figures_are_means_over_seeds(moved: Findings, charts: dict[str, Chart]) -> None:
    reference = charts["gradient-norm"].series[1]
    assert reference.x == SAMPLED
    assert reference.y == pytest.approx([step + 0.5 * 3.5 for step in SAMPLED])  # seeds 0 to 7
    assert charts["update-ratio"].series[1].y == pytest.approx([0.01 * step for step in SAMPLED])
    assert charts["effective-rate-1"].series[1].y == pytest.approx([0.2 / (1 + step) for step in SAMPLED])
    assert charts["cosine"].series[1].x == SAMPLED[1:]  # NaN is left out
    assert charts["cosine"].y.bounds == (-1.1, 1.1)
    assert charts["logged-1-sharpness"].series[1].y == pytest.approx([6.5])


def test_on_a_log_scale_an_update_of_zero_is_left_out(tmp_path: Path) -> None:
    """The last step of a schedule that ends at zero, say."""
    folder = with_samples(tmp_path, ("in.weight", "in.bias"))
    for path in (folder / "trials").glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in (line for line in lines if line["kind"] == "behaviour" and line["step"] == SAMPLED[-1]):
            line["layers"]["in.bias"][1] = line["update_norm"] = 0.0
        path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    still = {chart.key: chart for chart in build_charts(findings(read_study(folder))) if chart.section == "behaviour"}
    for key in ("update-ratio", "update-ratio-2"):
        assert still[key].y.log
        assert still[key].series[0].y[-1] == 0 < min(still[key].series[0].y[:-1])
        ticks = plotly_figure(still[key])["layout"]["yaxis"]["tickvals"]
        assert 0 < min(ticks) < min(still[key].series[0].y[:-1]) < max(ticks)
    drawing = matplotlib_figure(Figure("alone", (still["update-ratio"],)))
    assert drawing.axes[0].get_ylim()[0] > 1e-4


def test_every_layer_can_be_chosen(moved: Findings, charts: dict[str, Chart]) -> None:
    assert moved.behaviour.layers == (WHOLE, "in.weight", "in.bias")
    norms = [chart for chart in charts.values() if chart.title == "Gradient norm"]
    assert [chart.choice for chart in norms] == [WHOLE, "in.weight", "in.bias"]
    assert [chart.printed for chart in norms] == [True, False, False]


def test_of_many_layers_the_largest_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    names = tuple(f"layer{number}" for number in range(MOST_LAYERS + 5))
    shown = findings(read_study(with_samples(tmp_path, names))).behaviour
    assert shown.layers == (WHOLE, *names[5:])
    assert shown.hidden == 5


def test_the_page_has_the_section_only_with_samples(moved: Findings, tuned: Findings) -> None:
    pages = [render_page(each, build_charts(each), all_tables(each)) for each in (moved, tuned)]
    assert ['id="behaviour"' in page for page in pages] == [True, False]
    assert ['href="#behaviour"' in page for page in pages] == [True, False]
    assert "<option>in.weight</option>" in pages[0]


def test_exports_have_every_sample_and_every_logged_figure(moved_folder: Path, moved: Findings, tmp_path: Path) -> None:
    export(moved_folder, ["csv"], tmp_path)
    with (tmp_path / "behaviour.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(3 * len(trial.samples) for trial in moved.study.trials) > 0
    whole = [row for row in rows if not row["parameter"]]
    assert {float(row["gradient_norm"]) for row in whole if row["seed"] == "2"} == {step + 1.0 for step in SAMPLED}
    assert {math.isnan(float(row["cosine"])) for row in whole if row["step"] == "2"} == {True}
    with (tmp_path / "logs.csv").open(newline="") as file:
        assert {(row["figure"], row["step"]) for row in csv.DictReader(file)} == {("sharpness", "24")}
