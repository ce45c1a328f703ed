"""Parts of all figures: the surface from above, the paths on it, the values over the evaluations, the legend."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from steepest.landscapes.paths import Array
from steepest.landscapes.plane import heights
from steepest.landscapes.records import Path, Paths, value_curve
from steepest.study.report.charts import palette
from steepest.study.report.charts.matplotlib_renderer import DASHES, INK, MARKERS, QUIET
from steepest.study.report.charts.palette import SeriesStyle, Styles

GROUND: Final = LinearSegmentedColormap.from_list("ground", ("#ffffff", "#dfe7ee", "#a9bac8"))
GRID: Final = 241
LEVELS: Final = 16
DECADES: Final = 2.5
"""Values that span more decades than this are drawn on a logarithmic scale."""
MARKS: Final = 8
"""Markers on every path, at equal counts of evaluations."""


def styles_of(traced: Paths) -> Styles:
    """Return the style of every optimizer that has a path."""
    return palette.styles_of({path.label: path.config["name"] for path in traced.paths})


def draw_ground(axes: Axes, traced: Paths) -> None:
    """Draw the surface from above, its minima and the starts; for a surface of one number the axes of its history."""
    axes.grid(visible=False)
    if traced.plane is None:
        draw_history(axes, traced)
        return
    plane, window = traced.plane, traced.window
    x, y, values = heights(traced.surface, plane, window, GRID)
    draw_contours(axes, x, y, values, traced.surface.floor)
    for points, look in ((traced.surface.minima, MINIMUM), (traced.starts, START)):
        if points:
            axes.plot(*plane.coordinates(np.array(points)).T, **look)
    axes.set(xlim=window[0], ylim=window[1])
    axes.set_xlabel(plane.names[0])
    axes.set_ylabel(plane.names[1], labelpad=2)
    if traced.surface.size == 2:
        axes.set_aspect("equal", adjustable="box")


def draw_history(axes: Axes, traced: Paths) -> None:
    """Draw the minimum and the start of a surface of one number over the evaluations."""
    for minimum in traced.surface.minima:
        axes.axhline(minimum[0], color=QUIET, linewidth=1.0, linestyle=":", zorder=1)
        axes.plot([traced.budget], minimum, **MINIMUM)
    for start in traced.starts:
        axes.plot([0], start, **START)
    axes.set_xlabel("gradient evaluations")
    axes.set_ylabel("x", labelpad=2)


MINIMUM: Final[dict[str, Any]] = {
    "linestyle": "none",
    "marker": "*",
    "markersize": 12,
    "markerfacecolor": "#ffd23f",
    "markeredgecolor": INK,
    "markeredgewidth": 0.8,
    "zorder": 6,
    "gid": "minimum",
}
START: Final[dict[str, Any]] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 8,
    "markerfacecolor": "white",
    "markeredgecolor": INK,
    "markeredgewidth": 1.6,
    "zorder": 6,
    "gid": "start",
}


def draw_contours(axes: Axes, x: Array, y: Array, values: Array, floor: float | None) -> None:
    """Draw values on a grid as filled contours, with levels that are denser where the surface is low.

    Levels are in equal ratios above the minimum where the values span decades, else in equal steps.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return
    above = values - (float(finite.min()) if floor is None else floor)
    levels, norm = levels_of(above[np.isfinite(above)])
    if len(levels) < 2:
        return
    shown = np.ma.masked_invalid(np.clip(above, levels[0], levels[-1]))
    axes.set_rasterization_zorder(0.25)  # an image in SVG and PDF, else a megabyte of outlines
    axes.contourf(x, y, shown, levels=levels, norm=norm, cmap=GROUND, zorder=0)
    axes.contour(x, y, shown, levels=levels[1:-1], colors="#8fa3b5", linewidths=0.5, zorder=0.5)


def levels_of(above: Array) -> tuple[Array, Normalize]:
    """Return levels for heights above the minimum, and the scale of their colours."""
    top, bottom = float(above.max()), float(np.quantile(above, 0.003))
    if bottom > 0 and top > 0 and math.log10(top / bottom) > DECADES / 2:
        levels = np.geomspace(max(bottom, top * 1e-6), top, LEVELS)
        return levels, LogNorm(levels[0], levels[-1])
    levels = np.unique(np.linspace(float(above.min()), top, LEVELS))
    return levels, Normalize(levels[0], levels[-1])


def marks(path: Path, budget: int) -> list[int]:
    """Return the places on a path that it had reached after equal counts of evaluations, and its end."""
    counts = [budget * part / MARKS for part in range(1, MARKS + 1)]
    reached = np.searchsorted(path.evaluations, counts, side="right") - 1
    return sorted({*(int(place) for place in reached), len(path.values) - 1} - {0})


def draw_path(axes: Axes, path: Path, style: SeriesStyle, budget: int, until: float = math.inf) -> list[Artist]:
    """Draw a path on the surface, as far as a count of evaluations."""
    length = int(np.searchsorted(path.evaluations, until, side="right"))
    shown = [place for place in marks(path, budget) if place < length]
    points = path.plane[:length]
    is_lost = path.is_lost and length == len(path.values)
    end = axes.plot(
        *points[-1],
        marker="X" if is_lost else MARKERS[style.marker],
        markersize=9 if is_lost else 7.5,
        color=style.light,
        markeredgecolor="white",
        markeredgewidth=0.9,
        zorder=5,
        gid=f"end:{path.label}",
    )
    return [*_draw_line(axes, points, style, shown, f"path:{path.label}"), *end]


def _draw_line(axes: Axes, points: Array, style: SeriesStyle, shown: list[int], gid: str) -> list[Artist]:
    """Draw a dashed line over a pale one, which connects the dashes where a path goes to and fro."""
    pale = axes.plot(*points.T, color=style.light, alpha=0.3, linewidth=1.3, zorder=3)
    return [*pale, *axes.plot(*points.T, **_line(style), markevery=shown, zorder=4, gid=gid)]


def _line(style: SeriesStyle) -> dict[str, Any]:
    return {
        "color": style.light,
        "linestyle": DASHES[style.dash],
        "linewidth": 1.3,
        "marker": MARKERS[style.marker],
        "markersize": 5.0,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    }


def draw_value(axes: Axes, path: Path, style: SeriesStyle, traced: Paths, until: float = math.inf) -> list[Artist]:
    """Draw the value of a path over the evaluations, as far as a count of them."""
    length = int(np.searchsorted(path.evaluations, until, side="right"))
    points = np.stack([path.evaluations, value_curve(path, traced.surface.floor)], axis=1)
    shown = [place for place in marks(path, traced.budget) if place < length]
    return _draw_line(axes, points[:length], style, shown, f"value:{path.label}")


def scale_values(axes: Axes, traced: Paths) -> None:
    """Give the axes of the values titles and scales, logarithmic where the values span decades."""
    floor = traced.surface.floor
    axes.set_xlabel("gradient evaluations")
    axes.set_title("value" if floor is None else "value above the minimum")
    axes.set_xlim(0, traced.budget)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    _scale(axes, *limits_of([value_curve(path, floor) for path in traced.paths]))


def limits_of(curves: Sequence[Array]) -> tuple[bool, float, float]:
    """Return whether curves are drawn on a logarithmic scale, as where they span decades, and its ends.

    The largest values are left out where they would flatten all others.
    """
    if not curves:
        return False, 0.0, 1.0
    lowest, highest = min(float(c.min()) for c in curves), max(float(c.max()) for c in curves)
    start = max(float(c[0]) for c in curves)
    if lowest > 0 and math.log10(highest / lowest) > DECADES:
        return True, lowest / 2, min(highest, 1e4 * start) * 2
    margin = 0.05 * (highest - lowest) or 1.0
    return False, lowest - margin, highest + margin


def _scale(axes: Axes, is_log: bool, low: float, high: float) -> None:
    """Give the axes of the values their scale."""
    if is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(base=10, numticks=9))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(low, high)


def handles(traced: Paths, styles: Styles) -> tuple[list[Line2D], list[str]]:
    """Return the entries of the legend: the optimizers with their rates, then the start and the minimum."""
    lines = [Line2D([], [], **_line(style)) for style in styles.values()]
    words = [entry(label, [path for path in traced.paths if path.label == label]) for label in styles]
    signs: Sequence[tuple[dict[str, Any], str]] = [(START, "start")]
    if traced.surface.minima:
        signs = [*signs, (MINIMUM, "minimum" if len(traced.surface.minima) == 1 else "minima")]
    for look, name in signs:
        lines.append(Line2D([], [], **{key: value for key, value in look.items() if key not in ("gid", "zorder")}))
        words.append(name)
    return lines, words


def entry(label: str, paths: Sequence[Path]) -> str:
    """Return the legend's words on an optimizer: its label, its rate, and how its paths ended before their time."""
    ended = dict.fromkeys(path.ended if path.is_lost else "stops early" for path in paths if path.ended)
    return ", ".join([label, paths[0].choice.words, *ended])
