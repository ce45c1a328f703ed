"""Phases of a kernel: sums over elements, the numbers that follow from them, and in the end the update.

A number belongs to a whole tensor, or to one matrix, row or column of it. A sum has as many results as there are
numbers of its kind, and as many terms for each as are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..kinds import Extent
from ..trace import Trace, reduces
from ..vocabulary import WORDS
from .expressions import SUMS, Expressions
from .lowering import Op

UNIT = Extent.axis(0)
"""Extent of one number for all that an index of the first dimension holds, which is then a row."""

LINES = {
    Extent.REDUCED: "tensor",
    Extent.MATRIX: "matrix",
    Extent.ROW: "row",
    UNIT: "row",
    Extent.COLUMN: "column",
}
"""The line that a number belongs to, by its extent."""

DIMENSIONS = {
    "tensor": (),
    "matrix": ("matrices",),
    "row": ("matrices", "rows"),
    "column": ("matrices", "columns"),
}
"""Dimensions along which numbers change, by what they belong to, in the order in which numbers of a phase follow."""

ALL_DIMENSIONS = ("matrices", "rows", "columns")

ELEMENTS = {Extent.HOST, Extent.REDUCED, Extent.FULL}
"""Extents of kernels that see a tensor as a sequence of elements."""

VIEWS = {
    "elements": ELEMENTS,
    "matrices": ELEMENTS | {Extent.MATRIX, Extent.ROW, Extent.COLUMN},
    "units": ELEMENTS | {UNIT},
}
"""Ways to see each tensor, and the extents that a kernel then knows: as elements in a row; as the matrices of its last
two dimensions; as one matrix with a row for each index of the first dimension.
"""


def view_of(traced: Trace) -> str:
    """Return how the kernel of a trace sees tensors, a key of `VIEWS`; empty if no kernel can be made of it."""
    extents = {Extent(node.meta.get("extent", Extent.HOST)) for node in traced.graph.nodes}
    return next((view for view, known in VIEWS.items() if extents <= known), "")


def refused_sums(traced: Trace) -> str:
    """Return what no kernel of a trace does; empty if a kernel can be made of it."""
    words = dict.fromkeys(node.target for node in traced.graph.nodes if reduces(node))
    if other := [word.name for word in words if word.made_of is None]:
        return f"does not have the word {other[0]}"
    return "" if view_of(traced) else "has sums of whole tensors, matrices, rows and columns, not over other dimensions"


def is_summed(op: Op) -> bool:
    """Return whether an operation is a sum: a reduction of a number is that number."""
    return op.word in SUMS and op.extent != op.args[0].extent


def is_element(op: Op) -> bool:
    """Return whether an operation has a value for each element."""
    return op.extent == Extent.FULL


def line_of(op: Op) -> str:
    """Return what a number belongs to."""
    return LINES[op.extent]


def summed_over(op: Op) -> tuple[str, ...]:
    """Return the dimensions over which a sum is taken."""
    (summed,) = op.args
    terms = ALL_DIMENSIONS if is_element(summed) else DIMENSIONS[line_of(summed)]
    return tuple(dimension for dimension in terms if dimension not in DIMENSIONS[line_of(op)])


def term(op: Op, x: str) -> str:
    """Spell what each element adds to a sum."""
    return f"{x} * {x}" if SUMS[op.word].of_squares else x


def result(op: Op, total: str, size: str, root: str) -> str:
    """Spell the result of a sum of ``size`` terms; ``root`` names the square root of a double."""
    mean = f"{total} / {size}" if SUMS[op.word].is_mean else total
    return f"{root}({mean})" if SUMS[op.word].of_squares else mean


@dataclass(eq=False)
class Phases:
    """The sums and numbers of a kernel, by the phase in which each is known.

    Phase 0 has the numbers that need no sum. Phase k has sums of what the numbers before it tell, and the numbers that
    follow from these sums. The update comes after the last phase.

    Attributes:
        view: how the kernel sees tensors, a key of `VIEWS`.
        level: the phase in which each operation is computed, and each number of state is read.
        sums: the operations that are sums over elements, with the index of each among those of its line.
        values: all numbers. State, which is read, is among them.
        numbers: the numbers that are kept, for what follows in other loops, with the index of each among those of its
            line.
        count: the number of phases.
    """

    expressions: Expressions

    def __post_init__(self) -> None:
        """Count the sums that lie before each operation."""
        self.view = view_of(self.expressions.trace)
        self.level: dict[Op, int] = {}
        for op in self.expressions.ops:
            self.level[op] = max((self.level.get(a, 0) for a in op.args), default=0) + is_summed(op)
        known = (*self.expressions.inputs.values(), *self.expressions.ops)
        self.values = [op for op in known if not is_element(op)]
        self.sums = _by_line(op for op in self.expressions.ops if is_summed(op) and is_element(op.args[0]))
        self.count = 1 + max((self.level[op] for op in self.expressions.ops if is_summed(op)), default=0)
        self.level |= {
            op: self._reading(name, op) for name, op in self.expressions.inputs.items() if not is_element(op)
        }
        self.numbers = _by_line(self._kept())

    def _reading(self, name: str, state: Op) -> int:
        """Return the phase in which numbers of state are read: that of the only loop that needs them, if there is one.

        Else they are read in phase 0 and kept, since new state is stored as soon as it is known.
        """
        outputs = self.expressions.outputs
        readers = [op for op in self.expressions.ops if state in op.args]
        places = {(line_of(op), self.level[op]) for op in readers if not is_element(op) and not is_summed(op)}
        is_apart = len(places) == 1 and not any(is_element(op) or is_summed(op) for op in readers)
        if not is_apart or outputs[name] not in self.level:  # new state that is old state is not in it yet
            return 0
        ((line, phase),) = places
        return phase if line == line_of(state) and phase <= self.level[outputs[name]] else 0

    def _kept(self) -> Iterator[Op]:
        """Yield the numbers that are read in another phase, or in a loop over other lines, or stored as their state."""
        place = {op: (line_of(op), self.level[op]) for op in self.values}
        read = {a for op in self.expressions.ops for a in op.args if is_summed(op) or place.get(a) != place.get(op)}
        stored = [(name, op) for name, op in self.expressions.outputs.items() if op in place]
        elsewhere = {op for name, op in stored if line_of(op) != self._line_of_state(name)}
        yield from (op for op in self.values if op in read or op in elsewhere)

    def _line_of_state(self, name: str) -> str:
        state = self.expressions.inputs[name]
        return "element" if is_element(state) else line_of(state)

    @property
    def takes_vectors(self) -> bool:
        """True if each vector is one row. Other kernels need two dimensions, if they do not see elements only.

        That holds for words of units. For words and state of axes, a vector has a row for each element.
        """
        words = {WORDS[op.word].reduces for op in self.expressions.ops if op.word in SUMS}
        state = {line_of(op) for op in self.expressions.inputs.values() if not is_element(op)}
        return self.view == "units" and "other axes" not in words and "row" not in state

    def sums_in(self, phase: int) -> list[Op]:
        """Return the sums over elements that are taken in a phase."""
        return [op for op in self.sums if self.level[op] == phase]

    def numbers_in(self, phase: int, line: str) -> list[Op]:
        """Return the numbers of a line that are computed in a phase."""
        return [op for op in self.values if line_of(op) == line and self.level[op] == phase and op.word != "input"]

    def is_read(self, name: str, phase: int) -> bool:
        """Return whether numbers of state are read in a phase."""
        return self.level[self.expressions.inputs[name]] == phase

    def is_stored(self, name: str, phase: int) -> bool:
        """Return whether new numbers of state are stored in a phase, as soon as they are known."""
        new = self.expressions.outputs[name]
        return new is not self.expressions.inputs[name] and self.level[new] == phase

    def counted(self, ops: dict[Op, int], line: str) -> int:
        """Return how many of `sums` or `numbers` belong to a line."""
        return sum(line_of(op) == line for op in ops)


def _by_line(ops: Iterable[Op]) -> dict[Op, int]:
    counts = dict.fromkeys(DIMENSIONS, 0)
    found = {}
    for op in ops:
        found[op] = counts[line_of(op)]
        counts[line_of(op)] += 1
    return found
