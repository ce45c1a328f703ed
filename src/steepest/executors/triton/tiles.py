"""Launches over tiles of matrices, and over what numbers belong to: tensors, matrices, rows and columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

import torch

from ..lowering import Op
from ..phases import DIMENSIONS, is_element, is_summed, line_of, result, summed_over, term
from .accessors import spelled
from .emitter import Emitter, indented
from .kernel import Launch
from .layouts import HEIGHT, LANES, LOG_STEP, Tiling
from .spelling import Spelling

COUNTS = {"tensor": "1", "matrix": "matrices", "row": "matrices * rows", "column": "matrices * columns"}
"""The count of a parameter's numbers, by what they belong to."""

PLACES = {"tensor": "0", "matrix": "b", "row": "b * rows + r", "column": "b * columns + c"}
"""The place of each among them."""

VECTORS = {"row": ("rows", "r"), "column": ("columns", "c")}
"""Lines of which a program has several, with the dimension that they are counted along and the name of their place."""

SUMS_OF_ROWS = """
@triton.jit
def sums_of_rows(x, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ROUNDS: tl.constexpr):
    for n in tl.static_range(1, ROUNDS):
        x = tl.sum(tl.reshape(x, [ROWS, COLUMNS >> n, 2]), 2)
    return tl.sum(x, 1)
""".strip()
"""A sum of each row in a fixed order: neighbours are added, then neighbouring sums, so that no layout changes a bit."""


class Tiles(Emitter):
    """Writer of a kernel that sees tensors as matrices.

    A program of a tile goes down its rows, a step of 1024 elements at a time. Sums of rows are taken in each step, and
    those of columns and of the whole tile in the end.
    """

    fixed = ("IS_ALIGNED", "LOG_WIDTH")
    block = LANES
    warps = 4

    @cached_property
    def layout(self) -> Tiling:
        """Tiles, and rooms for numbers and sums."""
        return Tiling.of_kernel(self.phases)

    def launches(self) -> dict[Launch, list[str]]:
        """Spell sums and numbers phase by phase, then the update."""
        written: dict[Launch, list[str]] = {}
        for phase in range(self.phases.count):
            if sums := self.phases.sums_in(phase):
                written[Launch(f"add_{phase}", "tiles")] = self._add(sums)
            for line in DIMENSIONS:
                if lines := self._combine(phase, line):
                    written[Launch(f"combine_{phase}_{line}", line)] = lines
        if changed := self.changed():
            written[Launch("update", "tiles")] = self._update(changed)
        return written

    # -- places of numbers and sums ----------------------------------------------------------------------------------

    def _number_at(self, op: Op, place: str = "") -> str:
        """Spell the address of a number, as a rule of the matrix b, its row r or its column c."""
        line, index = line_of(op), self.phases.numbers[op]
        if line == "tensor":
            return f"reduced + place * {self.phases.counted(self.phases.numbers, line)} + {index}"
        before = list(DIMENSIONS)[1 : list(DIMENSIONS).index(line)]
        offsets = [*self._counted(before), (index, COUNTS[line])]
        return " + ".join(["room + space", *_products(offsets), place or PLACES[line]])

    def _sum_at(self, op: Op, part: str) -> str:
        """Spell the address of a sum of a part of the row r or the column c of the matrix b."""
        line = line_of(op)
        parts = "across" if line == "row" else "down"
        before = [(self.layout.row_sums, f"across * {COUNTS['row']}")] if line == "column" else []
        offsets = [
            *self._counted(("matrix", "row", "column")),
            *before,
            (self.phases.sums[op], f"{parts} * {COUNTS[line]}"),
        ]
        return " + ".join(["room + space", *_products(offsets), f"{part} * {COUNTS[line]}", PLACES[line]])

    def _counted(self, lines: Iterable[str]) -> list[tuple[int, str]]:
        """Return how many numbers are kept for each of some kinds of lines, and how many lines there are."""
        return [(self.phases.counted(self.phases.numbers, line), COUNTS[line]) for line in lines]

    # -- tiles -------------------------------------------------------------------------------------------------------

    def _add(self, ops: list[Op]) -> list[str]:
        """Spell the launch that takes sums of tiles and of parts of rows and columns."""
        terms = {op: f"tl.where(inside, {term(op, f'{self.names[op.args[0]]}.to(tl.float64)')}, 0.0)" for op in ops}
        kept = [op for op in ops if line_of(op) != "row"]
        step = [f"lanes_{self.names[op]} += {terms[op]}" for op in kept]
        for op in ops:
            if line_of(op) == "row":
                summed = f"sums_of_rows({terms[op]}, HIGH, WIDTH, LOG_WIDTH)[:, None]"
                step.append(f"tl.store({self._sum_at(op, 'beside')}, {summed}, mask=r < rows)")
        ending = []
        for op in kept:
            name = self.names[op]
            if line_of(op) == "column":
                below = f"sums_of_rows(tl.trans(lanes_{name}), WIDTH, HIGH, {LOG_STEP} - LOG_WIDTH)[None, :]"
                ending.append(f"tl.store({self._sum_at(op, 'below')}, {below}, mask=c < columns)")
            else:
                count = self.phases.counted(self.phases.sums, "tensor")
                of_rows = f"tl.reshape(sums_of_rows(lanes_{name}, HIGH, WIDTH, LOG_WIDTH), [1, HIGH])"
                summed = f"tl.sum(sums_of_rows({of_rows}, 1, HIGH, {LOG_STEP} - LOG_WIDTH), 0)"
                ending.append(f"tl.store(sums + tile.to(tl.int64) * {count} + {self.phases.sums[op]}, {summed})")
        zeros = [f"lanes_{self.names[op]} = tl.full([HIGH, WIDTH], 0.0, tl.float64)" for op in kept]
        return [*self._tile([op.args[0] for op in ops], {}, zeros, step), *ending]

    def _update(self, changed: Mapping[str, Op]) -> list[str]:
        """Spell the launch that writes new elements."""
        stores = [
            line
            for name, op in changed.items()
            for line in self.accessors[name].store(f"tl.broadcast_to({self.names[op]}, i.shape)", ", mask=inside")
        ]
        return self._tile(list(changed.values()), changed, [], stores)

    def _tile(self, targets: list[Op], changed: Mapping[str, Op], opening: list[str], step: list[str]) -> list[str]:
        """Spell the loop down a tile that computes ``targets`` and then does ``step``."""
        cone, needed = self.expressions.cone(targets), self.read_by(targets)
        read, accessors = self.used(targets, changed)
        numbers = [op for op in self.phases.numbers if op in needed]
        return [
            "tile = tl.program_id(0)",
            *self.row("tl.load(owners + tile)"),
            *self._place_of_tile(),
            *(self.address(part) for accessor in accessors for part in accessor.parts),
            "if IS_ALIGNED:",
            "    columns = tl.multiple_of(columns, 8)",
            *(f"    at_{part.name} = tl.multiple_of(at_{part.name}, 16)" for each in accessors for part in each.parts),
            *self.constants(cone),
            *self._numbers(numbers, "tensor", ""),
            *self._numbers(numbers, "matrix", ""),
            *self._numbers(numbers, "column", ", mask=c < columns, other=0.0"),
            *opening,
            "for top in range(below * HEIGHT, last, HIGH):",
            *indented(
                [
                    "r = top + tl.arange(0, HIGH)[:, None]",
                    "inside = (r < rows) & (c < columns)",
                    "i = (b * rows + r) * columns + c",
                    *self._numbers(numbers, "row", ", mask=r < rows, other=0.0"),
                    *(f"old_{name} = {self.accessors[name].load(', mask=inside')}" for name in read),
                    *self.computed(cone),
                    *step,
                ]
            ),
        ]

    def _place_of_tile(self) -> list[str]:
        """Spell the matrix of a tile, its columns, and the row after its last one."""
        return [
            "WIDTH: tl.constexpr = 1 << LOG_WIDTH",
            f"HIGH: tl.constexpr = 1 << ({LOG_STEP} - LOG_WIDTH)",
            f"HEIGHT: tl.constexpr = {HEIGHT}",
            "beside = (tile - first) % across",
            "below = (tile - first) // across % down",
            "b = (tile - first) // across // down",
            "c = beside * WIDTH + tl.arange(0, WIDTH)[None, :]",
            "last = tl.minimum(below * HEIGHT + HEIGHT, rows)",
            *self.unless_left_out("last"),
        ]

    def _numbers(self, numbers: Iterable[Op], line: str, mask: str) -> list[str]:
        """Spell the loads of the numbers that belong to lines of a kind, in the dtype to compute in."""
        return [
            f"{self.names[op]} = tl.load({self._number_at(op)}{mask}).to({spelled(self.real)})"
            for op in numbers
            if line_of(op) == line
        ]

    # -- numbers -----------------------------------------------------------------------------------------------------

    def _combine(self, phase: int, line: str) -> list[str]:
        """Spell the launch that computes the numbers of a phase which belong to lines of a kind, and moves state.

        It is empty if there is nothing to do.
        """
        slots = [slot for slot in self.kept.values() if slot.layout == line]
        loaded = {self.expressions.inputs[s.name]: s for s in slots if self.phases.is_read(s.name, phase)}
        stored = {s: self.expressions.outputs[s.name] for s in slots if self.phases.is_stored(s.name, phase)}
        ops = self.phases.numbers_in(phase, line)
        made = [*loaded, *ops]
        read = [*(a for op in ops if not is_summed(op) for a in op.args), *stored.values()]
        if not made and not stored:
            return []
        mask, index = ", mask=inside" if line in VECTORS else "", f" + {PLACES[line]}"
        return [
            *self.row("tl.load(owners + tl.program_id(0))"),
            *self._place_of_line(line),
            *map(self.address, dict.fromkeys([*loaded.values(), *stored])),
            *self.constants((op for op in ops if not is_summed(op)), in_double=True),
            *(self.kept_number(slot, index, mask) for slot in loaded.values()),
            *(self._given(op, mask) for op in dict.fromkeys(read) if op not in made),
            *(each for op in ops for each in self._number(op, mask)),
            *(f"tl.store({self._number_at(op)}, {self.names[op]}{mask})" for op in made if op in self.phases.numbers),
            *(self.stored_number(s, self.names[op], index, self._taken(line)) for s, op in stored.items()),
        ]

    def _taken(self, line: str) -> str:
        """Spell the mask of a store of state, which the device may leave out."""
        if not self.is_on_device:
            return ", mask=inside" if line in VECTORS else ""
        is_inside = f"index < {COUNTS[line]} * {self.taken}.to(tl.int64)"
        return f", mask={is_inside if line in VECTORS else f'{self.taken} != 0'}"

    def _place_of_line(self, line: str) -> list[str]:
        """Spell which matrix, or which rows or columns, a program has."""
        if line not in VECTORS:
            return ["b = tl.program_id(0) - first_matrix"] if line == "matrix" else []
        dimension, place = VECTORS[line]
        return [
            f"index = (tl.program_id(0) - first_{line}) * {LANES} + tl.arange(0, {LANES})",
            f"inside = index < {COUNTS[line]}",
            f"b = index // {dimension}",
            f"{place} = index % {dimension}",
        ]

    def _given(self, op: Op, mask: str) -> str:
        """Spell the load of a number that an earlier launch has computed."""
        return f"{self.names[op]} = tl.load({self._number_at(op)}{'' if line_of(op) == 'tensor' else mask})"

    def _number(self, op: Op, mask: str) -> list[str]:
        """Spell a number in double."""
        name = self.names[op]
        if not is_summed(op):
            return [f"{name} = {self.expressions.spell(op, Spelling(torch.float64))}"]
        (summed,) = op.args
        if not is_element(summed):
            lines = self._sum_of_numbers(op)
        elif line_of(op) == "tensor":
            lines = self._sum_of_tiles(op)
        else:
            parts, masked = "across" if line_of(op) == "row" else "down", f"{mask}, other=0.0"
            lines = [
                f"sum_{name} = tl.full([{LANES}], 0.0, tl.float64)",
                f"for part in range(0, {parts}):",
                f"    sum_{name} += tl.load({self._sum_at(op, 'part')}{masked})",
            ]
        size = f"({' * '.join(summed_over(op))}).to(tl.float64)"
        return [*lines, f"{name} = {result(op, f'sum_{name}', size, 'tl.sqrt')}"]

    def _sum_of_tiles(self, op: Op) -> list[str]:
        count = self.phases.counted(self.phases.sums, "tensor")
        each = f"sums + (first + each_{self.names[op]}) * {count} + {self.phases.sums[op]}"
        return self._lanes(op, "matrices * down * across", each, "{}")

    def _sum_of_numbers(self, op: Op) -> list[str]:
        """Spell the sum over the numbers of a matrix, or of all matrices."""
        (summed,), each = op.args, f"each_{self.names[op]}"
        dimensions = summed_over(op)
        place = f"b * {dimensions[-1]} + {each}" if line_of(op) == "matrix" else each
        return self._lanes(op, " * ".join(dimensions), self._number_at(summed, place), term(op, "{0}"))

    def _lanes(self, op: Op, count: str, address: str, added: str) -> list[str]:
        """Spell a sum: each lane adds every so manieth term, and the lanes are added in the end."""
        name = self.names[op]
        load = f"tl.load({address}, mask=each_{name} < count_{name}, other=0.0)"
        return [
            f"count_{name} = {count}",
            f"lanes_{name} = tl.full([{LANES}], 0.0, tl.float64)",
            f"for start in range(0, count_{name}, {LANES}):",
            f"    each_{name} = start + tl.arange(0, {LANES})",
            f"    term_{name} = {load}",
            f"    lanes_{name} += {added.format(f'term_{name}')}",
            f"sum_{name} = total_of(lanes_{name})",
        ]

    def _resources(self, text: str) -> list[str]:
        return [*super()._resources(text), *([SUMS_OF_ROWS, "", ""] if "sums_of_rows(" in text else [])]


def _products(offsets: Iterable[tuple[int, str]]) -> list[str]:
    return [f"{count} * {size}" for count, size in offsets if count]
