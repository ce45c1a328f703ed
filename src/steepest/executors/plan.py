"""Plan of a trace: a few `torch._foreach_*` calls over lists of tensors, with no more temporaries than torch's."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from ..trace import Trace
from ..vocabulary import OPERATORS, WORDS
from .lifting import lift, reading
from .lowering import Lowering, fold, in_phases, lower
from .placement import Placement, spelled

Reduction = Callable[..., list[list[Tensor]]]
"""Function that applies words that reduce, each ``(word, extent, tensors, *numbers)`` to a list of one extent."""

Host = Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]
"""Numbers by name -> (constants, new scalar state), in double."""


@dataclass(frozen=True)
class Plan:
    """A program as list calls.

    Attributes:
        host: the host part, which computes the constants of ``step``.
        boxed: for each constant, whether it may be handed over as a 0-dim tensor of the lists' dtype.
        step: ``step(p, g, *state, *constants)`` over lists of tensors. It writes p and state in place.
        calls: the number of list calls that ``step`` makes.
        is_on_device: whether some of the numbers are tensors, which nobody has read.
        source: the generated Python of ``host`` and ``step``.
    """

    host: Host
    boxed: tuple[bool, ...]
    step: Callable[..., None]
    calls: int
    is_on_device: bool
    source: str

    def step_with(self, reduced: Reduction) -> Callable[..., None]:
        """Return `step` with other reductions in it."""
        return FunctionType(self.step.__code__, {**self.step.__globals__, "reduced": reduced})


def make_plan(trace: Trace, on_device: Collection[str] = (), *, is_in_phases: bool = False) -> Plan:
    """Lower, fold and place ``trace``, and compile the Python code that runs it.

    Args:
        trace: the trace.
        on_device: the names of numbers that are tensors; see `steepest.executors.vectors`.
        is_in_phases: whether as many reductions as possible are one call, which may keep more tensors at a time.
    """
    lowering, inputs, outputs = lower(trace)
    ops = lift(fold(lowering.ops, list(outputs.values())), reading(lowering.host_lines(trace), on_device))
    placement = Placement(inputs, outputs, in_phases(ops) if is_in_phases else ops)
    step_lines = placement.emit()
    source = host_source(trace, lowering, [expression for expression, _ in placement.constants])
    source += "\n\n" + _function("step", [*map(spelled, inputs), *placement.constants.values()], step_lines or ["pass"])
    boxed = tuple(is_boxed for _, is_boxed in placement.constants)
    calls = sum(not line.startswith("del ") for line in step_lines)
    functions = compiled(source)
    return Plan(functions["host"], boxed, functions["step"], calls, bool(on_device), source)


def host_source(trace: Trace, lowering: Lowering, constants: Iterable[str]) -> str:
    """Return the Python of the host part, a function ``host`` that returns the values of the expressions ``constants``.

    It is a `Host`.
    """
    lines = [f"{name} = {expression}" for name, expression in lowering.host_lines(trace)]
    state = ", ".join(f"{name!r}: {expression}" for name, expression in lowering.host_state(trace))
    values = "".join(f"{expression}, " for expression in constants)
    return _function("host", list(trace.numbers), [*lines, f"return ({values}), {{{state}}}"])


def reduced(*calls: tuple[Any, ...]) -> list[list[Tensor]]:
    """Apply words that reduce, each to every one of its list of whole tensors; see `Reduction`."""
    return [word.of_each(tensors, *numbers) for word, _, tensors, *numbers in calls]


def quotient(a: Any, b: Any) -> Any:
    """Return ``a / b`` in double as IEEE 754 has it. Dividing by zero gives inf or NaN and raises nothing."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a / b
    if b:
        return a / b
    return math.copysign(math.inf, a) * math.copysign(1.0, b) if a and a == a else math.nan


def power(a: Any, b: Any) -> Any:
    """Return ``a ** b`` in double as IEEE 754 and C have it. It overflows to inf and raises nothing."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a**b
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and b % 2 == 1 else math.inf
    except ValueError:  # a negative number to a broken power, or zero to a negative one
        return math.inf if a == 0 else math.nan


def select(condition: Any, a: Any, b: Any) -> Any:
    """Return ``a`` if the condition holds, and ``b`` otherwise.

    A tensor picks by element, between two plain numbers in double.
    """
    if not isinstance(condition, Tensor):
        return a if condition else b
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = torch.full_like(condition, a, dtype=torch.float64)
    return torch.where(condition, a, b)


def plus(tensors: list[Tensor], number: Any) -> tuple[Tensor, ...]:
    """Add one number, in a tensor or not, or a list of 0-dim tensors.

    Without ``alpha`` torch reads the tensor, which waits for its device, and wraps the number for every tensor again.
    """
    return torch._foreach_add(tensors, number, **({"alpha": 1} if isinstance(number, (Tensor, list)) else {}))


def plus_(tensors: list[Tensor], number: Any) -> None:
    """Add a number as `plus` does, in place."""
    torch._foreach_add_(tensors, number, **({"alpha": 1} if isinstance(number, (Tensor, list)) else {}))


def filled(like: Tensor, value: Any) -> Tensor:
    """Return a tensor like another that holds one number, which may lie on the device."""
    return torch.empty_like(like).copy_(value) if isinstance(value, Tensor) else torch.full_like(like, value)


def _function(name: str, arguments: list[str], lines: list[str]) -> str:
    return f"def {name}({', '.join(arguments)}):\n" + "\n".join(f"    {line}" for line in lines)


def compiled(source: str) -> dict[str, Any]:
    """Return the functions of generated Python, which may use host expressions and torch."""
    comparisons = {f.__name__: f for f in OPERATORS}
    words = {f.__name__: f for f in (quotient, power, select, filled, plus, plus_, reduced)}
    namespace: dict[str, Any] = {
        "torch": torch,
        **WORDS,
        **words,
        "where": select,  # the host part may pick between plain numbers by a vector
        **comparisons,
    }
    exec(compile(source, "<steepest plan>", "exec"), namespace)  # our own generated text, from a checked trace
    return namespace
