"""The tables of docs/variants.md: made from the measurements, and read back to see whether the page is current."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .comparisons import COMPARISONS, Comparison
from .measure import versions

BEGIN, END = "<!-- measured: python benchmarks/parity_table.py writes from here -->", "<!-- to here -->"

TITLES = {"keras": "Keras", "optax": "optax", "torch": "torch", "formula": "Formulas of what is not installed here"}


def tables(paths: dict[str, dict[str, float]]) -> str:
    """One table for each library, from the measured ``paths`` of `measure.measured`."""
    return "\n\n".join(_table(library, title, paths) for library, title in TITLES.items())


def _table(library: str, title: str, paths: dict[str, dict[str, float]]) -> str:
    rows = [_row(c, paths[c.theirs]) for c in COMPARISONS if c.library == library]
    head = ["| convention | theirs | ours | selected by | difference | without it |", "|---|---|---|---|---|---|"]
    return "\n".join([f"### {title} {versions().get(library, '')}".rstrip(), "", *head, *rows])


def _row(comparison: Comparison, found: dict[str, float]) -> str:
    select = f"`{typed(comparison.selecting)}`" if comparison.selecting else ""
    without = shown(found["without"]) if comparison.selecting else ""
    ours = f"`{comparison.name}({typed(comparison.numbers)})`"
    cells = [comparison.convention, f"`{comparison.theirs}`", ours, select, shown(found["difference"]), without]
    return f"| {' | '.join(cells)} |"


def typed(options: Any) -> str:
    """Arguments as they are typed."""
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def shown(value: float) -> str:
    """A measured number in two digits."""
    return f"{value:.1e}" if value else "0"


def rows(page: str) -> Iterator[list[str]]:
    """The cells of each measured row of the page."""
    between = page.partition(BEGIN)[2].partition(END)[0]
    for line in between.splitlines():
        if re.match(r"\| (?!convention)", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]
