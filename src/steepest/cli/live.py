"""The table that follows a study on a terminal: one row per trial, never higher than the terminal."""

import time
from collections import Counter

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from steepest.cli import text
from steepest.study.records.format import DIVERGED, FAILED, FINISHED, TIMED_OUT
from steepest.study.running.progress import Progress, Row

OTHER_LINES = 7  # title, header, rules, the line of what is hidden and the cursor's line
WIDE = 100
"""Minimum width, in columns, at which every figure is shown."""
LEAST = 12
"""Minimum number of letters of a name that are shown."""
STYLES = {
    FINISHED: "green",
    DIVERGED: "yellow",
    TIMED_OUT: "yellow",
    FAILED: "red",
    "running": "bold",
    "waiting": "dim",
}


class LiveTable:
    """A renderable of the present state of a study. rich asks for it several times a second."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = list(self._progress.rows.values())
        shown = window(rows, max(3, console.height - OTHER_LINES))
        yield self._table(shown, options.max_width)
        yield Text(self._footer(rows, len(shown)), style="dim")

    def _table(self, rows: list[Row], width: int) -> Table:
        """Lay out the rows. A narrow terminal shows fewer figures, and names get the remaining width."""
        named = [self._cells(row, wide=width >= WIDE) for row in rows] or [{}]
        taken = sum(2 + max(len(heading), *(len(cells[heading]) for cells in named)) for heading in named[0])
        table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
        for heading in ("optimizer", *named[0]):
            left = heading in ("optimizer", "phase", "")
            table.add_column(heading, justify="left" if left else "right", no_wrap=True)
        for row, cells in zip(rows, named, strict=False):
            label = Text(shortened(row.label, max(width - taken, LEAST)))  # rich would read its brackets as markup
            table.add_row(label, *cells.values(), style=STYLES[row.status])
        return table

    def _cells(self, row: Row, wide: bool) -> dict[str, str]:
        """Return the cells next to a trial's name, by heading."""
        metric, running = text.words(self._progress.metric), row.status == "running"
        left = text.duration(row.seconds_left(time.monotonic())) if running else ""
        return {
            "phase": row.phase,
            "seed": str(row.seed),
            self._progress.unit: f"{row.epoch:g}/{self._progress.epochs}",
            "loss": text.number(row.loss),
            f"validation {metric}" if wide else metric: text.score(row.validation, self._progress.metric),
            **({"examples/s": text.speed(row.speed), "time left": left} if wide else {}),
            "": row.status,
        }

    def _footer(self, rows: list[Row], shown: int) -> str:
        counts = Counter(row.status for row in rows)
        parts = [f"{counts[status]} {status}" for status in STYLES if counts[status]]
        hidden = f" ({len(rows) - shown} of {len(rows)} rows hidden)" if shown < len(rows) else ""
        return f"{', '.join(parts)}{hidden}; time left about {text.duration(self._progress.seconds_left())}"


def shortened(label: str, width: int) -> str:
    """Return a name of at most so many letters: its beginning and its end, which distinguish it from others.

    >>> shortened("my_rules.an_optimizer[momentum=0.9]", 20)
    'my_rules.…entum=0.9]'
    """
    if len(label) <= width:
        return label
    end = width // 2
    return f"{label[: width - end - 1]}…{label[len(label) - end :]}"


def window(rows: list[Row], height: int) -> list[Row]:
    """Return the rows that fit around the running trial: two thirds of the rows above it, one third below."""
    if len(rows) <= height:
        return rows
    states = [row.status for row in rows]
    waiting = states.index("waiting") if "waiting" in states else len(rows)
    current = states.index("running") if "running" in states else waiting
    start = min(max(0, current - height * 2 // 3), len(rows) - height)
    return rows[start : start + height]
