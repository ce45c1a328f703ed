"""Triton of a trace: the kernel of one program, and the host part that computes its constants."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch

from ...kinds import Extent
from ...trace import Trace
from ...views import compute_dtype
from ..base import UnsupportedError
from ..expressions import ROOTS, Expressions, is_power, is_root
from ..lowering import Op
from ..plan import Host, compiled, host_source
from .tables import COLUMNS

BLOCK = 1024
"""Elements per program of the launch: 8 for each thread of 4 warps, which 16-byte loads divide for each dtype."""

WORDS = {
    "maximum": "tl.where({1} > {0}, {1}, tl.where({1} == {1}, {0}, {1}))",
    "minimum": "tl.where({1} < {0}, {1}, tl.where({1} == {1}, {0}, {1}))",
    "abs": "tl.abs({0})",
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

HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Kernel:
    """Triton for one program and one choice of dtypes.

    Attributes:
        source: Python with the function ``update``, which Triton compiles.
        slots: the names of the tensors, in the kernel's order: p, g, then the program's state.
        dtypes: the dtype of each slot.
        host: the host part, which computes the kernel's constants.
    """

    source: str
    slots: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    host: Host

    @property
    def real(self) -> torch.dtype:
        """The dtype to compute in, and of the constants."""
        return compute_dtype(self.dtypes[0])


@dataclass(frozen=True)
class _Spelling:
    """Triton in one dtype."""

    real: torch.dtype

    def call(self, word: str, args: list[str]) -> str:
        if word in FUNCTIONS:
            return f"{word}_f({', '.join(args)})"
        template = PRECISE[self.real][0] if word == "sqrt" else WORDS[word]
        return template.format(*args, real=_spelled(self.real))

    def quotient(self, a: str, b: str) -> str:
        return PRECISE[self.real][1].format(a, b)

    def choice(self, number: str, a: str, b: str) -> str:
        return f"tl.where({number} != 0, {a}, {b})"

    def power(self, base: str, exponent: str) -> str:
        return f"tl.where({exponent} == 0.5, {self.call('sqrt', [base])}, power_f({base}, {exponent}))"


def unknown_words(trace: Trace, real: torch.dtype) -> list[str]:
    """Return the words of a trace that no kernel computing in ``real`` has to the bits of the CPU, in order.

    C takes square roots where all exponents of the step are 1/2, and so several exponents are refused.
    """
    expressions = Expressions(trace)
    needed = expressions.cone(expressions.outputs.values())
    exponents = {op.numbers for op in needed if is_power(op) and not is_root(op)}
    unknown = {word for op in needed if (word := _unknown_word(op, real))}
    return sorted(unknown | ({"powers by several numbers"} if len(exponents) > 1 else set()))


def _unknown_word(op: Op, real: torch.dtype) -> str:
    """Return the word of an operation that cannot be spelled; empty for an operation that can."""
    word = ROOTS[op.numbers[0]] if is_root(op) else "power" if is_power(op) else op.word
    if word in ("sqrt", *SPELLED_ALIKE) and (is_power(op) or not op.pattern):
        return ""
    is_known = word in WORDS or (word in (*FUNCTIONS, "power") and real == torch.float32)
    return "" if is_known else f"{word} of {real}".replace("torch.", "")


def emit(trace: Trace, dtypes: Mapping[str, torch.dtype]) -> Kernel:
    """Write the kernel of ``trace``.

    Args:
        trace: the trace of a pointwise program.
        dtypes: the dtype of each tensor: p, g and the tensor state, in the trace's order.

    Raises:
        UnsupportedError: the trace has words that Triton's functions do not round as the CPU does.
    """
    if words := unknown_words(trace, compute_dtype(dtypes["p"])):
        raise UnsupportedError(f"the Triton executor does not have {', '.join(words)} yet")
    return _Emitter(trace, dtypes).kernel()


class _Emitter:
    def __init__(self, trace: Trace, dtypes: Mapping[str, torch.dtype]) -> None:
        self.trace, self.dtypes = trace, dtypes
        self.expressions = Expressions(trace)
        self.real = compute_dtype(dtypes["p"])
        outputs, inputs = self.expressions.outputs, self.expressions.inputs
        self.changed = {name: op for name, op in outputs.items() if op is not inputs[name]}
        self.cone = self.expressions.cone(self.changed.values())
        needed = {*self.changed.values(), *(a for op in self.cone for a in op.args)}
        self.read = [name for name, op in inputs.items() if op in needed]

    def kernel(self) -> Kernel:
        """Spell the whole kernel. Expressions come first: they say which constants they need."""
        spelling = _Spelling(self.real)
        names = self.expressions.names
        computed = [f"{names[op]} = {self.expressions.spell(op, spelling)}" for op in self.cone]
        lines = [
            *self._tile(),
            *(f"c{i} = tl.load(own + {i})" for i in self.expressions.constants_of(self.cone)),
            f"i = tl.arange(0, {BLOCK})",
            f"if left >= {BLOCK}:",
            *_indented([*self._loads(""), *computed, *self._stores("")]),
            "else:",
            *_indented(["inside = i < left", *self._loads(", mask=inside"), *computed, *self._stores(", mask=inside")]),
        ]
        head = ["import triton", "import triton.language as tl", "", ""]
        functions = [words(), ""] if any("_f(" in line for line in computed) else []
        signature = ["@triton.jit", "def update(table, owners, constants, IS_ALIGNED: tl.constexpr):"]
        source = "\n".join([*head, *functions, *signature, *_indented(lines)]) + "\n"
        host = compiled(host_source(self.trace, self.expressions.lowering, self.expressions.constants))["host"]
        return Kernel(source, tuple(self.dtypes), tuple(self.dtypes.values()), host)

    def _tile(self) -> list[str]:
        """Spell the lookup of the tile: its parameter's row in the table, and its place in the parameter's tensors."""
        count = len(self.dtypes)
        columns = {name: f"tl.load(row + {place})" for place, name in enumerate(COLUMNS, count)}
        used = self._used()
        addresses = [
            f"at_{name} = tl.load(row + {place}).to(tl.pointer_type({_spelled(dtype)})) + start"
            for place, (name, dtype) in enumerate(self.dtypes.items())
            if name in used
        ]
        return [
            "tile = tl.program_id(0)",
            f"row = table + tl.load(owners + tile).to(tl.int64) * {count + len(COLUMNS)}",
            f"start = (tile - {columns['first']}) * {BLOCK}",
            f"left = {columns['size']} - start",
            f"own = constants + {columns['row']} * {max(1, len(self.expressions.constants))}",
            *addresses,
            "if IS_ALIGNED:",
            *_indented([f"at_{name} = tl.multiple_of(at_{name}, 16)" for name in self.dtypes if name in used]),
        ]

    def _used(self) -> Collection[str]:
        return {*self.read, *self.changed}

    def _loads(self, mask: str) -> list[str]:
        return [f"old_{name} = tl.load(at_{name} + i{mask}).to({_spelled(self.real)})" for name in self.read]

    def _stores(self, mask: str) -> list[str]:
        names = self.expressions.names
        return [
            f"tl.store(at_{name} + i, {self._rounded(names[op], self.dtypes[name])}{mask})"
            for name, op in self.changed.items()
        ]

    def _rounded(self, value: str, dtype: torch.dtype) -> str:
        """Spell the conversion of a result to its tensor's dtype. Doubles become halves by way of float32, as in C."""
        by_way = ".to(tl.float32)" if dtype in HALVES and self.real == torch.float64 else ""
        return f"{value}{by_way}.to({_spelled(dtype)})"


@cache
def words() -> str:
    """Return the Triton of all `FUNCTIONS`, and of powers."""
    return files(__package__).joinpath("words.txt").read_text(encoding="utf-8")


def extents_are_full(trace: Trace) -> bool:
    """Return whether all values of a trace are numbers of the host or tensors like the parameter."""
    extents = (node.meta.get("extent", Extent.HOST) for node in trace.graph.nodes)
    return all(extent in (Extent.HOST, Extent.FULL) for extent in extents)


def _spelled(dtype: torch.dtype) -> str:
    return str(dtype).replace("torch.", "tl.")


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
