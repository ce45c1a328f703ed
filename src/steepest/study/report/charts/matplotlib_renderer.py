"""Figure-data -> matplotlib figures for papers (PNG, SVG). Object interface only; global settings stay as they are."""

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as Drawing
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from steepest.study.report.charts.chart import Axis, Chart, Figure, Guide, Interval, Series, Values
from steepest.study.report.charts.palette import SeriesStyle
from steepest.study.report.names import folded

INK = "#22262c"
QUIET = "#667085"
LABEL_LENGTH = 28
SIGNS_PER_INCH = 13
FINE_UP_TO = 3000.0
STYLE: Any = {
    "font.family": ["sans-serif"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#98a2b3",
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e4e7ec",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "text.parse_math": False,
    "text.usetex": False,
    "legend.frameon": False,
    "svg.hashsalt": "steepest",
    "svg.fonttype": "path",
    "figure.dpi": 100,
}
DASHES: dict[str, Any] = {"solid": "-", "dash": (0, (5, 2)), "dashdot": (0, (5, 1.6, 1, 1.6)), "dot": (0, (1.4, 1.4))}
MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "triangle-down": "v",
    "pentagon": "p",
    "star": "*",
    "hexagon": "h",
    "triangle-left": "<",
    "x": "X",
    "triangle-right": ">",
}


def figure_images(figure: Figure, *, kinds: Sequence[str] = ("png", "svg"), dpi: int = 160) -> dict[str, bytes]:
    """Return the figure's image by kind, ``png`` and ``svg``; equal data give equal bytes."""
    with own_style():
        drawing = draw(figure)
        engine = drawing.get_layout_engine()
        if engine is not None:
            engine.execute(drawing)
        drawing.set_layout_engine(None)  # the layout stands; with an engine every format is laid out and drawn twice
        return {kind: _saved(drawing, kind, dpi) for kind in kinds}


@contextmanager
def own_style() -> Iterator[None]:
    """Apply our settings while drawing, without a warning for a letter that the font lacks (drawn as a box)."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def draw(figure: Figure) -> Drawing:
    """Return the figure as matplotlib's, which pyplot does not know; call it inside `own_style`."""
    columns = min(len(figure.charts), 2)
    rows = -(-len(figure.charts) // columns)
    drawing = Drawing(figsize=_size(figure, rows, columns), layout="constrained")
    FigureCanvasAgg(drawing)
    grid = drawing.subplots(rows, columns, squeeze=False).ravel()
    for axes, chart in zip(grid, figure.charts, strict=False):
        _draw_chart(axes, chart)
    for axes in grid[len(figure.charts) :]:
        axes.set_axis_off()
    if not figure.charts[0].y.ticks:
        _legend(drawing, figure, columns)
    return drawing


def _size(figure: Figure, rows: int, columns: int) -> tuple[float, float]:
    ticks = len(figure.charts[0].y.ticks)
    if ticks:
        row = max(0.34, 0.17 * figure.charts[0].y.tick_lines + 0.06)
        return 6.4, max(row * ticks + 1.0, 2.0)
    styles = _styles(figure)
    lines = max((folded(label, LABEL_LENGTH).count("\n") + 1 for label in styles), default=1)
    legend_rows = -(-len(styles) // _legend_columns(styles, columns))
    return _width(columns), (2.6 if columns > 1 else 3.4) * rows + (0.06 + 0.16 * lines) * legend_rows


def _width(columns: int) -> float:
    return 8.6 if columns > 1 else 6.4


def _draw_chart(axes: Axes, chart: Chart) -> None:
    axes.set_title(chart.title)
    axes.set_xlabel(chart.x.title)
    axes.set_ylabel(chart.y.title if chart.y.title != chart.title else "")
    for guide in chart.guides:
        _draw_guide(axes, guide)
    for series in chart.series:
        _draw_series(axes, series)
    _scale(axes, chart.x, "x")
    _scale(axes, chart.y, "y")


def _draw_guide(axes: Axes, guide: Guide) -> None:
    if guide.is_line:
        axes.axvline(guide.low, color=QUIET, linewidth=1.2, zorder=1)
    else:
        axes.axvspan(guide.low, guide.high, color=QUIET, alpha=0.12, linewidth=0, zorder=0)


def _draw_series(axes: Axes, series: Series) -> None:
    if series.kind == "line":
        _draw_line(axes, series)
        return
    marker, size, alpha, bar = {
        "dots": (MARKERS[series.style.marker], 5.0, 0.6, 0.0),
        "mean": (MARKERS[series.style.marker], 9.0, 1.0, 1.6),
        "tick": ("|", 15.0, 1.0, 8.0),
        "stop": ("x", 9.0, 1.0, 0.0),
        "interval": (MARKERS[series.style.marker], 8.0, 1.0, 7.0),
        "chosen": ("o", 13.0, 1.0, 0.0),
        "defaults": (MARKERS[series.style.marker], 8.0, 1.0, 0.0),
    }[series.kind]
    hollow = series.kind in ("chosen", "defaults")
    colour = series.style.light
    points = axes.errorbar(
        series.x,
        series.y,
        xerr=_bars(series.x, series.reach),
        yerr=_bars(series.y, series.band),
        fmt=marker,
        color=colour,
        ecolor=to_rgba(colour, 0.28 if series.kind in ("tick", "interval") else 1.0),
        elinewidth=bar,
        markersize=size,
        alpha=None if alpha == 1 else alpha,
        markeredgewidth=2.2 if marker in "|x" else 1.6 if hollow else 0.0,
        markerfacecolor="none" if hollow else colour,
        zorder=4 if series.kind == "dots" else 3,
    )
    points[0].set_gid(f"{series.kind}:{series.label}")


def _draw_line(axes: Axes, series: Series) -> None:
    if series.band is not None:
        low, high = series.band
        axes.fill_between(series.x, low, high, color=series.style.light, alpha=0.13, linewidth=0)
    axes.plot(
        series.x,
        series.y,
        color=series.style.light,
        linestyle=DASHES[series.style.dash],
        linewidth=1.6,
        marker=MARKERS[series.style.marker],
        markersize=4.5,
        markevery=max(len(series.x) // 10, 1),
        gid=f"line:{series.label}",
    )


def _bars(centre: Values, ends: Interval | None) -> list[list[float]] | None:
    if ends is None:
        return None
    below = [at - low for low, at in zip(ends[0], centre, strict=True)]
    above = [high - at for high, at in zip(ends[1], centre, strict=True)]
    return [below, above]


def _scale(axes: Axes, axis: Axis, name: str) -> None:
    line = axes.xaxis if name == "x" else axes.yaxis
    if axis.log:
        set_scale = axes.set_xscale if name == "x" else axes.set_yscale
        set_scale("log", nonpositive="mask")
        low, high = axis.bounds or line.get_data_interval()
        fine = low > 0 and high / low < FINE_UP_TO
        line.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if fine else (1,)))
        line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        line.set_minor_formatter(NullFormatter())
    if axis.integer:
        line.set_major_locator(MaxNLocator(nbins=8, integer=True))
    if axis.bounds is not None:
        axes.set(**{f"{name}lim": axis.bounds})
    if axis.ticks:
        positions, names = zip(*axis.ticks, strict=True)
        line.set_ticks(positions, labels=names)
        axes.set(**{f"{name}lim": (min(positions) - 0.6, max(positions) + 0.6)})
        axes.tick_params(axis="y", length=0, labelcolor=INK)


def _legend(drawing: Drawing, figure: Figure, columns: int) -> None:
    """Draw one legend for all charts. Texts are set afterwards: labels with a leading underscore would vanish."""
    styles = _styles(figure)
    handles = [_handle(style) for style in styles.values()]
    names = [f"series {index}" for index in range(len(handles))]
    if not handles:
        return
    ncols = _legend_columns(styles, columns)
    legend: Legend = drawing.legend(handles, names, loc="outside lower center", ncols=ncols, handlelength=3)
    for text, label in zip(legend.get_texts(), styles, strict=True):
        text.set_text(folded(label, LABEL_LENGTH))


def _legend_columns(styles: Iterable[str], columns: int) -> int:
    """Return how many entries of the legend stand in a row."""
    longest = min(max(map(len, styles), default=0), LABEL_LENGTH)
    return min(max(int(SIGNS_PER_INCH * _width(columns)) // (longest + 7), 1), 5)


def _styles(figure: Figure) -> dict[str, SeriesStyle]:
    return {series.label: series.style for chart in figure.charts for series in chart.series if series.x}


def _handle(style: SeriesStyle) -> Any:
    return Line2D([], [], color=style.light, linestyle=DASHES[style.dash], marker=MARKERS[style.marker], markersize=5)


def _saved(drawing: Drawing, kind: str, dpi: int) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    drawing.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()
