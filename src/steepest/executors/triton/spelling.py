"""Triton of the vocabulary: how expressions are spelled, and which cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch

from ...trace import Trace
from ..expressions import ROOTS, SUMS, Expressions, is_power, is_root
from ..lowering import Op
from ..phases import is_element, is_summed
from .accessors import spelled

WORDS = {
    "maximum": "tl.where({1} > {0}, {1}, tl.where({1} == {1}, {0}, {1}))",
    "minimum": "tl.where({1} < {0}, {1}, tl.where({1} == {1}, {0}, {1}))",
    "abs": "tl.abs({0})",
    "same": "{0}",
    "sign": "({0} > 0).to({real}) - ({0} < 0).to({real})",
    "where": "tl.where({0} != 0, {1}, {2})",
    "filled": "tl.broadcast_to({1}, {0}.shape)",
    "lerp": "tl.where(tl.abs({2}) < 0.5, {0} + {2} * ({1} - {0}), {1} + ({2} - 1) * ({1} - {0}))",
    "gt": "({0} > {1}).to({real})",
    "ge": "({0} >= {1}).to({real})",
    "lt": "({0} < {1}).to({real})",
    "le": "({0} <= {1}).to({real})",
    "eq": "({0} == {1}).to({real})",
    "ne": "({0} != {1}).to({real})",
}
"""Words and comparisons as words.c has them: a maximum keeps NaN and the first of two zeros."""

FUNCTIONS = ("log", "exp", "sigmoid", "atan2", "cube_root")
"""Functions of float32 numbers in words.txt. Of doubles there are none, as C takes those from its library."""

PRECISE = {
    torch.float32: ("tl.sqrt_rn({0})", "tl.div_rn({0}, {1})"),
    torch.float64: ("tl.sqrt({0})", "{0} / {1}"),
}
"""Root and quotient that IEEE 754 rounds, by the dtype to compute in. Those of doubles have no other form."""

SPELLED_ALIKE = ("add", "addcmul", "addcdiv", "mul", "div", "reciprocal", "select")
"""Operations that `Expressions.spell` writes without a word."""


@dataclass(frozen=True)
class Spelling:
    """Triton in one dtype."""

    real: torch.dtype

    def call(self, word: str, args: list[str]) -> str:
        """Spell a word of the vocabulary."""
        if word in FUNCTIONS:
            return f"{word}_f({', '.join(args)})"
        template = PRECISE[self.real][0] if word == "sqrt" else WORDS[word]
        return template.format(*args, real=spelled(self.real))

    def quotient(self, a: str, b: str) -> str:
        """Spell a quotient that is rounded once."""
        return PRECISE[self.real][1].format(a, b)

    def choice(self, number: str, a: str, b: str) -> str:
        """Spell a choice by a number."""
        return f"tl.where({number} != 0, {a}, {b})"

    def power(self, base: str, exponent: str) -> str:
        """Spell a power, which is a root where the exponent is 1/2."""
        return f"tl.where({exponent} == 0.5, {self.call('sqrt', [base])}, power_f({base}, {exponent}))"


def unknown_words(trace: Trace, real: torch.dtype) -> list[str]:
    """Return the words of a trace that no kernel computing in ``real`` has to the bits of the CPU, in order.

    C takes square roots where all exponents of the step are 1/2, and so several exponents are refused. Numbers of whole
    tensors are computed in double.
    """
    expressions = Expressions(trace)
    full = list(filter(is_element, expressions.ops))
    exponents = {op.numbers for op in full if is_power(op) and not is_root(op)}
    dtypes = {op: real if op in full else torch.float64 for op in expressions.ops if not is_summed(op)}
    unknown = {word for op, dtype in dtypes.items() if (word := _unknown_word(op, dtype))}
    return sorted(unknown | ({"powers by several numbers"} if len(exponents) > 1 else set()))


def _unknown_word(op: Op, real: torch.dtype) -> str:
    """Return the word of an operation that cannot be spelled; empty for an operation that can."""
    word = ROOTS[op.numbers[0]] if is_root(op) else "power" if is_power(op) else op.word
    if word in ("sqrt", *SPELLED_ALIKE) and (is_power(op) or not op.pattern):
        return ""
    is_known = word in (*WORDS, *SUMS) or (word in (*FUNCTIONS, "power") and real == torch.float32)
    return "" if is_known else f"{word} of {real}".replace("torch.", "")


@cache
def words() -> str:
    """Return the Triton of all `FUNCTIONS`, and of powers."""
    return files(__package__).joinpath("words.txt").read_text(encoding="utf-8")
