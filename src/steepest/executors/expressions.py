"""Expressions of a kernel's loop, made of a trace. C and Triton differ in their spelling only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from ..kinds import Extent
from ..trace import Trace
from ..vocabulary import WORDS
from .lowering import ONE, Op, fold, literal, lower

SUMS = {name: word.made_of for name, word in WORDS.items() if word.made_of is not None}
"""Words that are sums; of a number that they cannot reduce they are its size, or the number itself."""

ROOTS = {literal(1 / 2): "sqrt", literal(1 / 3): "cube_root"}
"""Functions that powers with a literal exponent are."""

FOLDED = ("addcmul", "addcdiv")
"""Sums with a product or quotient of two operands."""


class Language(Protocol):
    """Spelling of operations in one language. Sums, differences and products are spelled alike in all of them."""

    def call(self, word: str, args: list[str]) -> str:
        """Spell a word of the vocabulary."""
        ...

    def quotient(self, a: str, b: str) -> str:
        """Spell ``a / b``, where ``a`` may be a product."""
        ...

    def choice(self, number: str, a: str, b: str) -> str:
        """Spell ``a`` where a number is not 0, and else ``b``."""
        ...

    def power(self, base: str, exponent: str) -> str:
        """Spell a power by a number that is not one of `ROOTS`."""
        ...


@dataclass(eq=False)
class Expressions:
    """Lowered operations of a trace, with names for their results and for the numbers that they read.

    Attributes:
        trace: the trace.
        prefix: put before the names of run-time numbers in host expressions.
        constants: the host expressions that operations read, with the index of each, in the order of first use.
    """

    trace: Trace
    prefix: str = ""
    constants: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Lower and fold the trace, and name the results."""
        self.lowering, self.inputs, self.outputs = lower(self.trace, self.prefix)
        self.ops = fold(self.lowering.ops, list(self.outputs.values()))
        self.names = {op: f"t{i}" for i, op in enumerate(self.ops)}
        self.names.update({op: f"old_{name}" for name, op in self.inputs.items()})

    def constant(self, expression: str) -> str:
        """Return the name of the constant that holds a host expression."""
        return f"c{self.constants.setdefault(expression, len(self.constants))}"

    def spell(self, op: Op, language: Language) -> str:
        """Spell ``op`` as an expression of the names of its operands and constants."""
        args = [self.names[a] for a in op.args]
        numbers = [self.constant(n) for n in numbers_of(op)]
        if op.word in SUMS:
            return language.call("abs" if SUMS[op.word].of_squares else "same", args)
        if op.pattern:
            tensors, scalars = iter(args), iter(numbers)
            return language.call(op.word, [next(tensors if is_tensor else scalars) for is_tensor in op.pattern])
        if op.word == "add":
            return f"{args[0]} + {' * '.join(numbers + args[1:])}"
        if op.word in FOLDED:  # the number first, as in torch: what is too large to be squared may be small times it
            scaled = " * ".join([*numbers, args[1]])
            added = f"{scaled} * {args[2]}" if op.word == "addcmul" else language.quotient(scaled, args[2])
            return f"{args[0]} + {added}"
        if op.word == "mul":
            return f"{args[0]} * {(args + numbers)[1]}"
        if op.word == "div":
            return language.quotient(args[0], (args + numbers)[1])
        if op.word == "reciprocal":
            return language.quotient("1", args[0])
        if op.word == "select":
            return language.choice(numbers[0], *args)
        if is_power(op) and not is_root(op):
            return language.power(args[0], numbers[0])
        return language.call(ROOTS[op.numbers[0]] if is_root(op) else op.word, args + numbers)

    def cone(self, targets: Iterable[Op]) -> list[Op]:
        """Return the operations on whole tensors that ``targets`` need, in order."""
        needed: set[Op] = {op for op in targets if op.extent == Extent.FULL}
        for op in reversed(self.ops):
            if op in needed:
                needed.update(a for a in op.args if a.extent == Extent.FULL)
        return [op for op in self.ops if op in needed]

    def constants_of(self, ops: Iterable[Op]) -> list[int]:
        """Return the indices of the constants that operations read, in order."""
        return sorted({self.constants[n] for op in ops for n in numbers_of(op)})


def numbers_of(op: Op) -> tuple[str, ...]:
    """Return the numbers that an operation really uses. A sum's factor of 1 and a root's exponent are not spelled."""
    is_plain_sum = op.word in ("add", *FOLDED) and op.numbers == (ONE,) and len(op.args) > 1
    return () if is_plain_sum or is_root(op) else op.numbers


def is_power(op: Op) -> bool:
    """Return whether ``op`` is a power by a number."""
    return op.word == "pow" and not op.pattern


def is_root(op: Op) -> bool:
    """Return whether ``op`` is a power by the literal exponent of a root."""
    return is_power(op) and op.numbers[0] in ROOTS
