"""What a chart is before anything draws it: pure data, read by both renderers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from steepest.study.report.palette import Look

Kind = Literal["line", "dots", "mean", "tick", "stop"]
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


@dataclass(frozen=True)
class Series:
    """Points of one optimizer. ``band`` and ``reach`` are low and high values in y and in x; ``notes`` explain points.

    Kinds: a ``line`` with a band, ``dots`` of single trials, their ``mean`` (or ``tick``, on a row of dots) with error
    bars, the ``stop`` of a diverged trial.
    """

    label: str
    look: Look
    kind: Kind
    x: Values
    y: Values
    band: Interval | None = None
    reach: Interval | None = None
    notes: tuple[str, ...] = ()


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

    seeds: Chart
    learning: Mapping[str, tuple[Chart, ...]]
    steps: Chart
    speed: Chart

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Every chart once."""
        return (self.seeds, *(chart for charts in self.learning.values() for chart in charts), self.steps, self.speed)

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """The figures for papers: learning curves on one sheet per x axis, the others alone, no empty ones."""
        learning = [Sheet(f"learning-over-{axis}", "Learning curves", charts) for axis, charts in self.learning.items()]
        alone = [Sheet(chart.key, chart.title, (chart,)) for chart in (self.seeds, self.steps, self.speed)]
        return tuple(sheet for sheet in (*alone, *learning) if not all(chart.empty for chart in sheet.charts))
