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

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import group as groups
from .evaluation import (
    Evaluated,
    Given,
    Inputs,
    before_search,
    noted_by,
    noting,
    of_lines,
    of_search,
    of_shared,
    of_trace,
)
from .executors import driver
from .executors.dispatch import shared_numbers
from .fields import EXECUTION_SWITCHES, STORAGE_OPTIONS
from .group import GroupSpec
from .lines import Equation, Value, is_several
from .optimizer import Optimizer
from .rule import Rule


@dataclass(frozen=True, eq=False)
class Step:
    """One step.

    Attributes:
        number: the number of the step, from 1.
        given: the values that the equations start from, by symbol: weights, gradient and state before the step, then
            numbers.
        equations: the equations in the rule's order; none for a step that is left out (``skip_nonfinite``).
        before, after: the weights.
        gradient: the gradient.
    """

    number: int
    given: Given
    equations: tuple[Equation, ...]
    before: Tensor
    after: Tensor
    gradient: Tensor


class Walkthrough:
    """An optimizer's steps on one parameter, with the values of all symbols.

    A rule that is traced shows its equations. One that multiplies matrices, or asks for new gradients on its way, shows
    the lines of its own source, with the side that each condition took. Where parameters share numbers, the sums over
    the tensor come first, then the lines that renew the numbers.

    Args:
        cls: the optimizer's class.
        p: the parameter before the first step, of a shape that the class takes; it is not written.
        options: as for its constructor, but for those that say how a step runs or how its results are kept.

    Raises:
        ValueError: the options say how a step runs, or the class refuses the options or the parameter; or it takes only
            sparse gradients.
    """

    def __init__(self, cls: type[Optimizer], p: Tensor, **options: Any) -> None:
        _check(cls, options)
        self._parameter = torch.nn.Parameter(p.detach().clone())
        self._optimizer = cls([self._parameter], **options)
        (self._group,) = self._optimizer.param_groups
        self._group.update(foreach=False, fused=False)  # the reference executor, which runs the rule itself
        rule = cls.rule_for(self._group, self._parameter)
        _check_rule(cls, rule)
        self._rule = noting(rule)
        self._number = 0

    @property
    def p(self) -> Tensor:
        """The parameter after the last step. It may be set, as where steps are projected."""
        return self._parameter.detach().clone()

    @p.setter
    def p(self, value: Tensor) -> None:
        self._parameter.data.copy_(value)

    @property
    def searches(self) -> bool:
        """True for a rule that asks for new gradients on its way, whose steps are taken by `search`."""
        return self._rule.kind == "driver"

    @property
    def helpers(self) -> dict[str, str]:
        """The functions that the lines of the last step call, with their meanings."""
        noted = noted_by(self._rule)
        return {} if noted is None else noted.helpers()

    @torch.no_grad()
    def step(self, gradient: Tensor, loss: Any = None) -> Step:
        """Take a step and return its values.

        Args:
            gradient: the gradient, of the parameter's shape.
            loss: the loss, for rules whose step depends on it (`MoMo`).

        Raises:
            ValueError: the loss is missing, or the rule asks for new gradients on its way; see `search`.
        """
        name = type(self._optimizer).__name__
        if self.searches:
            raise ValueError(f"{name} asks for new gradients on its way; take its steps by search(function)")
        if loss is None and self._optimizer.needs_loss(self._group):
            raise ValueError(f"the step of {name} depends on the loss; give it too: step(gradient, loss=loss)")
        before, self._parameter.grad = self.p, gradient.detach().clone()
        found, skipped = self._evaluated(loss), self._optimizer.skipped
        self._optimizer.step(loss=loss)
        self._number += 1
        equations = found.equations if self._optimizer.skipped == skipped else ()
        return Step(self._number, found.given, equations, before, self.p, gradient)

    @torch.no_grad()
    def search(self, function: Callable[[Tensor], Tensor]) -> Step:
        """Take a step of a rule that asks for new gradients on its way, and return its values.

        Args:
            function: function of the parameter that returns the loss, 0-dim.

        Raises:
            ValueError: the rule takes one gradient; see `step`.
        """
        cls, group, p = type(self._optimizer), self._group, self._parameter
        if not self.searches:
            raise ValueError(f"{cls.__name__} takes one gradient for a step; take its steps by step(gradient)")
        gradients: list[Tensor] = []

        def closure() -> Tensor:
            p.grad = None
            loss = function(p)
            loss.backward()  # type: ignore[no-untyped-call]
            gradients.append(torch.zeros_like(p) if p.grad is None else p.grad.clone())
            return loss

        before, rule = self.p, self._rule
        numbers, switches = groups.values(cls.fields, group)
        spec = GroupSpec.under(cls, rule, group, switches)
        given = before_search(rule, p, self._optimizer.state.get(p, {}), numbers)
        driver.step(spec, closure, {**switches, **numbers}, self._optimizer.state)
        self._number += 1
        weights, *others = given.items()
        given = dict([weights, ("g", gradients[0]), *others])
        return Step(self._number, given, of_search(rule), before, self.p, gradients[0])

    def _evaluated(self, loss: Any) -> Evaluated:
        """Return the values that the next step starts from, and its equations. Nothing is written."""
        cls, group, p = type(self._optimizer), self._group, self._parameter
        over_groups = shared_numbers(cls, [group], None, None, "")
        numbers, switches = groups.values(cls.fields, group, over_groups)
        rule = self._rule
        spec = GroupSpec.under(cls, rule, group, switches, over_groups)
        states: Any = defaultdict(dict, {p: dict(held) for p, held in self._optimizer.state.items()})
        first = spec.create_state(states, p)
        streams = {"stream": groups.streams([group], group, [p], [rule])[0]} if rule.takes_stream else {}
        inputs = Inputs(p, first, states[p], {**numbers, **streams})
        if rule.kind == "matrix":
            return of_lines(spec, inputs)
        if rule.shared is None:
            return of_trace(spec, inputs, rule.letters)
        kept = {name: group[name] for name in rule.shared.kept}
        known = {**switches, **numbers, **kept, "loss": None if loss is None else float(loss)}
        return of_shared(spec, inputs, spec.measuring(over_groups), known)


def _check(cls: type[Optimizer], options: Mapping[str, Any]) -> None:
    read = {"seed"} if cls.rule.takes_stream else set()
    for name in sorted(((EXECUTION_SWITCHES | STORAGE_OPTIONS) - read) & options.keys()):
        if options[name]:
            raise ValueError(
                f"{name}={options[name]!r} says how a step runs or keeps its results; a walkthrough shows the rule "
                "itself, so leave it out"
            )


def _check_rule(cls: type[Optimizer], rule: Rule) -> None:
    if rule.sparse == "lazy":
        raise ValueError(f"{cls.__name__} takes only sparse gradients, and a walkthrough takes dense ones")


LONGEST, MOST_ROWS, MOST_COLUMNS = 12, 8, 8
"""Numbers of a vector, rows and columns of a matrix, that are shown one by one."""


def in_rows(value: Value, digits: int = 4) -> list[list[str]] | None:
    """Return the numbers of a small matrix as text, row by row; None for any other value."""
    if not isinstance(value, Tensor) or value.ndim != 2 or value.numel() == 1:
        return None
    if not (0 < value.shape[0] <= MOST_ROWS and 0 < value.shape[1] <= MOST_COLUMNS):
        return None
    return [[f"{x:.{digits}g}" for x in row] for row in value.tolist()]


def in_numbers(value: Value, digits: int = 4) -> str:
    """Return a value as text: a number, or a tensor's numbers in parentheses; a large tensor by its shape and norm.

    A small matrix has a line for each row, in brackets.
    """
    if not isinstance(value, Tensor) or value.numel() == 1:
        return f"{float(value):.{digits}g}"
    rows = in_rows(value, digits)
    if rows is not None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(f"[ {'  '.join(map(str.rjust, row, widths))} ]" for row in rows)
    if value.ndim == 1 and value.numel() <= LONGEST:
        return f"({', '.join(f'{x:.{digits}g}' for x in value.tolist())})"
    norm = float(torch.linalg.vector_norm(value))
    return f"{'×'.join(map(str, value.shape))} numbers of norm {norm:.{digits}g}"


__all__ = ["Equation", "Step", "Value", "Walkthrough", "in_numbers", "in_rows", "is_several"]
