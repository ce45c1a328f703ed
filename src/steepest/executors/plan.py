"""From a trace to a plan: a few `torch._foreach_*` calls over lists of tensors, with no more temporaries than torch's.

Three small passes. *Lowering* splits the graph into a host part (numbers, in double) and tensor operations, and carries
number factors along lazily, so that ``(1 - beta2) * g * g`` is one product with a coefficient. *Folding* merges
products and quotients into addcmul and addcdiv. *Placement* lets an operation write over an operand at its last use:
the chain that leads from a state's old value to its new one runs in the state's own memory.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import fx

from ..trace import Rank, Trace
from ..vocabulary import OPERATORS, WORDS, Word, where

ONE = "1"


@dataclass(eq=False)
class Op:
    """One operation over lists of tensors.

    ``word`` names the `torch._foreach_*` function; ``input`` is a placeholder, ``select`` picks one of two lists by a
    number, and ``each`` calls a word of the vocabulary tensor by tensor, where torch has no list form.
    """

    word: str
    args: tuple[Op, ...] = ()
    numbers: tuple[str, ...] = ()
    rank: Rank = Rank.FULL
    template: str = ""


Scaled = tuple[str, Op]
"""A factor (a host expression) and the operation that it multiplies."""


def times(a: str, b: str) -> str:
    """The host expression ``a * b``."""
    return b if a == ONE else a if b == ONE else f"({a} * {b})"


def over(a: str, b: str) -> str:
    """The host expression ``a / b``."""
    return a if b == ONE else f"({a} / {b})"


@dataclass(eq=False)
class Lowering:
    """Turns trace nodes into host expressions and scaled operations."""

    host: dict[fx.Node, str] = field(default_factory=dict)
    tensor: dict[fx.Node, Scaled] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    _scaled: dict[tuple[str, Op], Op] = field(default_factory=dict)

    def op(self, word: str, args: tuple[Op, ...], numbers: tuple[str, ...] = (), template: str = "") -> Op:
        """Append an operation."""
        rank = Rank.REDUCED if word == "norm" else max(a.rank for a in args)
        made = Op(word, args, numbers, rank, template)
        self.ops.append(made)
        return made

    def plain(self, value: Scaled) -> Op:
        """The operation with its factor multiplied in."""
        factor, op = value
        if factor == ONE:
            return op
        if value not in self._scaled:
            self._scaled[value] = self.op("mul", (op,), (factor,))
        return self._scaled[value]

    def number(self, arg: Any) -> str:
        """The host expression of an argument."""
        return self.host[arg] if isinstance(arg, fx.Node) else repr(arg)

    def lower(self, node: fx.Node) -> None:
        """Lower one call."""
        if node.meta["rank"] == Rank.HOST:
            self.host[node] = f"h_{node.name}"
            return
        key = _key(node)
        special = SPECIAL.get(key)
        self.tensor[node] = special(self, *node.args) if special else (ONE, self.each(node))

    def each(self, node: fx.Node) -> Op:
        """A word or operator without a list form: one call per tensor."""
        operands = list(dict.fromkeys(a for a in node.args if self.is_tensor(a)))
        held = {a: f"x{i}" for i, a in enumerate(operands)}
        spelled = ", ".join(held.get(a, "{}") for a in node.args)
        numbers = tuple(self.number(a) for a in node.args if a not in held)
        plain = tuple(self.plain(self.tensor[cast(fx.Node, a)]) for a in operands)
        name = node.target.name if isinstance(node.target, Word) else cast(Any, node.target).__name__
        listed = ", ".join(held.values())
        return self.op("each", plain, numbers, f"[{name}({spelled}) for {listed}, in zip({{}}, strict=True)]")

    def is_tensor(self, arg: Any) -> bool:
        """Whether an argument is a traced tensor and not a number."""
        return isinstance(arg, fx.Node) and arg in self.tensor

    def add(self, a: Any, b: Any, sign: str = ONE) -> Scaled:
        """``a + sign * b``. The side that can be folded, or that has a factor, becomes the added one."""
        if not self.is_tensor(b):
            return ONE, self.op("add", (self.plain(self.tensor[a]),), (times(sign, self.number(b)),))
        y = self._signed(sign, self.tensor[b])
        if not self.is_tensor(a):
            return ONE, self.op("add", (self.plain(y),), (self.number(a),))
        x = self.tensor[a]
        if _added_rather(x, y):
            x, y = y, x
        return ONE, self.op("add", (self.plain(x), y[1]), (y[0],))

    def _signed(self, sign: str, value: Scaled) -> Scaled:
        return (value[0] if sign == ONE else f"(-{value[0]})"), value[1]

    def sub(self, a: Any, b: Any) -> Scaled:
        """``a - b``."""
        return self.add(a, b, "-1.0")

    def mul(self, a: Any, b: Any) -> Scaled:
        """``a * b``: factors multiply, tensors meet in one product."""
        if not self.is_tensor(b):
            a, b = b, a
        factor, y = self.tensor[b]
        if not self.is_tensor(a):
            return times(self.number(a), factor), y
        other, x = self.tensor[a]
        return times(other, factor), self.op("mul", (x, y))

    def div(self, a: Any, b: Any) -> Scaled:
        """``a / b``."""
        if not self.is_tensor(b):
            factor, x = self.tensor[a]
            return over(factor, self.number(b)), x
        divisor, y = self.tensor[b]
        if not self.is_tensor(a):
            return over(self.number(a), divisor), self.op("reciprocal", (y,))
        factor, x = self.tensor[a]
        return over(factor, divisor), self.op("div", (x, y))

    def neg(self, a: Any) -> Scaled:
        """``-a``: a factor."""
        factor, x = self.tensor[a]
        return f"(-{factor})", x

    def pow(self, a: Any, b: Any) -> Scaled:
        """``a ** b``: a square is a product."""
        x = self.plain(self.tensor[a])
        return (ONE, self.op("mul", (x, x))) if b == 2 else (ONE, self.op("pow", (x,), (self.number(b),)))

    def unary(self, word: str) -> Callable[..., Scaled]:
        """A function of one tensor."""
        return lambda a: (ONE, self.op(word, (self.plain(self.tensor[a]),)))

    def extreme(self, word: str, a: Any, b: Any) -> Scaled:
        """``maximum`` and ``minimum``, of two tensors or of a tensor and a number."""
        if not self.is_tensor(a):
            a, b = b, a
        x = self.plain(self.tensor[a])
        if not self.is_tensor(b):
            return ONE, self.op(word, (x,), (self.number(b),))
        return ONE, self.op(word, (x, self.plain(self.tensor[b])))

    def lerp(self, a: Any, b: Any, weight: Any) -> Scaled:
        """``lerp`` with a number for weight."""
        x, y = self.plain(self.tensor[a]), self.plain(self.tensor[b])
        return ONE, self.op("lerp", (x, y), (self.number(weight),))

    def select(self, condition: Any, a: Any, b: Any) -> Scaled:
        """``where`` on a number: both factors and both tensors are chosen on the host."""
        chosen = self.number(condition)
        (fa, x), (fb, y) = self._filled(a, b), self._filled(b, a)
        return f"({fa} if {chosen} else {fb})", self.op("select", (x, y), (chosen,))

    def _filled(self, value: Any, like: Any) -> Scaled:
        """A tensor as it is; a number as a list of tensors that hold it, so that no pick is ever a plain number."""
        if self.is_tensor(value):
            return self.tensor[value]
        template = "[torch.full_like(x, {}) for x in {}]"
        return ONE, self.op("each", (self.tensor[like][1],), (self.number(value),), template)


def _added_rather(x: Scaled, y: Scaled) -> bool:
    """Whether ``x`` and not ``y`` should be the scaled, added operand of ``x + y``."""
    folds_x, folds_y = x[1].word in FOLDS, y[1].word in FOLDS
    return folds_x if folds_x != folds_y else y[0] == ONE != x[0]


def _is_host(arg: Any) -> bool:
    return not isinstance(arg, fx.Node) or arg.meta["rank"] == Rank.HOST


def _key(node: fx.Node) -> Any:
    """What decides how a node lowers: its target, and for where and lerp whether the odd argument is a number."""
    if node.target is where:
        return where if _is_host(node.args[0]) else None
    if node.target is WORDS["lerp"]:
        return node.target if _is_host(node.args[2]) and not any(map(_is_host, node.args[:2])) else None
    if node.target is operator.pow:
        return operator.pow if _is_host(node.args[1]) else None
    return node.target


SPECIAL: dict[Any, Callable[..., Scaled]] = {
    operator.add: Lowering.add,
    operator.sub: Lowering.sub,
    operator.mul: Lowering.mul,
    operator.truediv: Lowering.div,
    operator.neg: Lowering.neg,
    operator.pow: Lowering.pow,
    where: Lowering.select,
    WORDS["lerp"]: Lowering.lerp,
    WORDS["sqrt"]: lambda self, a: self.unary("sqrt")(a),
    WORDS["absolute"]: lambda self, a: self.unary("abs")(a),
    WORDS["sign"]: lambda self, a: self.unary("sign")(a),
    WORDS["norm"]: lambda self, a: self.unary("norm")(a),
    WORDS["maximum"]: lambda self, a, b: self.extreme("maximum", a, b),
    WORDS["minimum"]: lambda self, a, b: self.extreme("minimum", a, b),
}
"""How each operator and word is spelled as list operations; one that is missing here runs tensor by tensor."""

FOLDS = {"mul": "addcmul", "div": "addcdiv"}
"""What a product or quotient of two tensors becomes when it is only added to something."""


def fold(ops: list[Op], outputs: list[Op]) -> list[Op]:
    """Merge products and quotients that are used once, in a sum, into that sum; drop what nobody uses."""
    for op in ops:
        if op.word == "add" and len(op.args) == 2:
            _fold_into(op, _uses(ops, outputs))
    live = set(outputs)
    for op in reversed(ops):
        if op in live:
            live.update(op.args)
    return [op for op in ops if op in live]


def _uses(ops: list[Op], outputs: list[Op]) -> dict[Op, int]:
    counts: dict[Op, int] = {}
    for op in [*(a for o in ops for a in o.args), *outputs]:
        counts[op] = counts.get(op, 0) + 1
    return counts


def _fold_into(total: Op, uses: dict[Op, int]) -> None:
    base, added = total.args
    foldable = added.word in FOLDS and len(added.args) == 2 and uses[added] == 1 and added.rank == total.rank
    if foldable and base.rank == total.rank and all(a.rank == total.rank for a in added.args):
        total.word, total.args = FOLDS[added.word], (base, *added.args)
        added.args = ()


IN_PLACE = {"add": 1, "addcmul": 1, "addcdiv": 1, "mul": 2, "div": 1, "lerp": 1, "maximum": 2, "minimum": 2}
"""How many leading operands an operation may write over (1 for all functions of one tensor)."""
BOXED = {"add", "mul"}
"""Calls that take their number as a 0-dim tensor as well. A plain number is wrapped into a float64 tensor for every
tensor of the list and converted back, which costs three times the call itself on small tensors."""
NEVER_IN_PLACE = {"input", "select", "each", "norm"}


def _writable(op: Op) -> tuple[Op, ...]:
    """The operands that ``op`` could write over, if they were not needed any more."""
    if op.word in NEVER_IN_PLACE:
        return ()
    count = 2 if op.word == "add" and op.numbers == (ONE,) else IN_PLACE.get(op.word, 1)
    return tuple(a for a in op.args[:count] if a.rank == op.rank)


@dataclass(eq=False)
class Placement:
    """Decides where each operation's result lives, and spells the calls."""

    inputs: dict[str, Op]
    outputs: dict[str, Op]
    ops: list[Op]
    names: dict[Op, str] = field(default_factory=dict)
    homes: dict[Op, Op] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    constants: dict[tuple[str, bool], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find last uses, then the chains that run inside an input's memory."""
        self.position = {op: i for i, op in enumerate(self.ops)}
        self.last = self._last_uses()
        for name, result in self.outputs.items():
            self.homes.update(self._chain(result, self.inputs[name]) or {})

    def _last_uses(self) -> dict[Op, int]:
        last: dict[Op, int] = dict.fromkeys(self.outputs.values(), len(self.ops))
        for op in reversed(self.ops):
            # What select picks is one of its operands: they live as long as the pick does.
            until = last.get(op, 0) if op.word == "select" else self.position[op]
            for arg in op.args:
                last[arg] = max(last.get(arg, 0), until)
        return last

    def _chain(self, op: Op, home: Op) -> dict[Op, Op] | None:
        """Which operand each operation on the way from ``home`` to ``op`` writes over; None if there is no such way."""
        if op is home:
            return {}
        for operand in _writable(op):
            if self.last[operand] == self.position[op] and op not in self.homes:
                rest = self._chain(operand, home)
                if rest is not None:
                    return rest | {op: operand}
        return None

    def emit(self) -> list[str]:
        """Spell every operation, then the copies for results that were made outside their own memory."""
        self.names.update({op: name for name, op in self.inputs.items()})
        for op in self.ops:
            self._emit(op)
        self._emit_copies()
        return self.lines

    def _emit(self, op: Op) -> None:
        if op.word == "select":
            a, b = (self.names[x] for x in op.args)
            self._assign(op, f"{a} if {self._constant(op.numbers[0])} else {b}")
        elif op.word == "each":
            listed = ", ".join(self.names[a] for a in op.args)
            self._assign(op, op.template.format(*map(self._constant, op.numbers), listed))
        else:
            self._emit_list_call(op)

    def _emit_list_call(self, op: Op) -> None:
        target = self.homes.get(op) or next((a for a in _writable(op) if self._is_spent(a, op)), None)
        if target is None:
            self._assign(op, self._call(op, op.args, ""))
            return
        first = op.args.index(target)
        args = (target, *op.args[:first], *op.args[first + 1 :])
        self.lines.append(self._call(op, args, "_"))
        self.names[op] = self.names[target]

    def _is_spent(self, operand: Op, op: Op) -> bool:
        """Whether a temporary is used here for the last time (inputs are written by their own chain alone)."""
        spent = self.names[operand].startswith("t_") and self.last[operand] == self.position[op]
        # What select picked is the memory of one of its operands, which may be needed for longer.
        return spent and (operand.word != "select" or all(self._is_spent(a, op) for a in operand.args))

    def _call(self, op: Op, args: tuple[Op, ...], suffix: str) -> str:
        spelled = [self.names[a] for a in args]
        keyword = {"add": "alpha=", "addcmul": "value=", "addcdiv": "value="}.get(op.word, "") if len(args) > 1 else ""
        boxed = op.word in BOXED and not keyword
        spelled += [keyword + self._constant(n, boxed) for n in op.numbers if not (keyword and n == ONE)]
        return f"torch._foreach_{op.word}{suffix}({', '.join(spelled)})"

    def _assign(self, op: Op, value: str) -> None:
        aliases_input = op.word == "select" and not all(self.names[a].startswith("t_") for a in op.args)
        self.names[op] = f"{'s' if aliases_input else 't'}_{len(self.lines)}"
        self.lines.append(f"{self.names[op]} = {value}")

    def _constant(self, expression: str, boxed: bool = False) -> str:
        return self.constants.setdefault((expression, boxed), f"{'b' if boxed else 'c'}_{len(self.constants)}")

    def _emit_copies(self) -> None:
        moved = {name: op for name, op in self.outputs.items() if self.names[op] != name}
        for op in set(moved.values()):
            if not self.names[op].startswith("t_") and op is not self.inputs["g"]:
                # A list that is another input's memory, which may itself be about to change.
                self._assign(op, f"[x.clone() for x in {self.names[op]}]")
        self.lines += [f"torch._foreach_copy_({name}, {self.names[op]})" for name, op in moved.items()]


@dataclass(frozen=True)
class Plan:
    """A program as list calls.

    Attributes:
        host: numbers by name -> (the constants of ``step``, the new scalar state). In double.
        boxed: for each constant, whether it may be handed over as a 0-dim tensor of the lists' dtype.
        step: ``step(p, g, *state, *constants)`` over lists of tensors; writes p and state in place.
        source: the generated Python of both.
    """

    host: Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]
    boxed: tuple[bool, ...]
    step: Callable[..., None]
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
    step_source = _function("step", [*inputs, *placement.constants.values()], step_lines or ["pass"])
    boxed = tuple(is_boxed for _, is_boxed in placement.constants)
    return _compile(host_source + "\n\n" + step_source, boxed)


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


def _function(name: str, arguments: list[str], lines: list[str]) -> str:
    return f"def {name}({', '.join(arguments)}):\n" + "\n".join(f"    {line}" for line in lines)


def _compile(source: str, boxed: tuple[bool, ...]) -> Plan:
    comparisons = {f.__name__: f for f in OPERATORS}
    namespace: dict[str, Any] = {"torch": torch, **WORDS, **comparisons}
    exec(compile(source, "<steepest plan>", "exec"), namespace)  # our own generated text, from a checked trace
    return Plan(namespace["host"], boxed, namespace["step"], source)
