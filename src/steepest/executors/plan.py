"""From a trace to a plan: a few `torch._foreach_*` calls over lists of tensors, no more temporaries than torch's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx

from ..trace import Rank, Trace
from ..vocabulary import OPERATORS, WORDS, Word
from .lowering import ONE, Lowering, Op, fold
from .placement import Placement, spelled


@dataclass(frozen=True)
class Plan:
    """A program as list calls.

    Attributes:
        host: numbers by name -> (the constants of ``step``, the new scalar state). In double.
        boxed: for each constant, whether it may be handed over as a 0-dim tensor of the lists' dtype.
        step: ``step(p, g, *state, *constants)`` over lists of tensors; writes p and state in place.
        calls: how many list calls ``step`` makes.
        source: the generated Python of both.
    """

    host: Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]
    boxed: tuple[bool, ...]
    step: Callable[..., None]
    calls: int
    source: str


def make_plan(trace: Trace) -> Plan:
    """Lower, fold and place ``trace``, and compile the Python that does it."""
    lowering = Lowering()
    inputs = {name: Op("input", rank=node.meta["rank"]) for name, node in trace.tensors.items()}
    lowering.tensor = {node: (ONE, inputs[name]) for name, node in trace.tensors.items()}
    lowering.host = {node: name for name, node in trace.numbers.items()}
    for node in trace.graph.nodes:
        if node.op == "call_function":
            lowering.lower(node)
    results = {"p": trace.p} | {name: trace.state[name] for name in trace.tensors if name not in ("p", "g")}
    outputs = {name: lowering.plain(lowering.tensor[node]) for name, node in results.items()}
    ops = fold(lowering.ops, list(outputs.values()))
    placement = Placement(inputs, outputs, ops)
    step_lines = placement.emit()
    host_source = _host_source(trace, lowering, placement.constants)
    step_source = _function("step", [*map(spelled, inputs), *placement.constants.values()], step_lines or ["pass"])
    boxed = tuple(is_boxed for _, is_boxed in placement.constants)
    calls = sum(not line.startswith("del ") for line in step_lines)
    return _compile(host_source + "\n\n" + step_source, boxed, calls)


def _host_source(trace: Trace, lowering: Lowering, constants: Iterable[tuple[str, bool]]) -> str:
    lines = [
        f"{lowering.host[node]} = {_spell(node, lowering)}"
        for node in trace.graph.nodes
        if node.op == "call_function" and node.meta["rank"] == Rank.HOST
    ]
    kept = {name: value for name, value in trace.state.items() if name not in trace.tensors}
    state = ", ".join(f"{name!r}: {lowering.number(value)}" for name, value in kept.items())
    values = "".join(f"{expression}, " for expression, _ in constants)
    return _function("host", list(trace.numbers), [*lines, f"return ({values}), {{{state}}}"])


def _spell(node: fx.Node, lowering: Lowering) -> str:
    args = [lowering.number(a) for a in node.args]
    if isinstance(node.target, Word):
        return f"{node.target.name}({', '.join(args)})"
    symbol = OPERATORS[cast(Any, node.target)]
    return f"-{args[0]}" if symbol == "neg" else f"{args[0]} {symbol} {args[1]}"


def quotient(a: float, b: float) -> float:
    """``a / b`` in double as IEEE 754 has it: dividing by zero gives inf or NaN and raises nothing."""
    if b:
        return a / b
    return math.copysign(math.inf, a) * math.copysign(1.0, b) if a and a == a else math.nan


def _function(name: str, arguments: list[str], lines: list[str]) -> str:
    return f"def {name}({', '.join(arguments)}):\n" + "\n".join(f"    {line}" for line in lines)


def _compile(source: str, boxed: tuple[bool, ...], calls: int) -> Plan:
    comparisons = {f.__name__: f for f in OPERATORS}
    namespace: dict[str, Any] = {"torch": torch, "quotient": quotient, **WORDS, **comparisons}
    exec(compile(source, "<steepest plan>", "exec"), namespace)  # our own generated text, from a checked trace
    return Plan(namespace["host"], boxed, namespace["step"], calls, source)
