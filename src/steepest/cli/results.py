"""What a study found, in a terminal: the answer, what to know of it, and a row for every optimizer."""

from collections.abc import Mapping

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from steepest.cli import text
from steepest.cli.encoding import printable
from steepest.study.declaration import ACCURACY
from steepest.study.report.answer import answer, caution
from steepest.study.report.findings import Findings
from steepest.study.report.judging import Judged
from steepest.study.report.measures import goal
from steepest.study.report.ran_with import ran_with
from steepest.study.report.summary import Spread, Summary
from steepest.study.report.wording import between, signed

PERCENT = 100
MILLISECONDS = 1000
LEFT = ("ran with", "verdict", "trials")

Cells = dict[str, str]
"""By heading."""


def show(screen: Console, found: Findings) -> None:
    """Print the answer, a table (where that is wider than the screen, some lines for every optimizer), and cautions."""
    _say(screen, answer(found.study, found.verdicts, found.summaries))
    screen.print()
    rows = _rows(found)
    grid = _table(rows)
    if Measurement.get(screen, screen.options.update(width=10_000), grid).maximum <= screen.width:
        screen.print(grid)
    else:
        for label, cells in rows.items():
            screen.print(Text(label, style="bold"), _lines(cells, screen.width), sep="\n", markup=False)
    screen.print()
    for sentence in caution(found.study, found.verdicts, found.searches):
        _say(screen, f"- {sentence}")


def _say(screen: Console, sentence: str) -> None:
    """Print a sentence, folded between words on a terminal and in one line elsewhere."""
    screen.print(sentence, markup=False, soft_wrap=not screen.is_terminal)


def _rows(found: Findings) -> dict[str, Cells]:
    """Return by optimizer: mean and standard deviation over seeds, and the verdict against the reference."""
    metric = found.study.metric
    steps = {cost.label: MILLISECONDS * cost.seconds for cost in found.costs}  # the timing pass's
    judged = {row.label: row for row in found.verdicts.rows}
    settings = ran_with(found.study)
    rows: dict[str, Cells] = {}
    for summary in found.summaries:
        is_reference = summary.label == found.verdicts.reference
        difference, verdict = _judgement(judged.get(summary.label), is_reference, metric)
        cells = {
            "ran with": settings.get(summary.label, ""),
            f"test {text.words(metric)}": _score(summary.spreads[goal(found.study).key], metric),
            "better by": difference,
            "verdict": verdict,
            "train loss": text.number(_mean(summary, "train_loss")),
            "ms/step": text.number(steps.get(summary.label)),
            "trials": ", ".join(f"{count} {status}" for status, count in summary.statuses.items()),
        }
        rows[printable(summary.label)] = {heading: printable(words) for heading, words in cells.items()}
    return rows


def _table(rows: Mapping[str, Cells]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("optimizer", *next(iter(rows.values()), {})):
        grid.add_column(heading, justify="left" if heading in ("optimizer", *LEFT) else "right", no_wrap=True)
    for label, cells in rows.items():
        grid.add_row(Text(label), *map(Text, cells.values()))  # as they are: rich would read brackets as markup
    return grid


def _lines(cells: Cells, width: int) -> str:
    """Return the cells with their headings, as many in a line as fit."""
    lines: list[str] = []
    for part in (f"{heading} {words}" for heading, words in cells.items() if words):
        if lines and len(lines[-1]) + len(part) + 2 <= width:
            lines[-1] += f"; {part}"
        else:
            lines.append(f"  {part}")
    return "\n".join(lines)


def _judgement(row: Judged | None, is_reference: bool, metric: str) -> tuple[str, str]:
    if row is None:
        return "", "reference" if is_reference else ""
    one = row.comparison
    if one is None:
        return "", "no paired seed" if row.planned else "not evaluated"
    unit = PERCENT if metric == ACCURACY.name else 1  # as the column of scores has it
    interval = between(unit * one.interval.low, unit * one.interval.high)
    return f"{signed(unit * one.estimate)} ({interval})", str(one.verdict)


def _mean(summary: Summary, key: str) -> float | None:
    return summary.spreads[key].mean


def _score(found: Spread, metric: str) -> str:
    if found.mean is None or found.deviation is None:
        return text.score(found.mean, metric)
    if metric == ACCURACY.name:
        return f"{PERCENT * found.mean:.2f} ± {PERCENT * found.deviation:.2f}%"
    return f"{text.figure(found.mean)} ± {text.figure(found.deviation)}"
