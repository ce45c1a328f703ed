import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
import pytest
from drawn import chart_named, matplotlib_figure
from hypothesis import given
from hypothesis import strategies as st
from raw_records import Records, mean_and_deviation, raw_trials
from synthetic_study import MIXED, MORE, NINE, TUNED, Plan, write_study

from steepest import registry
from steepest.study.report.charts import plotly_renderer
from steepest.study.report.charts.chart import Chart, Figure, Kind, Series, printed_figures
from steepest.study.report.charts.charts import build_charts
from steepest.study.report.charts.downsampling import bucket_means, thin
from steepest.study.report.charts.matplotlib_renderer import figure_images
from steepest.study.report.charts.palette import DARK, DASHES, LIGHT, MARKERS, style_of, styles_of, swatch
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.stored.reader import read_study
from steepest.study.report.stored.study import Array, Study


def plotly_figure(chart: Chart) -> go.Figure:
    """The page's plain data, checked by plotly's own classes: they refuse what plotly.js would not know."""
    return go.Figure(plotly_renderer.plotly_figure(chart))


def _charts(study: Study) -> tuple[Chart, ...]:
    return build_charts(findings(study))


@pytest.fixture(scope="module")
def charts(mixed: Study) -> tuple[Chart, ...]:
    return _charts(mixed)


def _line(chart: Chart, label: str) -> Series:
    return next(series for series in chart.series if series.label == label and series.kind == "line")


def test_every_chart_has_its_own_key(charts: tuple[Chart, ...]) -> None:
    keys = [chart.key for chart in charts]
    assert len(set(keys)) == len(keys) >= 18


@pytest.mark.parametrize("key", ["train_loss", "train_accuracy", "validation_accuracy", "validation_loss"])
def test_learning_curves_equal_the_raw_records(charts: tuple[Chart, ...], mixed_folder: Path, key: str) -> None:
    raw = raw_trials(mixed_folder)
    for axis, label in itertools.product(("epochs", "steps", "seconds"), NINE):
        line = _line(chart_named(charts, f"{key.replace('_', '-')}-over-{axis}"), label)
        expected = _raw_curve(raw[label], key, axis)
        assert line.x == pytest.approx([x for x, *_ in expected])
        assert line.y == pytest.approx([mean for _, mean, _ in expected])
        if line.band:
            assert line.band[1] == pytest.approx([mean + (sd or 0) for _, mean, sd in expected])


def _raw_curve(
    seeds: dict[int, tuple[Records, Records]], key: str, axis: str
) -> list[tuple[float, float, float | None]]:
    points: dict[int, list[tuple[float, float]]] = {}
    for records, times in seeds.values():
        seconds = {record["epoch"]: record["train_seconds"] for record in times if record["kind"] == "epoch"} | {0: 0.0}
        for record in records:
            if record["kind"] == "epoch" and key in record:
                place = {"epochs": record["epoch"], "steps": record["step"], "seconds": seconds[record["epoch"]]}
                points.setdefault(record["epoch"], []).append((place[axis], record[key]))
    curve = []
    for _, pairs in sorted(points.items()):
        mean, deviation = mean_and_deviation([value for _, value in pairs])
        assert mean is not None
        curve.append((sum(x for x, _ in pairs) / len(pairs), mean, deviation))
    return curve


def test_the_step_curve_equals_the_raw_records_where_nothing_is_smoothed(
    charts: tuple[Chart, ...], mixed_folder: Path
) -> None:
    seeds = raw_trials(mixed_folder)["RMSProp"].values()
    by_step: dict[int, list[float]] = {}
    for record in (record for records, _ in seeds for record in records if record["kind"] == "step"):
        if isinstance(record["loss"], float):
            by_step.setdefault(record["step"], []).append(record["loss"])
    line = _line(chart_named(charts, "training-loss-per-step"), "RMSProp")
    assert line.x == pytest.approx(sorted(by_step))
    assert line.y == pytest.approx([sum(by_step[step]) / len(by_step[step]) for step in sorted(by_step)])
    assert line.notes[0].endswith("over 3 seeds")
    assert line.notes[-1].endswith("over 2 seeds")


def test_a_diverged_trial_is_marked_where_it_was_last_finite(charts: tuple[Chart, ...]) -> None:
    stops = [series for series in chart_named(charts, "training-loss-per-step").series if series.kind == "stop"]
    assert [(stop.label, stop.x) for stop in stops] == [("RMSProp", (15.0,))]
    assert stops[0].notes == ("seed 1 diverged: loss is nan at step 16",)


def test_every_finished_seed_is_a_dot_and_missing_ones_are_counted(charts: tuple[Chart, ...], mixed: Study) -> None:
    chart = chart_named(charts, "every-seed")
    dots = {series.label: series for series in chart.series if series.kind == "dots"}
    for label in NINE:
        values = [trial.final["test_accuracy"] for trial in mixed.trials_of(label) if trial.finished]
        assert dots[label].x == pytest.approx(values)
    names = [name for _, name in chart.y.ticks]
    assert len(names) == 9
    assert {"RMSProp (2 of 3)", "NAdam (1 of 3)", "Adam"} <= set(names)
    assert chart.note.endswith(" A × at the edge is a seed without a finite result; it counts as the worst.")


def test_a_mean_is_drawn_from_two_seeds_on(charts: tuple[Chart, ...]) -> None:
    ticks = {series.label for series in chart_named(charts, "every-seed").series if series.kind == "tick"}
    assert ticks == set(NINE) - {"NAdam"}


def test_the_best_row_is_the_highest(charts: tuple[Chart, ...]) -> None:
    means = [(series.y[0], series.x[0]) for series in chart_named(charts, "every-seed").series if series.kind == "tick"]
    assert [mean for _, mean in sorted(means)] == sorted(mean for _, mean in means)


def test_a_single_seed_has_no_band(study: Callable[[Plan], Study]) -> None:
    found = _charts(study(Plan(labels=("Adam", "SGD"), seeds=1)))
    assert all(series.band is None and series.reach is None for chart in found for series in chart.series)


def test_the_frame_looks_past_the_untrained_network(charts: tuple[Chart, ...]) -> None:
    chart = chart_named(charts, "validation-accuracy-over-epochs")
    assert chart.y.bounds is not None
    assert chart.x.bounds is not None
    lines = [series for series in chart.series if series.x]
    trained = [y for line in lines for x, y in zip(line.x, line.y, strict=True) if x > 0]
    assert chart.y.bounds[0] < min(trained) <= max(trained) < chart.y.bounds[1]
    assert all(line.y[0] < chart.y.bounds[0] for line in lines)


def test_one_epoch_shows_the_untrained_network(study: Callable[[Plan], Study]) -> None:
    chart = chart_named(_charts(study(Plan(labels=("Adam",), epochs=1))), "validation-loss-over-epochs")
    assert chart.y.bounds is None
    assert chart.series[0].x == (0.0, 1.0)


@pytest.mark.parametrize(
    "plan", [MIXED, TUNED, Plan(labels=MORE[:12], seeds=2), Plan(labels=("Adam",), seeds=1, epochs=1)]
)
def test_plotly_draws_every_series(plan: Plan, tmp_path: Path) -> None:
    for chart in _charts(read_study(write_study(tmp_path, plan))):
        traces = [trace for trace in plotly_figure(chart).data if trace.meta["role"] != "band"]
        assert len(traces) == len(chart.series)
        for trace, series in zip(traces, chart.series, strict=True):
            assert (trace.meta["series"], trace.meta["role"]) == (series.label, series.kind)
            assert list(trace.x) == list(series.x)
            assert list(trace.y) == list(series.y)
        bands = [trace for trace in plotly_figure(chart).data if trace.meta["role"] == "band"]
        banded = [series for series in chart.series if series.kind == "line" and series.band]
        for trace, series in zip(bands, banded, strict=True):
            assert series.band is not None
            assert list(trace.y) == [*series.band[1], *reversed(series.band[0])]


def test_matplotlib_draws_every_series(charts: tuple[Chart, ...], tuned: Findings) -> None:
    kinds = set()
    for figure in (*printed_figures(charts), *printed_figures(build_charts(tuned))):
        for axes, chart in zip(matplotlib_figure(figure).axes, figure.charts, strict=True):
            drawn = {line.get_gid(): line for line in axes.lines if line.get_gid()}
            assert len(drawn) == len(chart.series)
            for series in chart.series:
                line = drawn[f"{series.kind}:{series.label}"]
                assert list(np.asarray(line.get_xdata(), float)) == list(series.x)
                assert list(np.asarray(line.get_ydata(), float)) == list(series.y)
                kinds.add(series.kind)
            stripes = [patch for patch in axes.patches if patch.get_gid() is None]
            assert len(stripes) == sum(not guide.is_line for guide in chart.guides)
            assert axes.get_title(loc="left") == chart.title
            assert axes.get_xlabel() == chart.x.title
    assert kinds == set(get_args(Kind))


def test_every_chart_is_in_exactly_one_figure(charts: tuple[Chart, ...]) -> None:
    shown = [chart for chart in charts if not chart.empty and not chart.key.endswith("-over-steps")]
    printed = [chart.key for figure in printed_figures(charts) for chart in figure.charts]
    assert sorted(printed) == sorted(chart.key for chart in shown)


def test_global_matplotlib_settings_stay_untouched(charts: tuple[Chart, ...]) -> None:
    before = dict(dict.items(mpl.rcParams))  # plainly read: asking for "backend" by name would already settle it
    figure_images(printed_figures(charts)[0])
    assert dict(dict.items(mpl.rcParams)) == before


def test_equal_figures_are_equal_bytes(charts: tuple[Chart, ...]) -> None:
    figure = printed_figures(charts)[0]
    assert figure_images(figure) == figure_images(figure)


def test_hostile_labels_reach_the_legend_as_they_are() -> None:
    labels = ("_hidden", "$x^2$ & 100%", "a|b", "\\frac{1}")
    series = tuple(Series(label, style_of(index), "line", (0.0, 1.0), (1.0, 2.0)) for index, label in enumerate(labels))
    chart = _simple_chart(series)
    figure = Figure("key", (chart,))
    assert [text.get_text() for text in matplotlib_figure(figure).legends[0].get_texts()] == list(labels)
    assert set(figure_images(figure)) == {"png", "svg"}


def _simple_chart(series: tuple[Series, ...]) -> Chart:
    from steepest.study.report.charts.chart import Axis

    return Chart("seeds", "key", "title", Axis("x"), Axis("y"), series, "note", "alt")


def test_the_first_36_series_look_different() -> None:
    assert len({(style_of(index).light, style_of(index).dash) for index in range(36)}) == 36
    assert len({style_of(index) for index in range(36)}) == 36


def test_an_optimizer_has_one_colour_in_all_figures() -> None:
    alone = {name: styles_of({name: name})[name] for name in registry.built_in()}
    for every in (
        ("sgd", "adam", "adamw", "lion"),
        ("lion", "adam", "sgd"),
        ("muon", "rmsprop", "adagrad", "momentum"),
    ):
        styles = styles_of({name: name for name in every})
        wanted = [alone[name].light for name in every]
        for place, name in enumerate(every):
            assert (styles[name].light == wanted[place]) == (wanted[place] not in wanted[:place]), name
    spelled = styles_of({"SGD": "torch.optim:SGD", "mine": "./my_file.py:Adam"})
    assert [style.light for style in spelled.values()] == [alone["sgd"].light, alone["adam"].light]


def test_optimizers_of_one_figure_are_told_apart() -> None:
    names = list(registry.built_in())
    for place in range(len(names) - 9):
        styles = styles_of({name: name for name in names[place : place + 9]}).values()
        assert len({style.light for style in styles}) == len({style.marker for style in styles}) == 9
    for many in ({str(place): "adam" for place in range(36)}, {name: name for name in names[:36]}):
        styles = styles_of(many)
        assert list(styles) == list(many)
        assert len({(style.light, style.dash) for style in styles.values()}) == 36


def test_every_look_has_a_swatch() -> None:
    assert all("<svg" in swatch(style_of(index)) for index in range(len(DASHES) * len(MARKERS)))


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_stay_apart_for_colour_blind_readers(palette: tuple[str, ...], vision: str) -> None:
    seen = [_oklab(np.clip(np.asarray(VISION[vision]) @ _linear(colour), 0, 1)) for colour in palette]
    assert min(math.dist(one, two) for one, two in itertools.combinations(seen, 2)) > 0.045


def _linear(colour: str) -> Array:
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def _oklab(linear: Array) -> tuple[float, ...]:
    to_cone = [[0.4122215, 0.5363325, 0.0514460], [0.2119035, 0.6806995, 0.1073970], [0.0883025, 0.2817188, 0.6299787]]
    to_lab = [
        [0.2104543, 0.7936178, -0.0040720],
        [1.9779985, -2.4285922, 0.4505937],
        [0.0259040, 0.7827718, -0.8086758],
    ]
    return tuple(np.asarray(to_lab) @ np.cbrt(np.asarray(to_cone) @ linear))


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=2000), st.integers(4, 400))
def test_thinning_keeps_ends_extremes_and_the_limit(values: list[float], limit: int) -> None:
    y = np.array(values)
    kept = thin(y, limit)
    assert len(kept) <= max(limit, 4)
    assert kept[0] == 0
    assert kept[-1] == len(y) - 1
    assert np.all(np.diff(kept) > 0) or len(kept) == 1
    assert y[kept].min() == y.min()
    assert y[kept].max() == y.max()


def test_thinning_passes_over_what_is_not_finite() -> None:
    y = np.full(1000, np.nan)
    y[500] = 1.0
    assert 500 in thin(y, 20)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=1500), st.integers(1, 200))
def test_bucket_means_count_every_value_once(values: list[float], limit: int) -> None:
    y = np.array(values)
    x = np.arange(1.0, len(y) + 1)
    mean_x, mean_y = bucket_means(x, y, limit)
    width = math.ceil(len(y) / limit)
    assert len(mean_y) == math.ceil(len(y) / width) <= limit
    parts = [values[start : start + width] for start in range(0, len(values), width)]
    assert mean_y == pytest.approx([sum(part) / len(part) for part in parts], rel=1e-9, abs=1e-6)
    assert np.all(np.diff(mean_x) > 0)


def test_bucket_means_leave_out_what_is_not_finite() -> None:
    _, means = bucket_means(np.arange(4.0), np.array([1.0, np.nan, np.nan, np.inf]), 2)
    assert means[0] == 1.0
    assert np.isnan(means[1])


def test_a_study_without_any_evaluation_has_charts(found: Callable[[Plan], Findings]) -> None:
    ends = {("Adam", seed): "failed" for seed in range(2)}
    its = found(Plan(labels=("Adam",), seeds=2, ends=ends, targets=(0.5,)))
    for figure in printed_figures(build_charts(its)):
        matplotlib_figure(figure)


def test_long_curves_are_shortened_to_what_a_screen_shows(study: Callable[[Plan], Study]) -> None:
    found = _charts(study(Plan(labels=("Adam",), seeds=2, epochs=900, steps_per_epoch=2)))
    assert len(_line(chart_named(found, "train-loss-over-epochs"), "Adam").x) <= 400
    assert len(_line(chart_named(found, "training-loss-per-step"), "Adam").x) <= 200
