"""Lowering and folding of trace nodes to list operations, with number factors carried along.

*Lowering* splits the graph into a host part (numbers, in double) and tensor operations. It carries number factors along
lazily, so that ``(1 - beta2) * g * g`` is one product with a coefficient. *Folding* merges products and quotients into
addcmul and addcdiv.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from torch import fx

from ..kinds import Extent
from ..trace import RuleError, Trace, broadcast
from ..vocabulary import MISSING_LIKE, OPERATORS, WORDS, Word, where

ONE = "1"

CALLED: dict[Any, str] = {word: name for name, word in WORDS.items()}
CALLED |= {operator.pow: "power", operator.truediv: "quotient"}
"""Words and operators that a host expression spells as a call."""

REDUCTIONS = frozenset(name for name, word in WORDS.items() if word.reduces != "nothing")
"""Words that reduce."""

FOLDS = {"mul": "addcmul", "div": "addcdiv"}
"""Words that a product or quotient of two tensors becomes when it is only added to something."""


@dataclass(eq=False)
class Op:
    """One operation over lists of tensors.

    ``word`` names the `torch._foreach_*` function. The word ``input`` is a placeholder, and ``select`` picks one of two
    operands by a number. With a ``pattern`` the word has no list form and is called tensor by tensor: the pattern says
    for each argument whether it is the next tensor (True) or the next number.
    """

    word: str
    args: tuple[Op, ...] = ()
    numbers: tuple[str, ...] = ()
    extent: Extent = Extent.FULL
    pattern: tuple[bool, ...] = ()


Scaled = tuple[str, Op]
"""A factor (a host expression) and the operation that it multiplies."""


def times(a: str, b: str) -> str:
    """Return the host expression ``a * b``."""
    return b if a == ONE else a if b == ONE else f"({a} * {b})"


def over(a: str, b: str) -> str:
    """Return the host expression ``a / b``. Divided by zero it is inf or NaN, as it is for tensors.

    Host expressions contain only the arithmetic, comparisons and calls that Python and C have in common.
    """
    return a if b == ONE else f"quotient({a}, {b})"


def literal(value: float) -> str:
    """Spell a plain number as Python and C both read it.

    It is a double, never an integer that overflows. A sign stands in parentheses, since two signs in a row decrement in
    C. Infinity is a number that is too large.
    """
    x = float(value)
    if x != x:
        return "(1e999 - 1e999)"
    text = ONE if x == 1 else "1e999" if x == math.inf else "-1e999" if x == -math.inf else repr(x)
    return f"({text})" if text.startswith("-") else text


@dataclass(eq=False)
class Lowering:
    """Translation of trace nodes into host expressions and scaled operations."""

    host: dict[fx.Node, str] = field(default_factory=dict)
    tensor: dict[fx.Node, Scaled] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    _scaled: dict[tuple[str, Op], Op] = field(default_factory=dict)
    _reduced: dict[Any, Op] = field(default_factory=dict)

    def op(
        self,
        word: str,
        args: tuple[Op, ...],
        numbers: tuple[str, ...] = (),
        pattern: tuple[bool, ...] = (),
        averaged: Extent = Extent.FULL,
    ) -> Op:
        """Append an operation whose result has at most the extent ``averaged``."""
        made = Op(word, args, numbers, broadcast(a.extent for a in args) & averaged, pattern)
        if word in REDUCTIONS:  # the same norm is taken once, however often a rule names it
            known = self._reduced.setdefault((word, args, numbers), made)
            if known is not made:
                return known
        self.ops.append(made)
        return made

    def plain(self, value: Scaled) -> Op:
        """Return the operation with its factor multiplied in."""
        factor, op = value
        if factor == ONE:
            return op
        if value not in self._scaled:
            self._scaled[value] = self.op("mul", (op,), (factor,))
        return self._scaled[value]

    def number(self, arg: Any) -> str:
        """Return the host expression of an argument."""
        return self.host[arg] if isinstance(arg, fx.Node) else literal(arg)

    def lower(self, node: fx.Node) -> None:
        """Lower one call of the trace."""
        if node.meta["extent"] == Extent.HOST:
            self.host[node] = f"h_{node.name}"
            return
        key = _key(node)
        special = SPECIAL.get(key)
        self.tensor[node] = special(self, *node.args) if special else (ONE, self.each(node))

    def pick(self, condition: Any, a: Any, b: Any, like: Any = None) -> Scaled:
        """Lower ``where`` by element. If both sides are numbers, one becomes a tensor of the dtype of ``like``."""
        args: list[Any] = [condition, a, b]
        ops = [self.plain(self.tensor[x]) for x in args if self.is_tensor(x)]
        pattern = tuple(map(self.is_tensor, args))
        numbers = tuple(self.number(x) for x in args if not self.is_tensor(x))
        if len(numbers) == 2:
            if like is None:
                raise RuleError(MISSING_LIKE.format(a, b))
            filled = self.op("filled", (self.plain(self.tensor[like]),), numbers[:1], (True, False))
            ops, numbers, pattern = [ops[0], filled], numbers[1:], (True, True, False)
        return ONE, self.op("where", tuple(ops), numbers, pattern)

    def each(self, node: fx.Node) -> Op:
        """Lower a word or operator without a list form to one call per tensor."""
        pattern = tuple(map(self.is_tensor, node.args))
        plain = tuple(self.plain(self.tensor[cast(fx.Node, a)]) for a in node.args if self.is_tensor(a))
        numbers = tuple(self.number(a) for a in node.args if not self.is_tensor(a))
        return self.op(cast(Any, node.target).__name__, plain, numbers, pattern, node.meta["extent"])

    def host_lines(self, trace: Trace) -> list[tuple[str, str]]:
        """Return the host part: a name and an expression for each number, in order."""
        nodes = (n for n in trace.graph.nodes if n.op == "call_function" and n.meta["extent"] == Extent.HOST)
        return [(self.host[node], self._spell(node)) for node in nodes]

    def host_state(self, trace: Trace) -> list[tuple[str, str]]:
        """Return the new scalar state: a name and an expression for each."""
        return [(name, self.number(value)) for name, value in trace.state.items() if name not in trace.tensors]

    def _spell(self, node: fx.Node) -> str:
        args = [self.number(a) for a in node.args]
        if isinstance(node.target, Word) and node.target.reduces != "nothing":  # of a number: its size, or itself
            made_of = node.target.made_of
            return f"absolute({args[0]})" if made_of and made_of.of_squares else args[0]
        if node.target in CALLED:
            return f"{CALLED[cast(Any, node.target)]}({', '.join(args)})"
        symbol = OPERATORS[cast(Any, node.target)]
        return f"-{args[0]}" if symbol == "neg" else f"{args[0]} {symbol} {args[1]}"

    def is_tensor(self, arg: Any) -> bool:
        """Return whether an argument is a traced tensor and not a number."""
        return isinstance(arg, fx.Node) and arg in self.tensor

    def add(self, a: Any, b: Any, sign: str = ONE) -> Scaled:
        """Lower ``a + sign * b``. The side that can be folded, or that has a factor, becomes the added one."""
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
        """Lower ``a - b``."""
        return self.add(a, b, "-1.0")

    def mul(self, a: Any, b: Any) -> Scaled:
        """Lower ``a * b``: factors multiply, and tensors meet in one product."""
        if not self.is_tensor(b):
            a, b = b, a
        factor, y = self.tensor[b]
        if not self.is_tensor(a):
            return times(self.number(a), factor), y
        other, x = self.tensor[a]
        return times(other, factor), self.op("mul", (x, y))

    def div(self, a: Any, b: Any) -> Scaled:
        """Lower ``a / b``."""
        if not self.is_tensor(b):
            factor, x = self.tensor[a]
            return over(factor, self.number(b)), x
        divisor, y = self.tensor[b]
        if not self.is_tensor(a):
            return over(self.number(a), divisor), self.op("reciprocal", (y,))
        factor, x = self.tensor[a]
        return over(factor, divisor), self.op("div", (x, y))

    def neg(self, a: Any) -> Scaled:
        """Lower ``-a`` to a factor."""
        factor, x = self.tensor[a]
        return f"(-{factor})", x

    def pow(self, a: Any, b: Any) -> Scaled:
        """Lower ``a ** b``; a square becomes a product."""
        x = self.plain(self.tensor[a])
        return (ONE, self.op("mul", (x, x))) if b == 2 else (ONE, self.op("pow", (x,), (self.number(b),)))

    def unary(self, word: str) -> Callable[..., Scaled]:
        """Return the method that lowers a function of one tensor."""
        return lambda a: (ONE, self.op(word, (self.plain(self.tensor[a]),)))

    def extreme(self, word: str, a: Any, b: Any) -> Scaled:
        """Lower ``maximum`` or ``minimum`` of two tensors, or of a tensor and a number."""
        if not self.is_tensor(a):
            a, b = b, a
        x = self.plain(self.tensor[a])
        if not self.is_tensor(b):
            return ONE, self.op(word, (x,), (self.number(b),))
        return ONE, self.op(word, (x, self.plain(self.tensor[b])))

    def lerp(self, a: Any, b: Any, weight: Any) -> Scaled:
        """Lower ``lerp`` with a number for weight."""
        x, y = self.plain(self.tensor[a]), self.plain(self.tensor[b])
        return ONE, self.op("lerp", (x, y), (self.number(weight),))

    def select(self, condition: Any, a: Any, b: Any, like: Any = None) -> Scaled:
        """Lower ``where`` on a number: both factors and both tensors are chosen on the host."""
        chosen = self.number(condition)
        (fa, x), (fb, y) = self._filled(a, b), self._filled(b, a)
        return f"select({chosen}, {fa}, {fb})", self.op("select", (x, y), (chosen,))

    def _filled(self, value: Any, like: Any) -> Scaled:
        """Return a tensor as it is, and a number as tensors that hold it, so that a pick is never a plain number."""
        if self.is_tensor(value):
            return self.tensor[value]
        return ONE, self.op("filled", (self.tensor[like][1],), (self.number(value),), (True, False))


def lower(trace: Trace, prefix: str = "") -> tuple[Lowering, dict[str, Op], dict[str, Op]]:
    """Lower all of ``trace``.

    Args:
        trace: the trace to lower.
        prefix: put before the names of the run-time numbers in host expressions.

    Returns:
        The lowering; the inputs by name (p, g, tensor state); the operations that compute the new p and tensor state.
    """
    inputs = {name: Op("input", extent=node.meta["extent"]) for name, node in trace.tensors.items()}
    lowering = Lowering(
        host={node: prefix + name for name, node in trace.numbers.items()},
        tensor={node: (ONE, inputs[name]) for name, node in trace.tensors.items()},
    )
    for node in trace.graph.nodes:
        if node.op == "call_function":
            lowering.lower(node)
    results = {"p": trace.p} | {name: trace.state[name] for name in trace.tensors if name not in ("p", "g")}
    return lowering, inputs, {name: lowering.plain(lowering.tensor[node]) for name, node in results.items()}


def _added_rather(x: Scaled, y: Scaled) -> bool:
    """Return whether ``x`` and not ``y`` should be the scaled, added operand of ``x + y``."""
    folds_x, folds_y = x[1].word in FOLDS, y[1].word in FOLDS
    return folds_x if folds_x != folds_y else y[0] == ONE != x[0]


def _is_host(arg: Any) -> bool:
    return not isinstance(arg, fx.Node) or arg.meta["extent"] == Extent.HOST


def _key(node: fx.Node) -> Any:
    """Return a node's key in `SPECIAL`, its target; None for a call without a list form.

    ``lerp`` has a list form if only its weight is a number, and a power if its exponent is one.
    """
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
    where: lambda self, condition, *rest: (self.pick if self.is_tensor(condition) else self.select)(condition, *rest),
    WORDS["lerp"]: Lowering.lerp,
    WORDS["sqrt"]: lambda self, a: self.unary("sqrt")(a),
    WORDS["absolute"]: lambda self, a: self.unary("abs")(a),
    WORDS["sign"]: lambda self, a: self.unary("sign")(a),
    WORDS["sigmoid"]: lambda self, a: self.unary("sigmoid")(a),
    WORDS["rescaled"]: lambda self, a, b: (ONE, self.op("mul", (self.plain(self.tensor[a]),), (self.number(b),))),
    WORDS["norm"]: lambda self, a: (ONE, self.op("norm", (self.plain(self.tensor[a]),), averaged=Extent.REDUCED)),
    WORDS["maximum"]: lambda self, a, b: self.extreme("maximum", a, b),
    WORDS["minimum"]: lambda self, a, b: self.extreme("minimum", a, b),
}
"""Methods that lower each operator and word to list operations. A missing one runs tensor by tensor."""


def fold(ops: list[Op], outputs: list[Op]) -> list[Op]:
    """Merge products and quotients that are used once, in a sum, into that sum. Drop unused operations."""
    for op in ops:
        if op.word == "add" and len(op.args) == 2:
            _fold_into(op, _uses(ops, outputs))
    return used(ops, outputs)


def used(ops: list[Op], outputs: Iterable[Op]) -> list[Op]:
    """Return the operations that ``outputs`` need, in order."""
    live = set(outputs)
    for op in reversed(ops):
        if op in live:
            live.update(op.args)
    return [op for op in ops if op in live]


def in_phases(ops: list[Op]) -> list[Op]:
    """Return operations in an order in which reductions that need equally many others stand together."""
    level: dict[Op, int] = {}
    for op in ops:
        level[op] = max((level.get(a, 0) for a in op.args), default=0) + (op.word in REDUCTIONS)
    return sorted(ops, key=lambda op: (level[op], op.word not in REDUCTIONS))


def _uses(ops: list[Op], outputs: list[Op]) -> dict[Op, int]:
    counts: dict[Op, int] = {}
    for op in [*(a for o in ops for a in o.args), *outputs]:
        counts[op] = counts.get(op, 0) + 1
    return counts


def _fold_into(total: Op, uses: dict[Op, int]) -> None:
    base, added = total.args
    foldable = added.word in FOLDS and len(added.args) == 2 and uses[added] == 1 and added.extent == total.extent
    if foldable and base.extent == total.extent and all(a.extent == total.extent for a in added.args):
        total.word, total.args = FOLDS[added.word], (base, *added.args)
        added.args = ()
