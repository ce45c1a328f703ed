"""Steps of a rule, equation by equation, each with the value that it has: for readers of the paper.

Example:
    >>> import torch
    >>> from steepest import Momentum
    >>> walk = Walkthrough(Momentum, torch.tensor([4.0, 2.0]), lr=0.1)
    >>> step = walk.step(torch.tensor([1.0, -1.0]))
    >>> [f"{each.symbol} = {each.value.tolist()}" for each in step.equations]
    ['v = [0.10000000149011612, -0.10000000149011612]', 'θ = [3.9000000953674316, 2.0999999046325684]']
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from . import group as groups
from .construction import resolved
from .describe import NOT_TRACED
from .equations import PLAIN, Printer
from .functional import initial_state, pair
from .group import GroupSpec
from .optimizer import Optimizer
from .trace import Trace, trace, with_count

Value = Tensor | float
"""A tensor like the parameter or with one number, or a plain number."""


@dataclass(frozen=True, eq=False)
class Equation:
    """An equation of a step.

    Attributes:
        symbol: the symbol of the value that it makes.
        expression: the expression in symbols.
        value: the value.
    """

    symbol: str
    expression: str
    value: Value


@dataclass(frozen=True, eq=False)
class Step:
    """One step.

    Attributes:
        number: the number of the step, from 1.
        given: the values that the equations start from, by symbol: weights, gradient and state before the step, then
            numbers.
        equations: the equations in the rule's order.
        before, after: the weights.
        gradient: the gradient.
    """

    number: int
    given: dict[str, Value]
    equations: tuple[Equation, ...]
    before: Tensor
    after: Tensor
    gradient: Tensor


class Walkthrough:
    """An optimizer's steps on one parameter, with the values of all symbols.

    Args:
        cls: the optimizer's class.
        p: the parameter before the first step, of any shape; it is not written.
        options: as for its constructor.

    Raises:
        ValueError: the rule is not traced, since it multiplies matrices or asks for new gradients on its way; or it has
            numbers that all parameters share.
    """

    def __init__(self, cls: type[Optimizer], p: Tensor, **options: Any) -> None:
        self._cls, self._options = cls, {**resolved(cls, options), "params": []}
        rule = cls.rule_for(self._options)
        if rule.kind in NOT_TRACED:
            why = NOT_TRACED[rule.kind].partition(":")[0].lower()
            raise ValueError(f"{cls.__name__} has no equations to walk through, since {why}")
        if rule.shared is not None:
            raise ValueError(
                f"{cls.__name__} has numbers that all parameters share, and a walk through one parameter has none"
            )
        self._pure = pair(cls, **options)
        self._number = 0
        self.p = p.detach().clone()
        self._state = self._pure.init({"p": self.p})["p"]

    def step(self, gradient: Tensor) -> Step:
        """Take a step with this gradient, of the parameter's shape, and return its values."""
        before, self._number = self.p, self._number + 1
        given, equations = self._evaluated(gradient)
        moved, state = self._pure.step({"p": before}, {"p": gradient}, {"p": self._state})
        self.p, self._state = moved["p"].detach(), {name: x.detach() for name, x in state["p"].items()}
        return Step(self._number, given, equations, before, self.p, gradient)

    def _evaluated(self, gradient: Tensor) -> tuple[dict[str, Value], tuple[Equation, ...]]:
        spec = GroupSpec.of(self._cls, self._options, self.p)
        program = spec.program(self.p, first=not self._state)
        held = self._state or initial_state(spec, self.p)
        counters = {name: float(held[s.name]) + (s.kind == "step") for name, s in program.counted.items()}
        made = trace(program, with_count(program, spec.numbers))
        numbers = {**groups.values(self._cls.fields, self._options)[0], **counters}
        tensors = {"p": self.p, "g": gradient, **{s.name: held[s.name] for s in program.tensors}}
        values = _values(made, {**tensors, **numbers})
        printer = Printer(made, spec.rule.letters, PLAIN)
        given = {symbol: values[node] for node, symbol in printer.symbols().items()}
        return given, tuple(Equation(e.symbol, e.expression, values[e.node]) for e in printer.assignments())


def _values(made: Trace, inputs: dict[str, Value]) -> dict[fx.Node, Value]:
    """Return the value of every node of a trace."""
    values = {node: inputs[name] for name, node in (made.tensors | made.numbers).items() if name in inputs}
    for node in made.graph.nodes:
        if node.op == "call_function":
            values[node] = node.target(*fx.node.map_arg(node.args, values.__getitem__))
    return values


def in_numbers(value: Value, digits: int = 4) -> str:
    """Return a value as text: a number, or a tensor's numbers in parentheses."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return f"{float(value):.{digits}g}"
    return f"({', '.join(f'{x:.{digits}g}' for x in torch.flatten(value).tolist())})"
