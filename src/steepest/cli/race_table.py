"""A race as it stands: the places of its runners, compared at equal counts, with sparklines."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from steepest.cli.live import shortened

BLOCKS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 24
"""Letters of a sparkline of the whole race."""
DECADES: Final = 2
"""Values that span more decades than this are drawn on a logarithmic scale."""
MARKS: Final = 10
"""Standings in plain lines; arrows compare with the mark before."""
ARROWS: Final = {1: "▲", 0: " ", -1: "▼"}


@dataclass
class Runner:
    """One optimizer of a race.

    Attributes:
        label: the optimizer's label.
        about: its rate, in words.
        points: counts and the values there, in order.
        at: the count that it has reached.
        ended: how it ended; empty while it runs.
    """

    label: str
    about: str = ""
    points: list[tuple[int, float]] = field(default_factory=list)
    at: int = 0
    ended: str = ""

    def value(self, position: int) -> float | None:
        """Return its value at a count; None before its first."""
        reached = [value for at, value in self.points if at <= position]
        return reached[-1] if reached else None


@dataclass
class Race:
    """All runners, and what is compared.

    Attributes:
        value: the words for what is compared.
        unit: what is counted.
        length: the count at which the race ends.
        is_higher_better: whether the largest value leads.
        runners: the runners, by label.
    """

    value: str
    unit: str
    length: int
    is_higher_better: bool
    runners: dict[str, Runner]
    _marked: int = 0
    _before: dict[str, int] = field(default_factory=dict)
    _now: dict[str, int] = field(default_factory=dict)

    @property
    def position(self) -> int:
        """The count that all runners have reached that still run: places are compared there, and nowhere else."""
        return min((each.at for each in self.runners.values() if not each.ended), default=self.length)

    def counts(self) -> list[int]:
        """Return the counts of a sparkline's blocks: equal parts of the race as far as all have come, and the last."""
        parts = min(self.length, WIDTH - 1)
        passed = (self.length * part // parts for part in range(parts))
        return [*(count for count in passed if count < self.position), self.position]

    def standing(self) -> list[tuple[int, Runner]]:
        """Return the places, from 1, and the runners; equal values share a place, and without one it is the last."""
        position = self.position
        ranks = {label: self._rank(each.value(position)) for label, each in self.runners.items()}
        order = sorted(ranks.values())
        runners = sorted(self.runners.values(), key=lambda each: ranks[each.label])
        return [(order.index(ranks[each.label]) + 1, each) for each in runners]

    def _rank(self, value: float | None) -> float:
        if value is None or not math.isfinite(value):
            return math.inf
        return -value if self.is_higher_better else value

    def reaches_mark(self) -> bool:
        """Note the places at every tenth of the race. Return whether one is reached."""
        mark = MARKS * self.position // self.length
        if mark <= self._marked:
            return False
        self._marked, self._before = mark, self._now
        self._now = {runner.label: place for place, runner in self.standing()}
        return True

    def arrow(self, label: str, place: int) -> str:
        """Return whether a runner has moved up or down since the mark before."""
        before = self._before.get(label, place)
        return ARROWS[(before > place) - (before < place)]

    def line(self) -> str:
        """Return the standing in one line."""
        position = self.position
        told = [f"{place} {each.label} {spelled(each.value(position))}" for place, each in self.standing()]
        return f"{self.unit} {position}/{self.length}: {', '.join(told)}"


class RaceTable:
    """A renderable of the present state of a race. rich asks for it several times a second."""

    def __init__(self, race: Race) -> None:
        self._race = race

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        race, position = self._race, self._race.position
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("", no_wrap=True)
        table.add_column("optimizer", no_wrap=True)
        table.add_column(race.value, justify="right", no_wrap=True)
        table.add_column(f"to {race.unit} {position}/{race.length}", no_wrap=True, min_width=WIDTH)
        table.add_column("")
        shown = race.standing()[: max(1, console.height - 3)]
        counts = race.counts()
        curves = {each.label: [each.value(count) for count in counts] for _, each in shown}
        is_log, low, high = scale(value for curve in curves.values() for value in curve)
        for place, each in shown:
            table.add_row(
                f"{place} {race.arrow(each.label, place)}",
                Text(shortened(each.label, max(12, options.max_width - WIDTH - 40))),
                spelled(each.value(position)),
                sparkline(curves[each.label], low, high, is_log=is_log),
                Text(", ".join(filter(None, (each.about, each.ended)))),
                style="bold" if place == 1 else "",
            )
        yield table


def spelled(value: float | None) -> str:
    """Return a value in few letters."""
    if value is None:
        return "–"
    return f"{value:.3g}" if math.isfinite(value) else "lost"


def scale(values: Iterable[float | None]) -> tuple[bool, float, float]:
    """Return whether values are drawn on a logarithmic scale, and its ends; those that are not finite do not count."""
    finite = [value for value in values if value is not None and math.isfinite(value)] or [1.0]
    low, high = min(finite), max(finite)
    return low > 0 and high / low > 10**DECADES, low, high


def sparkline(values: Sequence[float | None], low: float, high: float, *, is_log: bool) -> str:
    """Return values as a line of blocks of eight heights; × where one is not finite, a space where there is none.

    >>> sparkline([1, 2, 3, 4], 1, 4, is_log=False), sparkline([1, 10, 1000], 1, 1000, is_log=True)
    ('▁▃▆█', '▁▃█')
    """
    return "".join(_block(value, low, high, is_log) for value in values)


def _block(value: float | None, low: float, high: float, is_log: bool) -> str:
    if value is None:
        return " "
    if not math.isfinite(value):
        return "×"
    ends = map(math.log, (value, low, high)) if is_log else iter((value, low, high))
    own, bottom, top = ends
    return BLOCKS[round((own - bottom) / (top - bottom) * (len(BLOCKS) - 1))] if top > bottom else BLOCKS[0]
