"""Text of tables and ranges, for what is printed about an optimizer."""

from __future__ import annotations

from collections.abc import Sequence

from .fields import Field


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table, its columns aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def range_in_words(declared: Field) -> str:
    """Return the values that a study searches, ``-`` for none."""
    search = declared.search
    if search is None:
        return ", ".join(map(str, (declared.default, *declared.candidates))) if declared.candidates else "-"
    what = "1 - " if search.complement else ""
    return f"{what}[{search.low:g}, {search.high:g}] {search.scale}"
