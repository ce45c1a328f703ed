"""C of the loops of a kernel: over blocks of elements, or over tiles of matrices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..phases import Phases
from .accessors import Accessor, Slot

BLOCK = 1024
"""Elements per block. Reductions add block by block, and threads share out whole blocks."""

LANES = 16
"""Number of parallel partial sums within a block, with which a reduction vectorises in a fixed order."""

INDICES = {"matrices": "b", "rows": "r", "columns": "c"}
"""Names of the loops over the dimensions of a parameter."""

PLACES = {
    "tensor": "0",
    "matrix": "b",
    "row": "b * item->seen.rows + r",
    "column": "b * item->seen.columns + c",
}
"""Place of a number among those of its line, in these loops."""

Sum = tuple[str, int, str]
"""A sum over elements: what it belongs to, its index there, and what the current element adds to it."""


def number_at(line: str, index: int) -> str:
    """Spell the place where a number is kept during the step; see tiles.c."""
    return f"reduced[{index}]" if line == "tensor" else f"{line.upper()}_NUMBER({index})"


def for_each(dimensions: Iterable[str], inside: list[str]) -> list[str]:
    """Spell loops over dimensions of a parameter."""
    loops = [f"for (int64_t {i} = 0; {i} < item->seen.{d}; {i}++)" for d in dimensions for i in (INDICES[d],)]
    return [*loops, "{", *indented(inside), "}"]


def indented(lines: list[str]) -> list[str]:
    """Put lines deeper by one level."""
    return [f"  {line}" for line in lines]


@dataclass(frozen=True)
class Body:
    """The part of a loop that computes what is wanted of each element.

    Attributes:
        real: the C type to compute in.
        slots: all tensors of the kernel.
        before: lines before the loop.
        numbers: the numbers that are read, by name: what each belongs to, and its index there.
        read: the tensors that are read.
        inside: lines of the loop, which follow the reading.
        copies: what numbers belong to that the loop reads from a copy for each element.
    """

    real: str
    slots: Sequence[Slot]
    before: list[str]
    numbers: Mapping[str, tuple[str, int]]
    read: list[Accessor]
    inside: list[str]
    copies: tuple[str, ...] = ("column",)

    def numbers_of(self, *lines: str) -> list[str]:
        """Spell the numbers that belong to one of ``lines``."""
        return [
            f"const {self.real} {name} = ({self.real}){number_at(line, index)};"
            for name, (line, index) in self.numbers.items()
            if line in lines
        ]

    def copied(self) -> dict[str, str]:
        """Return the numbers that are read from a copy for each element, by name, with the place of each."""
        return {name: number_at(line, index) for name, (line, index) in self.numbers.items() if line in self.copies}

    def declared(self, values: Mapping[str, str]) -> list[str]:
        """Spell the old values of tensors, the numbers of the element, and all that is computed of them."""
        read = {f"old_{name}": value for name, value in values.items()} | {n: f"of_{n}[i]" for n in self.copied()}
        return [*(f"const {self.real} {name} = {value};" for name, value in read.items()), *self.inside]

    def pointers(self, accessors: Iterable[Accessor], written: Collection[Accessor], start: str) -> list[str]:
        """Spell the addresses of the tensors that hold ``accessors``, from element ``start`` on."""
        lines = []
        for index, slot in enumerate(self.slots):
            accessor = next((f for f in accessors if slot in f.parts), None)
            if accessor is not None:
                c_type = slot.c_type if accessor in written else f"const {slot.c_type}"
                offset = f"({start}) / STORAGE_BLOCK" if slot.layout == "blocks" else start
                lines.append(f"{c_type} *restrict at_{slot.name} = ({c_type} *)item->data[{index}] + {offset};")
        return lines

    def adding(self, size: str, terms: Iterable[str]) -> list[str]:
        """Spell the loop over ``size`` elements, i, that adds up terms or keeps them. Each 16th is in one lane, j."""
        inside = [*self.declared({accessor.name: accessor.load_alone() for accessor in self.read}), *terms]
        return [
            f"const int64_t whole = ({size}) / {LANES} * {LANES};",
            f"for (int64_t start = 0; start < whole; start += {LANES})",
            f"  for (int j = 0; j < {LANES}; j++) {{",
            "    const int64_t i = start + j;",
            *indented(indented(inside)),
            "  }",
            f"for (int64_t i = whole, j = 0; i < {size}; i++, j++) {{",
            *indented(inside),
            "}",
        ]

    def storing(self, changed: Mapping[Accessor, str]) -> list[str]:
        """Spell what the update does with one element, given the names of the new values."""
        stores = [line for accessor, name in changed.items() for line in accessor.store(name)]
        return [*self.declared({accessor.name: accessor.load() for accessor in self.read}), *stores]


def lanes(names: Iterable[str]) -> list[str]:
    """Spell the partial sums of a part."""
    return [f"double {name}[{LANES}] = {{0}};" for name in names]


def added_up(totals: Mapping[str, str], count: str = str(LANES)) -> list[str]:
    """Spell the sums of ``count`` lanes, in their order, given the name of each total's lanes."""
    lines = []
    for total, lanes in totals.items():
        lines += [f"double sum_{lanes} = 0;", f"for (int j = 0; j < {count}; j++) sum_{lanes} += {lanes}[j];"]
        lines += [f"{total} = sum_{lanes};"]
    return lines


class Loops(Protocol):
    """Loops over all elements of a parameter, in parts that threads share.

    Attributes:
        resource: the C that cuts a parameter into parts.
    """

    resource: str

    def sizes(self, phases: Phases) -> dict[str, int]:
        """Return what the resource needs to know."""
        ...

    def count(self, dimensions: Iterable[str]) -> str:
        """Spell the number of terms of a sum over dimensions."""
        ...

    def parts(self, line: str, index: int, total: str) -> list[str]:
        """Spell the sum of what `add` has left of each part."""
        ...

    def add(self, body: Body, sums: Sequence[Sum]) -> list[str]:
        """Spell the sums over a part."""
        ...

    def update(self, body: Body, changed: Mapping[Accessor, str]) -> list[str]:
        """Spell the update of a part, given the names of new values."""
        ...


class Elements:
    """Loops over blocks of elements; see elements.c."""

    resource = "elements.c"

    def sizes(self, phases: Phases) -> dict[str, int]:
        """Return nothing."""
        return {}

    def count(self, dimensions: Iterable[str]) -> str:
        """Spell the size of the tensor."""
        return "item->size"

    def parts(self, line: str, index: int, total: str) -> list[str]:
        """Spell what launch.c has added up."""
        return [f"const double {total} = sums[{index}];"]

    def add(self, body: Body, sums: Sequence[Sum]) -> list[str]:
        """Spell sums that vectorise in a fixed order."""
        totals = {f"sums[{index}]": f"lanes{n}" for n, (_, index, _) in enumerate(sums)}
        return [
            "const int64_t low = part->low, high = part->high;",
            *body.before,
            *body.numbers_of("tensor"),
            *body.pointers(body.read, (), "low"),
            *lanes(totals.values()),
            *body.adding("high - low", [f"lanes{n}[j] += {added};" for n, (_, _, added) in enumerate(sums)]),
            *added_up(totals),
        ]

    def update(self, body: Body, changed: Mapping[Accessor, str]) -> list[str]:
        """Spell one loop over the part or, for codes, a loop for each of their blocks."""
        accessors = list(dict.fromkeys([*body.read, *changed]))
        loop = self._blockwise if any(accessor.is_blockwise for accessor in accessors) else self._straight
        lines = ["const int64_t low = part->low, high = part->high;", *body.before, *body.numbers_of("tensor")]
        return [*lines, *loop(body, accessors, changed)]

    def _straight(self, body: Body, accessors: list[Accessor], changed: Mapping[Accessor, str]) -> list[str]:
        loop = ["INDEPENDENT", "for (int64_t i = 0; i < high - low; i++) {", *indented(body.storing(changed)), "}"]
        return [*body.pointers(accessors, changed, "low"), *loop]

    def _blockwise(self, body: Body, accessors: list[Accessor], changed: Mapping[Accessor, str]) -> list[str]:
        size = "const int32_t size = high - start < STORAGE_BLOCK ? (int32_t)(high - start) : STORAGE_BLOCK;"
        return [
            *once(accessors),
            "for (int64_t start = low; start < high; start += STORAGE_BLOCK) {",
            *indented([size, *block(body, accessors, changed)]),
            "}",
        ]


def once(accessors: Iterable[Accessor]) -> list[str]:
    """Spell what coded tensors need before all blocks of codes."""
    step = "const uint32_t step = (uint32_t)(int64_t)read_counter(item, STEP);"
    return [step, *(line for accessor in accessors for line in accessor.once())]


def block(body: Body, accessors: list[Accessor], changed: Mapping[Accessor, str]) -> list[str]:
    """Spell the update of one block of codes, with ``size`` elements from element ``start`` on."""
    return [
        *body.pointers(accessors, changed, "start"),
        *(line for accessor in accessors for line in accessor.opening()),
        "INDEPENDENT",
        "for (int32_t i = 0; i < size; i++) {",
        *indented(body.storing(changed)),
        "}",
        *(line for accessor in changed for line in accessor.closing()),
    ]
