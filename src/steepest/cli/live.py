"""The table that follows a study on a terminal: one row per trial, never higher than the terminal."""

import time

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from steepest.cli import text
from steepest.study.progress import Progress, Row

OTHER_LINES = 7  # title, header, rules, the line of what is hidden and the cursor's line
STYLES = {
    "finished": "green",
    "diverged": "yellow",
    "timed out": "yellow",
    "failed": "red",
    "running": "bold",
    "waiting": "dim",
}


class LiveTable:
    """Renders the present state of a study; rich asks for it several times a second."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = list(self._progress.rows.values())
        shown = window(rows, max(3, console.height - OTHER_LINES))
        yield self._table(shown)
        yield Text(self._footer(rows, len(shown)), style="dim")

    def _table(self, rows: list[Row]) -> Table:
        metric = text.words(self._progress.metric)
        table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
        for name in (
            "optimizer",
            "phase",
            "seed",
            "epoch",
            "loss",
            f"validation {metric}",
            "examples/s",
            "time left",
            "",
        ):
            gives_way = name == "optimizer"  # a long name is cut before a figure is
            table.add_column(
                name, justify="left" if name in ("optimizer", "phase", "") else "right", no_wrap=not gives_way
            )
        for row in rows:
            table.add_row(*self._cells(row), style=STYLES[row.status])
        return table

    def _cells(self, row: Row) -> tuple[str | Text, ...]:
        return (
            Text(row.label, no_wrap=True, overflow="ellipsis"),  # as it is: rich would read its brackets as markup
            row.phase,
            str(row.seed),
            f"{row.epoch:g}/{self._progress.epochs}",
            text.number(row.loss),
            text.score(row.validation, self._progress.metric),
            text.speed(row.speed),
            text.duration(row.seconds_left(time.monotonic())) if row.status == "running" else "",
            row.status,
        )

    def _footer(self, rows: list[Row], shown: int) -> str:
        counts = [(status, sum(row.status == status for row in rows)) for status in STYLES]
        parts = [f"{count} {status}" for status, count in counts if count]
        hidden = f" ({len(rows) - shown} of {len(rows)} rows hidden)" if shown < len(rows) else ""
        return f"{', '.join(parts)}{hidden}; time left about {text.duration(self._progress.seconds_left())}"


def window(rows: list[Row], height: int) -> list[Row]:
    """Return the rows that fit, around the running trial: two thirds of what is above it, one third of what follows."""
    if len(rows) <= height:
        return rows
    states = [row.status for row in rows]
    waiting = states.index("waiting") if "waiting" in states else len(rows)
    current = states.index("running") if "running" in states else waiting
    start = min(max(0, current - height * 2 // 3), len(rows) - height)
    return rows[start : start + height]
