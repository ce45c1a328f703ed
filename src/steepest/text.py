"""Text of tables and ranges, for what is printed about an optimizer, or shown in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from .fields import Field


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table, its columns aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def html_table(rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first row is its head. All text is escaped."""
    head, *body = ([escape(cell) for cell in row] for row in rows)
    lines = [_row(head, "th"), *(_row(row, "td") for row in body)]
    return f"<table>{''.join(lines)}</table>"


def _row(cells: Iterable[str], tag: str) -> str:
    opening = f'<{tag} style="text-align: left">'
    return f"<tr>{''.join(f'{opening}{cell}</{tag}>' for cell in cells)}</tr>"


def range_in_words(declared: Field) -> str:
    """Return the values that a study searches, ``-`` for none."""
    search = declared.search
    if search is None:
        return ", ".join(map(str, (declared.default, *declared.candidates))) if declared.candidates else "-"
    what = "1 - " if search.complement else ""
    return f"{what}[{search.low:g}, {search.high:g}] {search.scale}"
