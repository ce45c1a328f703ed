"""What a chart is before anything draws it: pure data, read by both renderers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from steepest.study.report.charts.palette import SeriesStyle

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
        """Of how many lines the longest of the ticks' names has."""
        return max((name.count("\n") + 1 for _, name in self.ticks), default=1)


@dataclass(frozen=True)
class Series:
    """Points of one optimizer. ``band`` and ``reach`` are low and high values in y and in x; ``notes`` explain points.

    Kinds: a ``line`` with a band, ``dots`` of single trials, their ``mean`` (or ``tick``, on a row of dots) with error
    bars, the ``stop`` of a trial without a value, an estimate with its ``interval``, a ring around what was ``chosen``,
    the open mark of the library's ``defaults``.
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
        """Whether it has no width."""
        return self.low == self.high


@dataclass(frozen=True)
class Chart:
    """One chart: its series, both axes, the sentence below it and the words for those who do not see it."""

    key: str
    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    note: str
    alt: str
    guides: tuple[Guide, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is no point to draw."""
        return not any(series.x for series in self.series)


@dataclass(frozen=True)
class Sheet:
    """Charts that are printed together as one figure under one legend."""

    key: str
    title: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Figures:
    """All charts of a report: ``learning`` holds one tuple per x axis (epochs, steps, seconds)."""

    verdicts: Chart
    seeds: Chart
    learning: Mapping[str, tuple[Chart, ...]]
    steps: Chart
    targets: tuple[Chart, ...]
    tuning: tuple[Chart, ...]
    cost: Chart

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Every chart once."""
        learning = (chart for charts in self.learning.values() for chart in charts)
        return (self.verdicts, self.seeds, *learning, self.steps, *self.targets, *self.tuning, self.cost)

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The figures for papers: learning curves together, other charts alone, no empty ones."""
        alone = [Sheet(chart.key, chart.title, (chart,)) for chart in (self.verdicts, self.seeds, self.steps)]
        alone += [Sheet(chart.key, chart.title, (chart,)) for chart in (*self.targets, *self.tuning, self.cost)]
        learning = [
            Sheet(f"learning-over-{axis}", "Learning curves", charts)
            for axis, charts in self.learning.items()
            if axis != "steps"  # epochs times a constant: the same picture
        ]
        return tuple(sheet for sheet in (*alone, *learning) if not all(chart.empty for chart in sheet.charts))
