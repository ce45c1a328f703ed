"""Figure-data -> a plotly figure for the page. Colours are those of the light page; the page's script swaps them."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from steepest.study.report.charts.chart import Axis, Chart, Guide, Interval, Series, Values

Trace = dict[str, Any]
ROW_HEIGHT = 38
LINE_HEIGHT = 16
HEIGHT = 340
BAND_OPACITY = 0.13
BAR_OPACITY = 0.28
GUIDE = "#667085"
FINE_UP_TO = 3000.0
MOST_TICKS = 8
_STROKES = ("line-ns", "x-thin")  # symbols that plotly draws only by their outline


def plotly_figure(chart: Chart) -> dict[str, Any]:
    """Return the chart as plotly's data and layout: a band (where there is one) below its line, or marks.

    Plain data, because plotly's Python classes take a second to import and check every value of every trace; the tests
    let them check what is made here.
    """
    row = max(ROW_HEIGHT, LINE_HEIGHT * chart.y.tick_lines + 8)
    height = max(len(chart.y.ticks) * row + 90, 180) if chart.y.ticks else HEIGHT
    layout = {
        "showlegend": False,
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "hovermode": "closest",
        "xaxis": _axis(chart.x, _framed(chart.x, _drawn(chart, "x"))),
        "yaxis": _axis(chart.y, _framed(chart.y, _drawn(chart, "y"))),
        "shapes": [_shape(guide) for guide in chart.guides],
    }
    return {"data": [trace for series in chart.series for trace in _traces(series, chart)], "layout": layout}


def _shape(guide: Guide) -> dict[str, Any]:
    """Return an upright line or stripe over the whole height; the page's script gives it the colours of its scheme."""
    stripe = {"type": "rect", "fillcolor": tint(GUIDE, 0.1), "line": {"width": 0}}
    line = {"type": "line", "line": {"width": 2, "color": GUIDE}}
    place = {"x0": guide.low, "x1": guide.high, "y0": 0, "y1": 1, "yref": "paper", "layer": "below"}
    return place | (line if guide.is_line else stripe)


def tint(colour: str, opacity: float) -> str:
    """Return a hex colour as rgba.

    >>> tint("#0b6fb8", 0.5)
    'rgba(11,111,184,0.5)'
    """
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _traces(series: Series, chart: Chart) -> list[Trace]:
    if series.kind == "line":
        return [*_band(series), _line(series, chart)]
    return [_marks(series, chart)]


def _band(series: Series) -> list[Trace]:
    if series.band is None:
        return []
    low, high = series.band
    outline = {
        "type": "scatter",
        "x": [*series.x, *reversed(series.x)],
        "y": _finite([*high, *reversed(low)]),
        "mode": "lines",
        "fill": "toself",
        "fillcolor": tint(series.style.light, BAND_OPACITY),
        "line": {"width": 0},
        "hoverinfo": "skip",
        "meta": _meta(series, "band"),
    }
    return [outline]


def _line(series: Series, chart: Chart) -> Trace:
    return _points(series, chart) | {
        "mode": "lines+markers",
        "line": {"color": series.style.light, "width": 2, "dash": series.style.dash},
        "marker": {"color": series.style.light, "symbol": series.style.marker, "size": 7, "maxdisplayed": 12},
        "meta": _meta(series, "line"),
    }


def _marks(series: Series, chart: Chart) -> Trace:
    colour = series.style.light
    size, opacity, symbol, thickness = {
        "dots": (8, 0.7, series.style.marker, 0),
        "mean": (13, 1.0, series.style.marker, 2),
        "tick": (20, 1.0, "line-ns", 11),
        "stop": (9 if chart.y.ticks else 13, 1.0, "x-thin", 0),
        "interval": (13, 1.0, series.style.marker, 10),
        "chosen": (18, 1.0, "circle-open", 0),
        "defaults": (12, 1.0, f"{series.style.marker}-open", 0),
    }[series.kind]
    outlined = symbol in _STROKES or symbol.endswith("-open")
    stroke = {"width": 2.5, "color": colour} if outlined else {"width": 0}
    errors = {
        "error_x": _bars(series.x, series.reach, tint(colour, BAR_OPACITY), thickness),
        "error_y": _bars(series.y, series.band, colour, thickness),
    }
    return _points(series, chart) | {
        "mode": "markers",
        "marker": {"color": colour, "symbol": symbol, "size": size, "opacity": opacity, "line": stroke},
        "meta": _meta(series, series.kind),
        **{name: bars for name, bars in errors.items() if bars is not None},
    }


def _points(series: Series, chart: Chart) -> Trace:
    value = "%{x:.4~g}" if chart.y.ticks else f"%{{y:.4~g}}<br>{html.escape(chart.x.title)} %{{x:,.4~g}}"
    return {
        "type": "scatter",
        "x": list(series.x),
        "y": _finite(series.y),
        "name": html.escape(series.label),
        "customdata": [html.escape(note) for note in series.notes],
        "hovertemplate": f"<b>%{{fullData.name}}</b><br>{value}<br>%{{customdata}}<extra></extra>",
    }


def _bars(centre: Values, ends: Interval | None, colour: str, thickness: float) -> dict[str, Any] | None:
    if ends is None:
        return None
    return {
        "array": [high - at for high, at in zip(ends[1], centre, strict=True)],
        "arrayminus": [at - low for low, at in zip(ends[0], centre, strict=True)],
        "color": colour,
        "thickness": thickness,
        "width": 0,
    }


def _meta(series: Series, role: str) -> dict[str, str]:
    return {"series": series.label, "role": role, "light": series.style.light, "dark": series.style.dark}


def _axis(axis: Axis, values: Values) -> dict[str, Any]:
    """Return plotly's axis. Whole numbers and log axes get our own ticks: plotly's repeat or lose digits."""
    drawn: dict[str, Any] = {
        "title": {"text": html.escape(axis.title), "standoff": 8},
        "type": "log" if axis.log else "linear",
        "automargin": True,
        "zeroline": False,
        "showline": False,
    }
    if axis.integer and values:
        drawn |= {"dtick": _whole_step(max(values) - min(values)), "tickformat": ",d"}
    if axis.log and values:
        drawn |= _named(_log_ticks(min(values), max(values)))
    if values and min(values) == max(values) and not axis.log:
        drawn["range"] = _around(values[0], integer=axis.integer)
    if axis.bounds is not None:
        drawn["range"] = [math.log10(bound) for bound in axis.bounds] if axis.log else list(axis.bounds)
    if axis.ticks:
        drawn |= _named(axis.ticks)
        drawn["range"] = [min(drawn["tickvals"]) - 0.6, max(drawn["tickvals"]) + 0.6]
    return drawn


def _framed(axis: Axis, values: Values) -> Values:
    """Return the values inside the axis's frame, of which its ticks are made; its ends where none is inside.

    A logarithmic axis has no place for zero, and plotly leaves such points out.
    """
    values = tuple(value for value in values if value > 0) if axis.log else values
    if axis.bounds is None:
        return values
    low, high = axis.bounds
    return tuple(value for value in values if low <= value <= high) or axis.bounds


def _around(value: float, *, integer: bool) -> list[float]:
    """Return a frame around a single value, which by itself spans nothing."""
    room = 1.0 if integer else 0.1 * abs(value) or 0.1
    return [value - room, value + room]


def _named(ticks: Sequence[tuple[float, str]]) -> dict[str, Any]:
    return {
        "tickvals": [at for at, _ in ticks],
        "ticktext": [html.escape(name).replace("\n", "<br>") for _, name in ticks],
    }


def _whole_step(span: float) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, ... that needs at most eight steps for the span."""
    sizes = (digit * 10**power for power in range(16) for digit in (1, 2, 5))
    size: int = next(size for size in sizes if span / size <= MOST_TICKS)
    return size


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return 1, 2 and 5 of every decade, or only powers of ten where those would crowd the axis."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    digits = (1, 2, 5) if high / low < FINE_UP_TO else (1,)
    sparse = max(len(powers) // MOST_TICKS, 1)
    return [(digit * 10.0**power, f"{digit * 10.0**power:g}") for power in powers[::sparse] for digit in digits]


def _drawn(chart: Chart, name: str) -> Values:
    return tuple(value for series in chart.series for value in getattr(series, name) if math.isfinite(value))


def _finite(values: Iterable[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
