"""Phases of a kernel for whole tensors: sums over elements, what follows from them, and in the end the update."""

from __future__ import annotations

from dataclasses import dataclass

from ..kinds import Extent
from ..trace import Trace
from ..vocabulary import WORDS, Sum
from .expressions import REDUCTIONS, Expressions
from .lowering import Op

EXTENTS = (Extent.HOST, Extent.REDUCED, Extent.FULL)
"""Extents that a kernel's loops know: numbers, numbers per tensor, and elements."""


def has_known_extents(traced: Trace) -> bool:
    """Return whether no value of a trace changes along rows or columns only."""
    return all(node.meta.get("extent", Extent.HOST) in EXTENTS for node in traced.graph.nodes)


def is_summed(op: Op) -> bool:
    """Return whether an operation is a sum over a whole tensor."""
    return op.word in REDUCTIONS and op.args[0].extent == Extent.FULL


def term(op: Op, x: str) -> str:
    """Spell what each element adds to a sum."""
    return f"{x} * {x}" if made_of(op.word).of_squares else x


def result(op: Op, total: str, size: str, root: str) -> str:
    """Spell the result of a sum; ``root`` names the square root of a double."""
    mean = f"{total} / {size}" if made_of(op.word).is_mean else total
    return f"{root}({mean})" if made_of(op.word).of_squares else mean


def made_of(word: str) -> Sum:
    """Return the sum that a reduction of a whole tensor is made of."""
    declared = WORDS[word].made_of
    assert declared is not None
    return declared


@dataclass(eq=False)
class Phases:
    """The sums of a kernel and the numbers per tensor, by the phase in which each is known.

    Phase 0 has the numbers that need no sum. Phase k has sums of what the numbers before it tell, and the numbers that
    follow from these sums. The update comes after the last phase.

    Attributes:
        level: the phase of each operation.
        sums: the operations that are sums.
        reduced: the numbers per tensor, with the index of each.
        count: the number of phases.
    """

    expressions: Expressions

    def __post_init__(self) -> None:
        """Count the sums that lie before each operation."""
        self.level: dict[Op, int] = {}
        for op in self.expressions.ops:
            self.level[op] = max((self.level.get(a, 0) for a in op.args), default=0) + is_summed(op)
        self.sums = [op for op in self.expressions.ops if is_summed(op)]
        known = (*self.expressions.inputs.values(), *self.expressions.ops)
        self.reduced = {op: i for i, op in enumerate(op for op in known if op.extent == Extent.REDUCED)}
        self.count = 1 + max((self.level[op] for op in self.sums), default=0)

    def sums_in(self, phase: int) -> list[Op]:
        """Return the sums that are taken in a phase."""
        return [op for op in self.sums if self.level[op] == phase]

    def numbers_in(self, phase: int) -> list[Op]:
        """Return the numbers per tensor that are computed in a phase. State, which is read, is not among them."""
        inputs = set(self.expressions.inputs.values())
        return [op for op in self.reduced if op not in inputs and self.level[op] == phase]
