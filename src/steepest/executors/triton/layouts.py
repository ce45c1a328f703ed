"""Layouts: how launches cut parameters into programs, and what the table of parameters says about it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from torch import Tensor

from ..phases import Phases

Shape = Sequence[int]

OWN = ("own", "stream")
"""The first columns of the table of parameters after the addresses: the row of constants, and the stream of random bits
(with the block at which a part starts in its upper half)."""

HEIGHT = 64
"""Most rows of a tile of a matrix."""

LOG_STEP = 10
"""Logarithm of the number of elements of a tile that are loaded at a time."""

LOG_WIDTHS = (4, 7)
"""Logarithms of the least and the largest number of columns of a tile of a matrix."""

LANES = 256
"""Numbers of rows or columns per program."""

ROW_ALIGNMENT = 8
"""Divisor of all numbers of columns with which the rows of all dtypes start at multiples of 16 bytes."""


class Layout(ABC):
    """A way to cut parameters into programs. All but `of` is as parameters need it that are elements in a row.

    Attributes:
        columns: the columns of the table of parameters after the addresses.
        wants_rows: whether the rows of a parameter must lie one after the other.
    """

    columns: ClassVar[tuple[str, ...]]
    wants_rows: ClassVar[bool] = False

    @abstractmethod
    def of(self, shapes: Sequence[Shape]) -> tuple[dict[str, Sequence[int]], Sequence[Sequence[int]]]:
        """Return how many programs of each kind a parameter has, and the columns after `OWN`."""

    def fixed(self, shapes: Sequence[Shape]) -> dict[str, int]:
        """Return the constants that launches are compiled with; ``IS_ALIGNED`` as far as shapes tell."""
        return {"IS_ALIGNED": True}

    def space(self, shapes: Sequence[Shape]) -> int:
        """Return how many doubles all parameters' lines need."""
        return 0

    def takes(self, p: Tensor) -> bool:
        """Return whether a parameter without gaps in its memory can be cut so."""
        return True

    def shape_of(self, line: str, shape: Shape) -> Shape:
        """Return the shape of state that has a number for each line of a parameter."""
        return ()


@dataclass(frozen=True)
class Blocks(Layout):
    """Blocks of elements. The table has the number of elements and that of the first block."""

    size: int
    columns: ClassVar[tuple[str, ...]] = (*OWN, "size", "first")

    def of(self, shapes: Sequence[Shape]) -> tuple[dict[str, Sequence[int]], Sequence[Sequence[int]]]:
        """Return the numbers of blocks, and the columns."""
        sizes = list(map(math.prod, shapes))
        blocks = [-(-size // self.size) for size in sizes]
        return {"tiles": blocks, "tensor": [1] * len(sizes)}, (sizes, starts(blocks))


@dataclass(frozen=True)
class Seen:
    """A parameter seen as matrices, and the numbers of their tiles from top to bottom and from left to right."""

    matrices: int
    rows: int
    columns: int
    down: int
    across: int


@dataclass(frozen=True)
class Tiling(Layout):
    """Tiles of matrices; for each matrix, row and column numbers, and for parts of rows and columns sums.

    After the number of elements and that of the first tile the table has the numbers of `Seen`, the place of what
    belongs to the parameter's lines, and the numbers of its first programs for matrices, rows and columns.

    Attributes:
        view: how parameters are seen, a key of `phases.VIEWS`.
        takes_vectors: whether vectors are matrices of one row.
        matrix, row, column: how many numbers are kept for each.
        row_sums, column_sums: how many sums are kept for each part of a row or column.
    """

    view: str
    takes_vectors: bool
    matrix: int
    row: int
    column: int
    row_sums: int
    column_sums: int
    columns: ClassVar[tuple[str, ...]] = (
        *Blocks.columns,
        *("matrices", "rows", "columns", "down", "across", "space"),
        *("first_matrix", "first_row", "first_column"),
    )
    wants_rows: ClassVar[bool] = True

    @staticmethod
    def of_kernel(phases: Phases) -> Tiling:
        """Count the numbers and sums of a kernel."""
        numbers = (phases.counted(phases.numbers, line) for line in ("matrix", "row", "column"))
        return Tiling(
            phases.view,
            phases.takes_vectors,
            *numbers,
            *(phases.counted(phases.sums, line) for line in ("row", "column")),
        )

    def of(self, shapes: Sequence[Shape]) -> tuple[dict[str, Sequence[int]], Sequence[Sequence[int]]]:
        """Return the numbers of tiles, matrices and blocks of rows and columns, and the columns."""
        seen = self._seen(shapes)
        programs: dict[str, Sequence[int]] = {
            "tiles": [each.matrices * each.down * each.across for each in seen],
            "tensor": [1] * len(seen),
            "matrix": [each.matrices for each in seen],
            "row": [-(-each.matrices * each.rows // LANES) for each in seen],
            "column": [-(-each.matrices * each.columns // LANES) for each in seen],
        }
        places = [
            starts(list(map(self._space, seen))),
            *(starts(programs[line]) for line in ("matrix", "row", "column")),
        ]
        sizes = list(map(math.prod, shapes))
        names = ("matrices", "rows", "columns", "down", "across")
        return programs, (sizes, starts(programs["tiles"]), *([getattr(s, n) for s in seen] for n in names), *places)

    def fixed(self, shapes: Sequence[Shape]) -> dict[str, int]:
        """Return ``IS_ALIGNED``, whether rows can be aligned, and ``LOG_WIDTH``, that of a tile's columns."""
        are_rows_aligned = all(self.seen(shape)[2] % ROW_ALIGNMENT == 0 for shape in shapes)
        return {"IS_ALIGNED": are_rows_aligned, "LOG_WIDTH": self._log_width(shapes)}

    def space(self, shapes: Sequence[Shape]) -> int:
        """Return how many doubles all parameters' lines need."""
        return sum(map(self._space, self._seen(shapes)))

    def takes(self, p: Tensor) -> bool:
        """Return whether a parameter has rows. Complex ones have units only: pairs are a dimension of their own."""
        is_matrix = p.dim() > 1 or (self.takes_vectors and not p.is_complex())
        return is_matrix and (self.view == "units" or not p.is_complex())

    def shape_of(self, line: str, shape: Shape) -> Shape:
        """Return the shape of numbers of rows, columns or matrices."""
        last = [shape[-2] if line == "row" else 1, shape[-1] if line == "column" else 1]
        return (shape[0], *[1] * (len(shape) - 1)) if self.view == "units" else (*shape[:-2], *last)

    def seen(self, shape: Shape) -> tuple[int, int, int]:
        """Return how many matrices a parameter is, and how many rows and columns these have."""
        if self.view == "units":
            rows = shape[0] if len(shape) > 1 else 1
            return 1, rows, math.prod(shape) // rows if rows else 0
        return math.prod(shape[:-2]), shape[-2], shape[-1]

    def _seen(self, shapes: Sequence[Shape]) -> list[Seen]:
        width = 1 << self._log_width(shapes)
        of_shapes = map(self.seen, shapes)
        return [Seen(k, n, m, -(-n // HEIGHT), -(-m // width)) for k, n, m in of_shapes]

    def _log_width(self, shapes: Sequence[Shape]) -> int:
        """Return the logarithm of the columns of a tile: not many more than the widest matrix has."""
        widest = max(self.seen(shape)[2] for shape in shapes)
        least, most = LOG_WIDTHS
        return min(max((widest - 1).bit_length(), least), most)

    def _space(self, seen: Seen) -> int:
        rows, columns = seen.matrices * seen.rows, seen.matrices * seen.columns
        sums = self.row_sums * rows * seen.across + self.column_sums * columns * seen.down
        return self.matrix * seen.matrices + self.row * rows + self.column * columns + sums


def starts(counts: Sequence[int]) -> list[int]:
    """Return the sums of all counts before each."""
    return list(accumulate(counts, initial=0))[:-1]
