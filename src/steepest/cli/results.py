"""The results of a study in a terminal: the answer, a row for every optimizer, and cautions."""

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from steepest.cli.encoding import printable
from steepest.study.report.findings.findings import Findings
from steepest.study.report.text.answer import answer, caution
from steepest.study.report.text.matching import differing
from steepest.study.report.text.outcome import LEFT, Cells, outcome


def show(screen: Console, results: Findings) -> None:
    """Print the answer, a table, and cautions."""
    said = answer(results.study, results.verdicts, results.summaries)
    cautions = (*caution(results.study, results.verdicts, results.searches), *differing(results))
    show_rows(screen, said, outcome(results), cautions)


def show_rows(screen: Console, said: str, found: Mapping[str, Cells], cautions: Iterable[str]) -> None:
    """Print an answer, a table, and cautions. A screen too narrow for the table gets some lines per optimizer."""
    _say(screen, said)
    screen.print()
    rows = {
        printable(label): {heading: printable(words) for heading, words in cells.items()}
        for label, cells in found.items()
    }
    grid = _table(rows)
    if Measurement.get(screen, screen.options.update(width=10_000), grid).maximum <= screen.width:
        screen.print(grid)
    else:
        for label, cells in rows.items():
            screen.print(Text(label, style="bold"), _lines(cells, screen.width), sep="\n", markup=False)
    screen.print()
    for sentence in cautions:
        _say(screen, f"- {sentence}")


def _say(screen: Console, sentence: str) -> None:
    """Print a sentence, folded between words on a terminal and in one line elsewhere."""
    screen.print(sentence, markup=False, soft_wrap=not screen.is_terminal)


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
