"""C of the loops over tiles of matrices: row by row or, where rows are short, over all elements of a tile at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ..phases import DIMENSIONS, Phases
from .accessors import Accessor
from .loops import LANES, Body, Sum, added_up, block, indented, lanes, once

START = "(b * item->seen.rows + r) * item->seen.columns + part->column"
"""The first element of a row of a tile."""

MATRICES = "for (int64_t b = part->matrix; b < part->last_matrix; b++)"
ROWS = "for (int64_t r = part->row; r < part->last_row; r++)"
COLUMNS = "for (int64_t c = 0; c < item->seen.columns; c++, i++)"
"""Loops over all elements, i, of a tile of short rows."""

COPIED = tuple(line for line in DIMENSIONS if line != "tensor")
"""Lines whose numbers a tile of short rows copies for each element."""


class Tiles:
    """Loops over tiles of matrices; see tiles.c."""

    resource = "tiles.c"

    def sizes(self, phases: Phases) -> dict[str, int]:
        """Return how many numbers and sums belong to matrices, rows and columns, and what a matrix is."""
        numbers = {
            f"{line.upper()}_NUMBERS": phases.counted(phases.numbers, line) for line in ("matrix", "row", "column")
        }
        sums = {f"{line.upper()}_SUMS": phases.counted(phases.sums, line) for line in ("row", "column")}
        seen = {"UNITS": int(phases.view == "units"), "TAKES_VECTORS": int(phases.takes_vectors)}
        return {**numbers, **sums, **seen}

    def count(self, dimensions: Iterable[str]) -> str:
        """Spell the product of the dimensions."""
        return " * ".join(f"item->seen.{dimension}" for dimension in dimensions)

    def parts(self, line: str, index: int, total: str) -> list[str]:
        """Spell the sum over tiles of the same rows or columns, or what launch.c has added up."""
        if line == "tensor":
            return [f"const double {total} = sums[{index}];"]
        tiles = f"for (int64_t n = 0; n < item->seen.{'across' if line == 'row' else 'down'}; n++)"
        return [f"double {total} = 0;", f"{tiles} {total} += {line.upper()}_SUM({index});"]

    def add(self, body: Body, sums: Sequence[Sum]) -> list[str]:
        """Spell sums in a fixed order."""
        return _by_width(_add_narrow(body, sums), _add_wide(body, sums))

    def update(self, body: Body, changed: Mapping[Accessor, str]) -> list[str]:
        """Spell the update. Blocks of codes divide rows, which are long then."""
        accessors = list(dict.fromkeys([*body.read, *changed]))
        if any(accessor.is_blockwise for accessor in accessors):
            return _update_blocks(body, accessors, changed)
        return _by_width(_update_narrow(body, accessors, changed), _update_wide(body, accessors, changed))


def _by_width(narrow: list[str], wide: list[str]) -> list[str]:
    return ["if (item->seen.columns < NARROW) {", *indented(narrow), "} else {", *indented(wide), "}"]


def _lanes_by_total(sums: Sequence[Sum], line: str, total: str) -> dict[str, str]:
    """Return the names of lanes of the sums that belong to a line, by the place of each total."""
    return {f"{total.format(index)}": f"lanes{n}" for n, (kind, index, _) in enumerate(sums) if kind == line}


# -- long rows -------------------------------------------------------------------------------------------------------


def _add_wide(body: Body, sums: Sequence[Sum]) -> list[str]:
    """Spell sums that vectorise along each row. Those of columns are their own lanes."""
    of_tensor, of_row = _lanes_by_total(sums, "tensor", "sums[{}]"), _lanes_by_total(sums, "row", "ROW_SUM({})")
    of_column = {f"below{n}": index for n, (line, index, _) in enumerate(sums) if line == "column"}
    places = [f"below{n}[i]" if line == "column" else f"lanes{n}[j]" for n, (line, _, _) in enumerate(sums)]
    terms = [f"{place} += {added};" for place, (_, _, added) in zip(places, sums, strict=True)]
    row = [*lanes(of_row.values()), *body.adding("part->width", terms)]
    if of_row:
        used = f"const int used = part->width < {LANES} ? (int)part->width : {LANES};"
        row += ["const int64_t n = part->across;", used, *added_up(of_row, "used")]
    return [
        *_opening(body),
        *(["const int64_t n = part->down, c = part->column;"] if of_column else []),
        *(f"double *restrict {name} = &COLUMN_SUM({index});" for name, index in of_column.items()),
        *(f"for (int64_t i = 0; i < part->width; i++) {name}[i] = 0;" for name in of_column),
        *lanes(of_tensor.values()),
        *_rows(body, body.read, (), row),
        *added_up(of_tensor),
    ]


def _update_wide(body: Body, accessors: list[Accessor], changed: Mapping[Accessor, str]) -> list[str]:
    loop = ["INDEPENDENT", "for (int64_t i = 0; i < part->width; i++) {", *indented(body.storing(changed)), "}"]
    return [*_opening(body), *_rows(body, accessors, changed, loop)]


def _update_blocks(body: Body, accessors: list[Accessor], changed: Mapping[Accessor, str]) -> list[str]:
    within = [
        f"const int64_t start = {START} + column;",
        "const int32_t size = STORAGE_BLOCK;",
        *(f"const {body.real} *of_{name} = of_columns_{name} + column;" for name in body.copied()),
        *block(body, accessors, changed),
    ]
    loop = ["for (int64_t column = 0; column < part->width; column += STORAGE_BLOCK) {", *indented(within), "}"]
    return [*_opening(body), *once(accessors), *_rows(body, (), (), loop)]


def _opening(body: Body) -> list[str]:
    """Spell the numbers of the tile, and copies of those of its columns in the type to compute in."""
    lines = ["const int64_t b = part->matrix;", *body.before, *body.numbers_of("tensor", "matrix")]
    for name, place in body.copied().items():
        copied = f"const int64_t c = part->column + i; of_columns_{name}[i] = ({body.real}){place};"
        lines.append(f"{body.real} of_columns_{name}[MOST_COLUMNS];")
        lines.append(f"for (int64_t i = 0; i < part->width; i++) {{ {copied} }}")
    return lines


def _rows(body: Body, accessors: Iterable[Accessor], written: Collection[Accessor], inside: list[str]) -> list[str]:
    columns = [f"const {body.real} *of_{name} = of_columns_{name};" for name in body.copied()]
    lines = [*body.numbers_of("row"), *columns, *body.pointers(accessors, written, START), *inside]
    return ["for (int64_t r = part->row; r < part->last_row; r++) {", *indented(lines), "}"]


# -- short rows ------------------------------------------------------------------------------------------------------


def _add_narrow(body: Body, sums: Sequence[Sum]) -> list[str]:
    """Spell sums of which the terms are computed for all elements of a tile, kept, and then added row by row."""
    of_tensor = _lanes_by_total(sums, "tensor", "sums[{}]")
    kept = [n for n, (line, _, _) in enumerate(sums) if line != "tensor"]
    terms = [f"lanes{n}[j] += {x};" if n not in kept else f"terms{n}[i] = {x};" for n, (_, _, x) in enumerate(sums)]
    added = [line for n in kept for line in _added_narrow(sums[n], f"terms{n}[i]")]
    flat = replace(body, copies=COPIED)
    return [
        *_opening_narrow(flat, body.read, ()),
        *(f"double terms{n}[MOST_COLUMNS];" for n in kept),
        *lanes(of_tensor.values()),
        *flat.adding("size", terms),
        *added_up(of_tensor),
        *added,
    ]


def _added_narrow(of: Sum, each: str) -> list[str]:
    """Spell the sum of kept terms over each row of a tile, or over each column of each of its matrices."""
    line, index, _ = of
    if line == "row":
        total = ["double total = 0;", f"{COLUMNS} total += {each};", f"ROW_SUM({index}) = total;"]
        lines = ["const int64_t n = part->across;", "int64_t i = 0;", MATRICES, f"{ROWS} {{", *indented(total), "}"]
    else:
        start = f"for (int64_t c = 0; c < item->seen.columns; c++) COLUMN_SUM({index}) = 0;"
        inside = [start, ROWS, f"  {COLUMNS} COLUMN_SUM({index}) += {each};"]
        lines = ["const int64_t n = part->down;", "int64_t i = 0;", f"{MATRICES} {{", *indented(inside), "}"]
    return ["{", *indented(lines), "}"]


def _update_narrow(body: Body, accessors: list[Accessor], changed: Mapping[Accessor, str]) -> list[str]:
    flat = replace(body, copies=COPIED)
    loop = ["INDEPENDENT", "for (int64_t i = 0; i < size; i++) {", *indented(flat.storing(changed)), "}"]
    return [*_opening_narrow(flat, accessors, changed), *loop]


def _opening_narrow(flat: Body, accessors: Iterable[Accessor], written: Collection[Accessor]) -> list[str]:
    """Spell the size of the tile, and a copy of each number for each element."""
    copied = flat.copied()
    copies = [f"of_{name}[i] = ({flat.real}){place};" for name, place in copied.items()]
    start = "(part->matrix * item->seen.rows + part->row) * item->seen.columns"
    return [
        "const int64_t size = (part->last_matrix - part->matrix) * (part->last_row - part->row) * item->seen.columns;",
        *flat.before,
        *flat.numbers_of("tensor"),
        *(f"{flat.real} of_{name}[MOST_COLUMNS];" for name in copied),
        *(
            ["{", *indented(["int64_t i = 0;", MATRICES, ROWS, f"{COLUMNS} {{", *indented(copies), "}"]), "}"]
            if copies
            else []
        ),
        *flat.pointers(accessors, written, start),
    ]
