"""The launch that counts steps and computes constants on the device, for ``capturable=True``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch

from ...trace import Trace
from ...transforms.unscale import FOUND_INF
from ..base import UnsupportedError
from ..expressions import Expressions
from .accessors import HALVES, rounded, spelled

FUNCTION = "count"
"""Name of the launch's function."""

ARGUMENTS = ("at_counters", "at_numbers", "at_constants", "at_doubles", "params")
"""Arguments of the function: the addresses of each parameter's counters, the numbers of the step, the rows of constants
of each parameter, rounded and in double, and the number of parameters.
"""

LANES = 32
"""Parameters per program."""

LITERAL = re.compile(r"(?<![\w.])\d+(?:\.\d*)?(?:e[+-]?\d+)?(?![\w.])")
"""A number in a host expression."""

UNKNOWN = ("atan2",)
"""Words of host expressions that a device does not have in double."""


@dataclass(frozen=True)
class Counting:
    """The launch that prepares a step on the device.

    Attributes:
        source: Python with the function `FUNCTION` and those that it calls.
        counters: names of the step count and scalar state, in the order of their addresses.
        numbers: names of the run-time numbers, in the order in which the launch reads them.
        literals: the numbers of the host expressions, which follow them. A literal in Triton may be rounded to float32.
        constants: the number of constants of each parameter.
    """

    source: str
    counters: tuple[str, ...]
    numbers: tuple[str, ...]
    literals: tuple[float, ...]
    constants: int


def counting(
    trace: Trace, expressions: Expressions, counters: tuple[tuple[str, torch.dtype], ...], real: torch.dtype
) -> Counting:
    """Spell the launch.

    A parameter's rows of constants end with 1, or with 0 where ``found_inf`` leaves the step out; before it a row in
    double has the step count.

    Args:
        trace: the program's trace.
        expressions: its expressions, with the constants that the other launches read.
        counters: names and dtypes of ``t`` and scalar state.
        real: the dtype to compute in.

    Raises:
        UnsupportedError: the host part has a word that no device has.
    """
    names = tuple(name for name, _ in counters)
    numbers = tuple(name for name in trace.numbers if name not in names)
    literals: dict[str, int] = {}

    def loaded(found: re.Match[str]) -> str:
        return f"l{literals.setdefault(found[0], len(literals))}"

    def device(expression: str) -> str:
        if word := next((word for word in UNKNOWN if re.search(rf"\b{word}\(", expression)), ""):
            raise UnsupportedError(f"capturable=True computes constants on the device, which has no {word} in double")
        return LITERAL.sub(loaded, expression)

    lowering = expressions.lowering
    computed = [f"{name} = {device(expression)}" for name, expression in lowering.host_lines(trace)]
    width = len(expressions.constants)
    rows = [(i, f"one * ({device(expression)})") for expression, i in expressions.constants.items()]
    step = "t" if "t" in names else "one"
    kept = f"tl.where({FOUND_INF} == 0, one, 0.0)" if FOUND_INF in numbers else "one"
    stores = [
        *(_stored("constants", width + 1, i, f"({value}).to({spelled(real)})") for i, value in rows),
        _stored("constants", width + 1, width, f"kept.to({spelled(real)})"),
        *(_stored("doubles", width + 2, i, value) for i, value in rows),
        _stored("doubles", width + 2, width, step),
        _stored("doubles", width + 2, width + 1, "kept"),
    ]
    new = {"t": "t"} if "t" in names else {}
    new |= {name: f"(one * ({device(expression)}))" for name, expression in lowering.host_state(trace)}
    written = [
        f"tl.store(at_{name}, {rounded(value, dict(counters)[name], torch.float64)}, mask=written)"
        for name, value in new.items()
    ]
    count = len(names)
    lines = [
        f"place = tl.program_id(0).to(tl.int64) * {LANES} + tl.arange(0, {LANES})",
        "inside = place < params",
        f"one = tl.full([{LANES}], 1.0, tl.float64)",
        *(f"{name} = tl.load(at_numbers + {i})" for i, name in enumerate(numbers)),
        *(f"l{i} = tl.load(at_numbers + {len(numbers) + i})" for i in range(len(literals))),
        *(line for i, (name, dtype) in enumerate(counters) for line in _counter(name, dtype, i, count)),
        *computed,
        f"kept = {kept}",
        *stores,
        "written = kept * tl.where(inside, one, 0.0) != 0",
        *written,
    ]
    signature = f"def {FUNCTION}({', '.join(ARGUMENTS)}):"
    source = "\n".join(["@triton.jit", signature, *(f"    {line}" for line in lines)])
    return Counting(f"{words()}\n\n{source}", names, numbers, tuple(map(float, literals)), width)


def _counter(name: str, dtype: torch.dtype, index: int, count: int) -> list[str]:
    """Spell the reading of a counter; steps are counted."""
    by_way = ".to(tl.float32)" if dtype in HALVES else ""
    address = f"tl.load(at_counters + place * {count} + {index}, mask=inside, other=0)"
    return [
        f"at_{name} = {address}.to(tl.pointer_type({spelled(dtype)}))",
        f"{name} = tl.load(at_{name}, mask=inside, other=1.0){by_way}.to(tl.float64){' + 1' if name == 't' else ''}",
    ]


def _stored(table: str, width: int, index: int, value: str) -> str:
    return f"tl.store(at_{table} + place * {width} + {index}, {value}, mask=inside)"


@cache
def words() -> str:
    """Return the Triton of the words of host expressions."""
    return files(__package__).joinpath("host.txt").read_text(encoding="utf-8")
