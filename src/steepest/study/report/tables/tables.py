"""One table object and its four writings: CSV (full precision), Markdown, LaTeX and HTML (sortable)."""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from steepest.study.report.findings.measures import Measure, number
from steepest.study.report.findings.summary import Spread
from steepest.study.report.names import LONG, breakable


@dataclass(frozen=True)
class Text:
    """Words. ``detail`` is a long text (a traceback) that only the page shows, folded; ``tag`` is a word of style."""

    text: str
    detail: str | None = None
    tag: str = ""


@dataclass(frozen=True)
class Number:
    """One number and how many decimals it is printed with."""

    value: float | None
    decimals: int = 0
    tag: str = ""

    @property
    def text(self) -> str:
        """The number as printed."""
        return number(self.value, self.decimals)


@dataclass(frozen=True)
class Formatted:
    """One number in words of its own (a sign, a unit, a missed target); sorted and exported by its value."""

    value: float | None
    text: str
    tag: str = ""


@dataclass(frozen=True)
class IntervalCell:
    """The two ends of an interval and how they are printed; sorted by the low one."""

    low: float | None
    high: float | None
    text: str
    tag: str = ""

    @property
    def value(self) -> float | None:
        """The low end."""
        return self.low


@dataclass(frozen=True)
class MeanSd:
    """A figure over seeds: mean, and standard deviation from two seeds on."""

    spread: Spread
    measure: Measure
    tag: str = ""

    @property
    def value(self) -> float | None:
        """The mean."""
        return self.spread.mean

    @property
    def text(self) -> str:
        """The mean as printed."""
        return self.measure.text(self.spread.mean)

    @property
    def deviation(self) -> str:
        """The standard deviation as printed, or nothing."""
        return "" if self.spread.deviation is None else self.measure.text(self.spread.deviation)


Cell = Text | Number | Formatted | IntervalCell | MeanSd


@dataclass(frozen=True)
class Column:
    """A column's title, and the title that it shares with its neighbours, if any."""

    title: str
    group: str = ""
    numeric: bool = False
    muted: bool = False

    @property
    def name(self) -> str:
        """The title, with its group where it has one."""
        return f"{self.group} ({self.title})" if self.group else self.title


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns; the first cell of a row is its header."""

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def to_csv(table: Table) -> str:
    """Return comma-separated values in full precision; a figure over seeds takes three columns, an interval two."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([name for index, column in enumerate(table.columns) for name in _names(table, index, column)])
    for row in table.rows:
        writer.writerow([value for cell in row for value in _values(cell)])
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """Return a GitHub-flavoured Markdown table."""
    names = [_markdown(column.name) for column in table.columns]
    rules = ["---:" if column.numeric else "---" for column in table.columns]
    body = [[_markdown(_plain(cell)) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, rules, *body)) + "\n"


def to_latex(table: Table) -> str:
    """Return a LaTeX table for a document that loads booktabs."""
    shape = "".join("r" if column.numeric else "l" for column in table.columns)
    head = " & ".join(_latex(column.name) for column in table.columns)
    body = [" & ".join(_latex(_plain(cell)) for cell in row) for row in table.rows]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{_latex(table.caption)}}}",
        f"  \\begin{{tabular}}{{{shape}}}",
        "    \\toprule",
        f"    {head} \\\\",
        "    \\midrule",
        *(f"    {row} \\\\" for row in body),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_html(table: Table) -> Markup:
    """Return a table element with scoped headers; every text is escaped."""
    head = _html_head(table.columns)
    body = Markup("\n").join(_html_row(table.columns, row) for row in table.rows)
    return Markup(
        '<table class="data{}" id="table-{}">\n<caption><span>{}</span></caption>\n'
        "<thead>{}</thead>\n<tbody>\n{}\n</tbody>\n</table>"
    ).format(_kinds(table), table.key, table.caption, head, body)


def _names(table: Table, index: int, column: Column) -> list[str]:
    parts = next((_PARTS[type(row[index])] for row in table.rows if type(row[index]) in _PARTS), ())
    return [f"{column.name} {part}" for part in parts] or [column.name]


_PARTS: dict[type, tuple[str, ...]] = {MeanSd: ("mean", "sd", "seeds"), IntervalCell: ("low", "high")}


def _values(cell: Cell) -> list[str]:
    if isinstance(cell, Text):
        return [cell.text]
    if isinstance(cell, Number | Formatted):
        return [_exact(cell.value)]
    if isinstance(cell, IntervalCell):
        return [_exact(cell.low), _exact(cell.high)]
    return [_exact(cell.spread.mean), _exact(cell.spread.deviation), str(cell.spread.count)]


def _exact(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else repr(value)


def _plain(cell: Cell) -> str:
    return f"{cell.text} ± {cell.deviation}" if isinstance(cell, MeanSd) and cell.deviation else cell.text


def _markdown(text: str) -> str:
    """Escape what Markdown would read as markup; a line break would end the row."""
    escaped = re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "±": r"$\pm$",
    "−": r"$-$",
    "∞": r"$\infty$",
}


def _latex(text: str) -> str:
    """Escape LaTeX's special characters; line breaks become spaces."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _kinds(table: Table) -> str:
    """Return words for the style sheet: whether there are spreads to align, and grouped columns to set closer."""
    spreads = any(isinstance(cell, MeanSd) and cell.deviation for row in table.rows for cell in row)
    grouped = any(column.group for column in table.columns)
    return (" spreads" if spreads else "") + (" grouped" if grouped else "")


def _html_head(columns: Sequence[Column]) -> Markup:
    if not any(column.group for column in columns):
        return Markup("<tr>{}</tr>").format(_joined(_html_title(column) for column in columns))
    groups = _joined(
        _html_group(list(members)) for _, members in groupby(columns, key=lambda column: column.group or column.title)
    )
    titles = _joined(_html_title(column) for column in columns if column.group)
    return Markup("<tr>{}</tr><tr>{}</tr>").format(groups, titles)


def _html_group(members: list[Column]) -> Markup:
    first = members[0]
    if not first.group:
        return _html_title(first, rows=2)
    return Markup('<th scope="colgroup" colspan="{}" class="group">{}</th>').format(len(members), first.group)


def _html_title(column: Column, rows: int = 1) -> Markup:
    span = Markup(' rowspan="{}"').format(rows) if rows > 1 else ""
    return Markup('<th scope="col"{}{}><button type="button" class="sort">{}</button></th>').format(
        span, _classes(column), column.title
    )


def _html_row(columns: Sequence[Column], row: Sequence[Cell]) -> Markup:
    cells = [_html_cell(column, cell) for column, cell in zip(columns[1:], row[1:], strict=True)]
    long = Markup(' class="long"') if len(row[0].text) > LONG else ""
    first = Markup('<th scope="row" data-sort="{}"{}>{}</th>').format(
        row[0].text, long, _html_content(row[0], may_break=True)
    )
    return Markup("<tr>{}{}</tr>").format(first, _joined(cells))


def _html_cell(column: Column, cell: Cell) -> Markup:
    key = cell.text if isinstance(cell, Text) else _exact(cell.value).replace("inf", "Infinity")
    return Markup('<td data-sort="{}"{}>{}</td>').format(
        key, _classes(column, cell.tag), _html_content(cell, may_break="words" in cell.tag)
    )


def _html_content(cell: Cell, *, may_break: bool) -> Markup:
    if isinstance(cell, MeanSd):  # an empty spread keeps the column's means under one another
        spread = f"± {cell.deviation}" if cell.deviation else ""
        return Markup('{} <span class="spread">{}</span>').format(cell.text, spread)
    if isinstance(cell, Text) and cell.detail:
        return Markup("<details><summary>{}</summary><pre>{}</pre></details>").format(cell.text, cell.detail)
    return breakable(cell.text) if may_break else Markup("{}").format(cell.text)


def _classes(column: Column, tag: str = "") -> Markup:
    names = [name for name, wanted in (("number", column.numeric), ("muted", column.muted), (tag, bool(tag))) if wanted]
    return Markup(' class="{}"').format(" ".join(names)) if names else Markup("")


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)
