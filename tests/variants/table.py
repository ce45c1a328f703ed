"""The tables of docs/variants.md: made from the measurements, and read back to see whether the page is current."""

from __future__ import annotations

from collections.abc import Iterator

from .comparison import Comparison, typed
from .comparisons import COMPARISONS
from .measure import LIBRARIES, version
from .peers import SCHEDULES

BEGIN, END = "<!-- measured: python benchmarks/parity_table.py writes from here -->", "<!-- to here -->"

TITLES = {
    "keras": "Keras",
    "zij": "zij (the authors' own files)",
    "adam_mini": "adam-mini",
    "optimi": "optimi",
    "momo": "momo-opt",
    "dog": "dog-optimizer",
    "formula": "Formulas of what no package has",
}
UNDER_EACH = [f"{name} η" for name in SCHEDULES]
EQUAL = ["convention", "theirs", "ours", "selected by", *UNDER_EACH, "without it"]
APART = ["difference", "theirs", "ours", *UNDER_EACH]

Measured = dict[str, dict[str, float]]


def tables(paths: Measured) -> str:
    """Two tables for each library, from the measured ``paths`` of `measure.measured`."""
    return "\n\n".join(part for library in LIBRARIES for part in _of(library, paths))


def _of(library: str, paths: Measured) -> Iterator[str]:
    own = [c for c in COMPARISONS if c.library == library]
    number = "" if library == "formula" else version(LIBRARIES[library][0])
    yield f"### {TITLES.get(library, library)} {number}".rstrip()
    yield _table(EQUAL, [_equal(c, paths[c.theirs]) for c in own if c.apart is None])
    if apart := [_apart(c, paths[c.theirs]) for c in own if c.apart is not None]:
        yield "Known differences:"
        yield _table(APART, apart)


def _table(head: list[str], body: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *body])


def _equal(comparison: Comparison, found: dict[str, float]) -> list[str]:
    ours = f"{comparison.name}({typed(comparison.numbers)})"
    select = f"`{typed(comparison.selecting)}`" if comparison.selecting else ""
    without = shown(found["without"]) if comparison.selecting else ""
    return [*_sides(comparison, ours), select, *_under_each(found), without]


def _apart(comparison: Comparison, found: dict[str, float]) -> list[str]:
    return [*_sides(comparison, comparison.ours), *_under_each(found)]


def _sides(comparison: Comparison, ours: str) -> list[str]:
    vector = f"; vectors `{typed(comparison.vector)}`" if comparison.vector else ""
    return [comparison.convention, f"`{comparison.theirs}`", f"`{ours}`{vector}"]


def _under_each(found: dict[str, float]) -> list[str]:
    return [shown(found[name]) for name in SCHEDULES]


def shown(value: float) -> str:
    """A measured number in two digits."""
    return f"{value:.1e}" if value else "0"


def rows(page: str) -> Iterator[list[str]]:
    """The cells of each row of the page's tables, headings included."""
    between = page.partition(BEGIN)[2].partition(END)[0]
    for line in between.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split("|")]
