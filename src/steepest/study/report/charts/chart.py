"""Charts before anything draws them: pure data, read by both renderers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from steepest.study.report.charts.palette import SeriesStyle

Section = Literal["verdicts", "seeds", "curves", "behaviour", "targets", "tuning", "cost", "profiles", "ranks"]
"""The page's sections with room for charts; the last two are those of the page across workloads."""
Kind = Literal["line", "dots", "mean", "tick", "stop", "interval", "chosen", "defaults"]
Values = tuple[float, ...]
Interval = tuple[Values, Values]


@dataclass(frozen=True)
class Axis:
    """Title, scale and frame of one axis. ``ticks`` names positions, ``bounds`` frames a part of the data."""

    title: str
    log: bool = False
    integer: bool = False
    bounds: tuple[float, float] | None = None
    ticks: tuple[tuple[float, str], ...] = ()

    @property
    def tick_lines(self) -> int:
        """The number of lines of the tick name that has the most."""
        return max((name.count("\n") + 1 for _, name in self.ticks), default=1)


@dataclass(frozen=True)
class Series:
    """Points of one optimizer. ``band`` and ``reach`` are low and high values in y and in x; ``notes`` explain points.

    The kinds for trials are a ``line`` with a band, ``dots`` of single trials, and the ``stop`` of a trial without a
    value. A ``mean`` of trials (or a ``tick``, on a row of dots) has error bars. An estimate is drawn with its
    ``interval``. A ring marks the ``chosen`` point, and an open mark the library's ``defaults``.
    """

    label: str
    style: SeriesStyle
    kind: Kind
    x: Values
    y: Values
    band: Interval | None = None
    reach: Interval | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guide:
    """An upright line at ``low``, or an upright stripe from ``low`` to ``high``, behind the series."""

    low: float
    high: float

    @property
    def is_line(self) -> bool:
        """True for a guide without width."""
        return self.low == self.high


@dataclass(frozen=True)
class Chart:
    """One chart: its place, its series, both axes, the sentence below it and the words for those who do not see it.

    Attributes:
        section: the section of the page that shows it.
        key: its name among all charts, and that of its file.
        switch: the page's switch on which a reader chooses among charts of one title, which then share a place: one of
            x axes, or one of layers.
        choice: the position of the switch that shows this one.
        figure: the key of the printed figure that it shares with others; empty for a figure of its own.
        printed: whether a figure for papers shows it.
        placeholder: whether the page says that nothing is recorded yet where the chart is empty.
    """

    section: Section
    key: str
    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    note: str
    alt: str
    guides: tuple[Guide, ...] = ()
    switch: Literal["", "axis", "layer"] = ""
    choice: str = ""
    figure: str = ""
    printed: bool = True
    placeholder: bool = True

    @property
    def empty(self) -> bool:
        """True if the chart has no point to draw."""
        return not any(series.x for series in self.series)


@dataclass(frozen=True)
class Figure:
    """Charts that are printed together under one legend."""

    key: str
    charts: tuple[Chart, ...]


def printed_figures(charts: Iterable[Chart]) -> tuple[Figure, ...]:
    """Return the figures for papers, those of a single chart first; empty ones are left out."""
    groups: dict[str, list[Chart]] = {}
    for chart in sorted(charts, key=lambda chart: bool(chart.figure)):
        if chart.printed:
            groups.setdefault(chart.figure or chart.key, []).append(chart)
    figures = (Figure(key, tuple(group)) for key, group in groups.items())
    return tuple(figure for figure in figures if not all(chart.empty for chart in figure.charts))
