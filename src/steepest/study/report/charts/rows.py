"""Charts with one row for every optimizer: single seeds as marks, an estimate over them, and crosses at the edge."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from steepest.study.report.charts.chart import Axis, Interval, Kind, Series
from steepest.study.report.charts.downsampling import thin
from steepest.study.report.charts.palette import SeriesStyle, Styles
from steepest.study.report.names import folded

ROOM: Final = 0.08
BEYOND: Final = 0.5 * ROOM
"""Position of a value beyond the axis, as a share of the axis's length: in the frame, outside the other values."""
MOST_MARKS: Final = 200
"""The most marks of one kind in a row. Of more, only some are drawn: no eye and no browser tells them apart."""
Seeds = Sequence[tuple[int, float]]
Marks = Sequence[tuple[float, str]]
"""Values with a note for each."""


class Frame(NamedTuple):
    """The two ends of an axis of values."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> "Frame":
        """Return the frame that holds the finite ones of these values, with some room."""
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        room = ROOM * (max(finite) - min(finite)) or 0.1 * abs(finite[0]) or 0.1
        return cls(min(finite) - room, max(finite) + room)

    def edge(self, *, low: bool) -> float:
        """Return a place just inside one end, for a value that has none."""
        inside = BEYOND / (1 + 2 * ROOM) * (self.high - self.low)
        return self.low + inside if low else self.high - inside

    def edge_for(self, value: float) -> float:
        """Return the edge beyond which a value lies."""
        return self.edge(low=value < self.low)

    def placed(self, seeds: Seeds, text: Callable[[float], str]) -> tuple[Marks, Marks]:
        """Return a dot for every (seed, value) inside, and a cross for every finite value beyond."""
        far = [pair for pair in seeds if math.isfinite(pair[1]) and not self.low <= pair[1] <= self.high]
        crosses = [(self.edge_for(value), f"seed {seed}: {text(value)}, beyond the frame") for seed, value in far]
        return seed_marks([pair for pair in seeds if self.low <= pair[1] <= self.high]), crosses


@dataclass(frozen=True)
class Estimate:
    """The large mark of a row, with the two ends of its bar."""

    kind: Kind
    at: float
    note: str
    reach: Interval | None = None


@dataclass(frozen=True)
class Row:
    """One optimizer: the name at its row, a dot for every seed, crosses (stops) and the estimate."""

    label: str
    name: str
    dots: Marks
    stops: Marks = ()
    estimate: Estimate | None = None


def rows(found: Sequence[Row], styles: Styles) -> tuple[Axis, tuple[Series, ...]]:
    """Return the axis that names the rows, the first on top, and the marks of all."""
    places = {row.label: float(len(found) - 1 - index) for index, row in enumerate(found)}
    axis = Axis("", ticks=tuple((places[row.label], folded(row.name)) for row in reversed(found)))
    return axis, tuple(series for row in found for series in _row_series(row, styles[row.label], places[row.label]))


def seed_marks(seeds: Seeds) -> Marks:
    """Return a mark for every (seed, value)."""
    return [(value, f"seed {seed}") for seed, value in seeds]


def thinning(found: Iterable[Row]) -> str:
    """Return a sentence on marks that are not drawn; empty where all are."""
    most = max((len(marks) for row in found for _, marks in _small_marks(row)), default=0)
    if most <= MOST_MARKS:
        return ""
    return (
        f" Of {most:,} seeds at most {MOST_MARKS} are drawn in a row: the lowest and the highest value of equal "
        "stretches. Estimates, intervals and tables are of all."
    )


def _thinned(marks: Marks) -> Marks:
    """Return at most `MOST_MARKS` of the marks, the outermost among them."""
    if len(marks) <= MOST_MARKS:
        return marks
    ordered = sorted(marks)
    return [ordered[index] for index in thin(np.array([value for value, _ in ordered]), MOST_MARKS)]


def _row_series(row: Row, style: SeriesStyle, place: float) -> list[Series]:
    series = [_series(row.label, style, kind, _thinned(marks), place) for kind, marks in _small_marks(row) if marks]
    large = row.estimate
    if large is None:
        return series
    return [
        Series(row.label, style, large.kind, (large.at,), (place,), reach=large.reach, notes=(large.note,)),
        *series,
    ]


def _small_marks(row: Row) -> tuple[tuple[Kind, Marks], ...]:
    return ("dots", row.dots), ("stop", row.stops)


def _series(label: str, style: SeriesStyle, kind: Kind, marks: Marks, place: float) -> Series:
    values, notes = tuple(value for value, _ in marks), tuple(note for _, note in marks)
    return Series(label, style, kind, values, (place,) * len(values), notes=notes)
