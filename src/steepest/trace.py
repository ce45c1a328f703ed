"""Traces of programs as a `torch.fx.Graph`, one per structure: the form that every planned executor starts from."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import or_
from types import CodeType, FrameType
from typing import Any, cast

from torch import Tensor, fx
from torch.fx.proxy import GraphAppendingTracer, TraceError

from .fields import State
from .kinds import KINDS, Extent
from .rule import Program
from .vocabulary import OPERATORS, WORDS, Reduced, Word, total, where

AVERAGED: dict[Reduced, Extent] = {
    "nothing": Extent.FULL,
    "tensor": Extent.REDUCED,
    "rows": Extent.COLUMN,
    "columns": Extent.ROW,
    "units": Extent.axis(0),
}
"""Dimensions along which the result of a word may still change."""


def broadcast(extents: Iterable[Extent]) -> Extent:
    """Return the extent that broadcasting makes of values of these extents."""
    return reduce(or_, extents, Extent.HOST)


class RuleError(TypeError):
    """Error for a rule that does something that cannot be traced exactly."""


@dataclass(frozen=True)
class Trace:
    """Graph of a program.

    Attributes:
        graph: nodes in the order of the rule. Placeholders come first: p, g, the tensor state, then the numbers.
        tensors: the placeholders of p, g and the tensor state.
        numbers: the placeholders of the numbers, by name.
        p: the node of the new parameter.
        state: the nodes (or plain numbers) of the new state, by name; scalar state included.
        names: the rule's own name of a node, for printing.
    """

    graph: fx.Graph
    tensors: dict[str, fx.Node]
    numbers: dict[str, fx.Node]
    p: fx.Node
    state: dict[str, Any]
    names: dict[fx.Node, str]


class _Tracer(GraphAppendingTracer):
    """Tracer that records operators and words.

    It refuses everything else with a message that says what to write instead.
    """

    rule: str

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> fx.Proxy:
        if kind == "call_function":
            target = WORDS["absolute"] if target is operator.abs else target
            self._check(target, args)
            if target is where and _extent_of(args[0]) == Extent.HOST:
                args = args[:3]  # a number picks one side whole, so what the result is like does not matter
        elif kind != "placeholder":
            allowed = f"operators and the words {', '.join(sorted(WORDS))} of steepest.vocabulary"
            raise RuleError(f"{self.rule} calls .{target}(); a rule may use {allowed}")
        proxy: fx.Proxy = super().create_proxy(kind, target, args, kwargs, *rest, **named)
        if kind == "call_function":
            proxy.node.meta["extent"] = self._extent(target, proxy.node)
        return proxy

    def _check(self, target: Any, args: tuple[Any, ...]) -> None:
        if not isinstance(target, Word) and target not in OPERATORS:
            name = getattr(target, "__name__", target)
            words = ", ".join(sorted(WORDS))
            raise RuleError(f"{self.rule} calls {name}; a rule may use operators and the words {words}")
        for arg in args:
            if isinstance(arg, Tensor):
                raise RuleError(f"{self.rule} makes a tensor of its own; declare it as a State, or use a plain number")

    def _extent(self, target: Any, node: fx.Node) -> Extent:
        extent = broadcast(Extent(n.meta["extent"]) for n in node.all_input_nodes)
        if not isinstance(target, Word):
            return extent
        if target.reduces in ("rows", "columns") and not extent & ~AVERAGED[target.reduces]:
            raise RuleError(
                f"{self.rule} takes {target.name} of {worded(extent)}, which has no {target.reduces} to average"
            )
        if target.reduces == "other axes":
            return extent & Extent.axis(cast(int, node.args[1]))
        return extent & AVERAGED[target.reduces]

    def to_bool(self, obj: fx.Proxy) -> bool:
        what = "a tensor" if obj.node.meta["extent"] > Extent.HOST else "a number that changes from step to step"
        raise RuleError(f"{self.rule} branches on {what}; use where(condition, a, b) or maximum(a, b)")

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        raise RuleError(f"{self.rule} iterates over a traced value; a rule works on whole tensors")


def extent_of(state: State) -> Extent:
    """Return the dimensions along which a state changes.

    Raises:
        RuleError: no trace knows the state's kind.
    """
    extent = KINDS[state.kind].extent
    if extent is None:
        raise RuleError(f"state {state.name!r} is of kind {state.kind!r}, which only matrix rules keep")
    return extent


def trace(program: Program, numbers: tuple[str, ...]) -> Trace:
    """Run ``program`` once on proxies.

    Args:
        program: the rule with its options bound and its transforms around it.
        numbers: names of the run-time numbers that the program may read (hyperparameters, ``t``).

    Raises:
        RuleError: the rule branches on a value, makes a tensor, or uses a function that is not a word of the
            vocabulary. Another reason is a pointwise rule that uses a reduction.
    """
    graph = fx.Graph()
    tracer = _Tracer(graph)
    tracer.rule = program.rule.fn.__name__

    def placeholder(name: str, extent: Extent) -> fx.Proxy:
        node = graph.placeholder(name)
        node.meta["extent"] = extent
        return fx.Proxy(node, tracer)

    p, g = placeholder("p", Extent.FULL), placeholder("g", Extent.FULL)
    tensors = {s.name: placeholder(s.name, extent_of(s)) for s in program.tensors}
    scalars = {s.name: placeholder(s.name, Extent.HOST) for s in program.scalars}
    inputs = {name: placeholder(name, Extent.HOST) for name in numbers}
    with _local_names(program.rule.fn.__code__) as names:
        new_p, new_state = _run(program, tracer, (p, g, {**tensors, **scalars}, inputs))
    _check_kind(program, graph)
    _check_results(program, new_p, new_state)
    return Trace(
        graph,
        {"p": p.node, "g": g.node} | {name: proxy.node for name, proxy in tensors.items()},
        {name: proxy.node for name, proxy in (scalars | inputs).items()},
        new_p.node,
        {name: value.node if isinstance(value, fx.Proxy) else value for name, value in new_state.items()},
        {node: name for name, node in names.items()},
    )


def _run(program: Program, tracer: _Tracer, inputs: tuple[Any, ...]) -> tuple[fx.Proxy, dict[str, Any]]:
    try:
        new_p, new_state = program.update(*inputs)
    except TraceError as error:
        raise RuleError(f"{tracer.rule}: {error}") from error
    return new_p, new_state


def _check_kind(program: Program, graph: fx.Graph) -> None:
    reductions = [n.name for n in graph.nodes if reduces(n)]
    if program.kind == "pointwise" and reductions:
        rule = program.rule.fn.__name__
        raise RuleError(f"{rule} is declared pointwise but uses {reductions[0]}; declare it Rule({rule}, 'per_tensor')")


def with_count(program: Program, numbers: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the numbers that a program is traced with: those of its group, and ``t`` if it counts."""
    return (*numbers, "t") if "t" in program.counted else tuple(numbers)


def reduces(node: fx.Node) -> bool:
    """Return whether a node makes fewer numbers than a tensor has."""
    return isinstance(node.target, Word) and node.target.reduces != "nothing"


def adds_up(made: Trace, names: Iterable[str]) -> bool:
    """Return whether new state of a whole tensor is the sum of that of its parts, as far as the trace tells.

    It is for totals over elements, for sums of them, and for products with plain numbers.
    """
    return all(_adds(made.state[name]) for name in names)


def _adds(value: Any) -> bool:
    if not isinstance(value, fx.Node):
        return bool(value == 0)
    if value.target is total:
        return not any(map(_is_reduced, value.all_input_nodes))
    summed = SUMMED.get(value.target)
    if summed is None:
        return False
    rest = [arg for i, arg in enumerate(value.args) if i not in summed]
    return all(_adds(value.args[i]) for i in summed) and all(_extent(arg) == Extent.HOST for arg in rest)


def _is_reduced(node: fx.Node) -> bool:
    return reduces(node) or any(map(_is_reduced, node.all_input_nodes))


def _extent(arg: Any) -> Extent:
    return Extent(arg.meta["extent"]) if isinstance(arg, fx.Node) else Extent.HOST


SUMMED: dict[Any, tuple[int, ...]] = {
    operator.add: (0, 1),
    operator.sub: (0, 1),
    operator.neg: (0,),
    operator.mul: (0,),
    operator.truediv: (0,),
    where: (1, 2),
}
"""Operations of which the result adds up if these arguments do and the others are numbers."""


def _check_results(program: Program, new_p: Any, new_state: dict[str, Any]) -> None:
    """Check that a tensor stays a tensor of its kind, and a number a number."""
    rule = program.rule.fn.__name__
    if _extent_of(new_p) != Extent.FULL:
        raise RuleError(f"{rule} must return the new p first, a tensor like p, not {new_p!r}")
    for state in (*program.tensors, *program.scalars):
        extent, declared = _extent_of(new_state[state.name]), extent_of(state)
        if (extent == Extent.HOST) != (declared == Extent.HOST) or extent & ~declared:
            wanted = f"for state {state.name!r}, declared {worded(declared)}"
            raise RuleError(f"{rule} returns {worded(extent)} {wanted}")


def _extent_of(value: Any) -> Extent:
    return Extent(value.node.meta["extent"]) if isinstance(value, fx.Proxy) else Extent.HOST


WORDED = {
    Extent.HOST: "a plain number",
    Extent.REDUCED: "one number per tensor",
    Extent.MATRIX: "one number per matrix",
    Extent.ROW: "one number per row",
    Extent.COLUMN: "one number per column",
    Extent.FULL: "a tensor like p",
}
"""Words for a value of each extent; another is one number for each index of some dimensions."""


def worded(extent: Extent) -> str:
    """Return an extent in words."""
    return WORDED.get(extent, "one number per index of some dimensions")


@contextmanager
def _local_names(code: CodeType) -> Iterator[dict[str, fx.Node]]:
    """Collect a function's local variables when it returns, so that equations print with the rule's names.

    Values that helper functions in the same file give a name are collected too; their arguments are not.

    Nothing is collected under a profiler that uses the same hook, as cProfile does before Python 3.12: it stays on, and
    could not be put back from Python.
    """
    names: dict[str, fx.Node] = {}

    def watch(frame: FrameType, event: str, arg: Any) -> None:
        own = frame.f_code
        if event == "return" and own.co_filename == code.co_filename:
            arguments = own.co_varnames[: own.co_argcount] if own is not code else ()
            held = {name: x for name, x in frame.f_locals.items() if name not in arguments}
            names.update({name: value.node for name, value in held.items() if isinstance(value, fx.Proxy)})

    if sys.getprofile() is not None:
        yield names
        return
    sys.setprofile(watch)
    try:
        yield names
    finally:
        sys.setprofile(None)
