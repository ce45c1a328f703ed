"""Figures of maps: basins by colour, speed by shade."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from steepest.landscapes.declaration import Surface
from steepest.landscapes.figures import parts, pictures
from steepest.landscapes.maps import LOST, BasinMap, SpeedMap
from steepest.landscapes.paths import Array
from steepest.landscapes.plane import heights, plane_of
from steepest.landscapes.records import TARGET
from steepest.landscapes.sources import spelled
from steepest.study.report.charts.matplotlib_renderer import own_style
from steepest.study.report.charts.palette import style_of

COLUMNS: Final = 3
WIDE: Final = 30.0
"""Another option whose values differ by more than this factor is drawn on a logarithmic scale."""
NOWHERE: Final = "#dfe3e8"
GONE: Final = "#22262c"
LINES: Final = 121
"""Values along each side for the contour lines."""
PALEST: Final = 0.75
"""The share of white where a path takes the whole budget."""


def basins_figure(
    surface: Surface, maps: Sequence[BasinMap], skipped: Sequence[tuple[str, str]], budget: int
) -> Figure:
    """Return a figure with a map for each optimizer."""
    notes = [f"{label} skipped: {reason}" for label, reason in skipped]
    notes.append(f"Strong colour: near the minimum after few evaluations; pale: after up to {budget}.")
    notes += [f"{each.label}: {_starts(each)}" for each in maps]
    with own_style():
        made, panels = _panels(len(maps), f"Where paths end: {surface.title}")
        for axes, each in zip(panels, maps, strict=False):
            _draw_basins(axes, surface, each, budget)
        signs = [(style_of(place).light, f"ends at {spelled(point)}") for place, point in enumerate(surface.minima)]
        signs += [(NOWHERE, "ends elsewhere"), (GONE, "not finite, or too large")]
        lines, words = _patches(signs)
        pictures.write_below(made, lines, words, _folded(notes))
    return made


def _starts(each: BasinMap) -> str:
    how = "all at once" if each.is_together else "one by one"
    return f"{each.choice.words}; {len(each.x)} x {len(each.y)} starts, {how}"


def _panels(count: int, title: str) -> tuple[Figure, list[Axes]]:
    columns = min(max(count, 1), COLUMNS)
    rows = -(-max(count, 1) // columns)
    made = pictures.empty(10.4 if columns > 1 else 6.4, 3.5 * rows + 1.5)
    panels = list(made.subplots(rows, columns, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.set_axis_off()
    made.suptitle(textwrap.fill(title, 100 if columns > 1 else 62), x=0.01, ha="left", fontsize=11, fontweight="bold")
    return made, panels


def _draw_basins(axes: Axes, surface: Surface, each: BasinMap, budget: int) -> None:
    plane, window = plane_of(surface, []), surface.window
    assert plane is not None
    assert window is not None
    colours = basin_colours(each, budget)
    axes.imshow(colours, origin="lower", extent=(*window[0], *window[1]), interpolation="nearest", zorder=0)
    x, y, values = heights(surface, plane, window, LINES)
    above = values - (surface.floor or 0.0)
    levels, _ = parts.levels_of(above)
    axes.contour(
        x, y, np.clip(above, levels[0], levels[-1]), levels=levels[1:-1], colors=GONE, linewidths=0.35, alpha=0.5
    )
    axes.plot(*np.array(surface.minima).T, **parts.MINIMUM)
    axes.grid(visible=False)
    axes.set_title(each.label)


def basin_colours(each: BasinMap, budget: int) -> Array:
    """Return the colour (n, n, 3) of every start: that of its minimum, the paler the longer the path took."""
    colours = np.array([to_rgb(style_of(place).light) for place in range(each.minimum.max() + 1)] + [to_rgb(NOWHERE)])
    found: Array = colours[np.where(each.minimum >= 0, each.minimum, len(colours) - 1)]
    share = np.log1p(np.nan_to_num(each.evaluations)) / math.log1p(budget) * PALEST
    found = found + (1 - found) * np.where(each.minimum >= 0, share, 0.0)[..., None]
    found[each.minimum == LOST] = to_rgb(GONE)
    return found


def speeds_figure(maps: Sequence[SpeedMap]) -> Figure:
    """Return a figure with a map for each optimizer, with one scale for all."""
    surface, budget = maps[0].surface, maps[0].budget
    shades = colormaps["viridis_r"].with_extremes(over=NOWHERE, bad=GONE)
    with own_style():
        made, panels = _panels(len(maps), f"How fast: {surface.title}")
        norm = LogNorm(1, budget)
        for axes, each in zip(panels, maps, strict=False):
            shown = np.ma.masked_invalid(np.where(np.isinf(each.evaluations), 2.0 * budget, each.evaluations))
            is_log = each.others[0] > 0 and each.others[-1] / each.others[0] > WIDE
            ends = edges(each.rates, is_log=True), edges(each.others, is_log=is_log)
            mesh = axes.pcolormesh(*ends, shown, norm=norm, cmap=shades)
            _scale(axes, each, is_log)
        bar = made.colorbar(mesh, ax=panels, label="gradient evaluations", extend="neither", aspect=30)
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        note = f"Evaluations until the value is {TARGET:g} of the start's height above the minimum, within {budget}."
        lines, words = _patches([(NOWHERE, "not within the budget"), (GONE, "not finite, or too large")])
        pictures.write_below(made, lines, words, _folded([note]))
    return made


def edges(values: Array, *, is_log: bool) -> Array:
    """Return the ends (n + 1,) of cells around values (n,), half-way between them on their scale."""
    scaled = np.log(values) if is_log else values
    between = (scaled[1:] + scaled[:-1]) / 2
    found = np.concatenate([[2 * scaled[0] - between[0]], between, [2 * scaled[-1] - between[-1]]])
    ends: Array = np.exp(found) if is_log else found
    return ends


def _scale(axes: Axes, each: SpeedMap, is_log: bool) -> None:
    axes.grid(visible=False)
    axes.set(xscale="log", xlabel="rate", ylabel=each.over, title=each.label)
    if is_log:
        axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _patches(signs: Sequence[tuple[str, str]]) -> tuple[list[Line2D], list[str]]:
    look: dict[str, Any] = {"linestyle": "none", "marker": "s", "markersize": 9, "markeredgecolor": "#98a2b3"}
    return [Line2D([], [], color=colour, **look) for colour, _ in signs], [words for _, words in signs]


def _folded(notes: Sequence[str]) -> list[str]:
    return [line for note in notes for line in textwrap.wrap(note, pictures.LETTERS)]
