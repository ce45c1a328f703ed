"""Values of one step, equation by equation: of a traced rule, of a rule's own lines, and of shared numbers."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor, fx

from .equations import OLD, PLAIN, Printer
from .executors import reference
from .fields import State
from .group import GroupSpec
from .kinds import KINDS
from .lines import Equation, Noted, Value, as_value
from .rule import Program, Rule, Structure, assembled
from .trace import RuleError, Trace, trace
from .views import compute_dtype, real_view, widen
from .vocabulary import where

Given = dict[str, Value]
"""Values by their symbols."""


@dataclass(frozen=True)
class Inputs:
    """Everything that a step of one parameter starts from.

    Attributes:
        parameter: the parameter, with its gradient.
        first: whether its state has just been made.
        held: its state.
        numbers: the run-time numbers of its group.
    """

    parameter: Tensor
    first: bool
    held: Mapping[str, Any]
    numbers: Mapping[str, Any]

    def counted(self, program: Program) -> dict[str, Any]:
        """Return the numbers, the step count of this step, and scalar state."""
        counters = {name: float(self.held[s.name]) + (s.kind == "step") for name, s in program.counted.items()}
        return {**self.numbers, **counters}

    def state(self, program: Program) -> dict[str, Tensor]:
        """Return the tensor state in the dtype to compute in; sums that a step has yet to make are not there."""
        return {s.name: self.computed(self.held[s.name]) for s in program.tensors if s.name in self.held}

    @cached_property
    def weights(self) -> Tensor:
        """The parameter in the dtype to compute in."""
        return self.computed(self.parameter)

    @cached_property
    def gradient(self) -> Tensor:
        """The gradient in the dtype to compute in."""
        assert self.parameter.grad is not None
        return self.computed(self.parameter.grad)

    def having(self, numbers: Mapping[str, Any]) -> Inputs:
        """Return the same with further numbers."""
        return replace(self, numbers={**self.numbers, **numbers})

    def computed(self, x: Tensor) -> Tensor:
        """Return a copy of a tensor, in the dtype to compute in."""
        return widen(real_view(x.detach().clone()), compute_dtype(real_view(self.parameter).dtype))


@dataclass(frozen=True)
class Evaluated:
    """Equations with their values.

    Attributes:
        given: the values that the equations start from.
        equations: the equations in their order.
        state: the state that they make, by name.
    """

    given: Given
    equations: tuple[Equation, ...]
    state: Mapping[str, Any]


def noting(rule: Rule) -> Rule:
    """Return a rule whose functions that are not traced note the values of their lines.

    Raises:
        ValueError: the source of such a function cannot be read.
    """
    if rule.kind in ("matrix", "driver"):
        return replace(rule, fn=Noted(rule.fn))
    return rule if rule.shared is None else replace(rule, shared=replace(rule.shared, renew=Noted(rule.shared.renew)))


def noted_by(rule: Rule) -> Noted | None:
    """Return the function of a rule that notes the values of its lines, after `noting`."""
    functions = (rule.fn, None if rule.shared is None else rule.shared.renew)
    return next((function for function in functions if isinstance(function, Noted)), None)


def of_trace(spec: GroupSpec, inputs: Inputs, letters: Mapping[str, str]) -> Evaluated:
    """Return the values of a rule that is traced; ``letters`` has the letters of its state."""
    program = spec.program(inputs.parameter, first=inputs.first)
    numbers = inputs.counted(program)
    made = trace(program, _names(program, numbers))
    values = _values(made, {"p": inputs.weights, "g": inputs.gradient, **inputs.state(program), **numbers})
    made = _decided(made, values)
    printer = Printer(made, letters, PLAIN)
    given = {symbol: values[node] for node, symbol in printer.symbols().items()}
    return Evaluated(given, _equations(printer, values), {name: values.get(x, x) for name, x in made.state.items()})


def of_shared(spec: GroupSpec, inputs: Inputs, measuring: GroupSpec | None, known: Mapping[str, Any]) -> Evaluated:
    """Return the values of a rule with shared numbers: of its sums, of their renewal, and of the update.

    Args:
        spec: the rule's specification.
        inputs: the values before the step.
        measuring: the specification under which the sums are taken; None without sums.
        known: all that the renewal may read, but the sums.
    """
    shared, renew = spec.rule.shared, noted_by(spec.rule)
    assert shared is not None
    assert renew is not None
    letters, before = spec.rule.letters, inputs.having({name: known[name] for name in shared.kept})
    measured = NOTHING if measuring is None else of_trace(measuring, before, letters)
    sums = {name: float(measured.state[name]) for name in shared.sums}
    new = renew(**{name: {**known, **sums}[name] for name in shared.read})
    read = {PLAIN.symbol(name): as_value(known[name]) for name in shared.read if name not in sums}
    given = {**measured.given, **{symbol: x for symbol, x in read.items() if x is not None}}
    equations = (*measured.equations, *renew.lines(()))
    if new is None:
        return Evaluated(given, equations, {})
    update = of_trace(spec, inputs.having(new), letters)
    renewed = set(map(PLAIN.symbol, shared.numbers))
    own = {symbol: x for symbol, x in update.given.items() if symbol not in renewed}
    return Evaluated({**own, **given}, (*equations, *update.equations), update.state)


def of_lines(spec: GroupSpec, inputs: Inputs) -> Evaluated:
    """Return the values of a rule's own lines, and of the transforms around it."""
    rule, lines = spec.rule, noted_by(spec.rule)
    assert lines is not None
    program = spec.program(inputs.parameter, first=inputs.first)
    numbers, state = inputs.counted(program), inputs.state(program)
    _, new = reference.updated(program, numbers, inputs.weights, inputs.gradient, state)
    seen = {"p": inputs.weights, "g": inputs.gradient, **state}
    if program.view is not None:
        like = {"p", "g", *(s.name for s in program.tensors if s.kind == "like")}
        seen = {name: program.view(x) if name in like else x for name, x in seen.items()}
    arguments = inspect.signature(rule.fn).parameters
    p, g, *_ = arguments
    results = (p, *(rule.letters[name] for name in rule.arguments))
    made = lines.result[0] if isinstance(lines.result, tuple) else lines.result
    given, before, after = _around(spec, inputs.parameter, {**seen, "made": made, **numbers})
    own: Given = {PLAIN.symbol(rule.letters.get(name, name)): x for name, x in seen.items()}
    taken = (name for name in arguments if name in rule.names and name != "stream")
    own |= {PLAIN.symbol(rule.letters[s.name]): numbers[s.name] for s in program.scalars}
    own |= {PLAIN.symbol(name): x for name in taken if (x := as_value(numbers.get(name))) is not None}
    return Evaluated({**own, **given}, (*before, *lines.lines(results, {p: PLAIN.symbol("p"), g: "g"}), *after), new)


def before_search(rule: Rule, parameter: Tensor, held: Mapping[str, Any], numbers: Mapping[str, Any]) -> Given:
    """Return the values that a step of a driver starts from: the weights, its state, and its numbers."""
    known = {rule.letters[s.name]: held.get(s.name, s.init) for s in rule.state if s.kind == "shared" or s.name in held}
    known |= {name: numbers[name] for name in inspect.signature(rule.fn).parameters if name in numbers}
    values = {"p": parameter.detach().clone(), **known}
    found = {PLAIN.symbol(name): as_value(x) for name, x in values.items()}
    return {symbol: x.clone() if isinstance(x, Tensor) else x for symbol, x in found.items() if x is not None}


def of_search(rule: Rule) -> tuple[Equation, ...]:
    """Return the equations of a driver's step that has been taken."""
    lines = noted_by(rule)
    assert lines is not None
    x, *_ = inspect.signature(rule.fn).parameters
    results = (x, *(rule.letters[name] for name in rule.arguments))
    return tuple(lines.lines(results, {x: PLAIN.symbol("p")}))


def _stand_in(p: Any, g: Any, made: Any) -> tuple[Any, Any]:
    return made, made


STAND_IN = Rule(_stand_in, "per_tensor", (State("made"),))
"""A rule that returns weights made elsewhere, in place of one that is not traced: the transforms around it then are."""


def _around(
    spec: GroupSpec, parameter: Tensor, inputs: Mapping[str, Any]
) -> tuple[Given, tuple[Equation, ...], tuple[Equation, ...]]:
    """Return the values of the transforms around a rule: their numbers, the equations before it, and those after it."""
    if not spec.wrappers:
        return {}, (), ()
    state = (s for s in spec.state(parameter) if s not in spec.rule.state)
    known = (s if KINDS[s.kind].is_number else replace(s, kind="like") for s in state)
    program = assembled(Structure(STAND_IN, (*STAND_IN.state, *known), spec.wrappers, ()))
    tensors = {"p", "g", *(s.name for s in program.tensors)}
    try:
        made = trace(program, _names(program, (name for name in inputs if name not in tensors)))
    except RuleError as error:
        raise ValueError(
            f"hyperball=True of {spec.name} works on the matrices around its rule, without equations; leave it out"
        ) from error
    values = _values(made, inputs)
    seen = {name: node for node, name in made.names.items()}
    before = Printer(replace(made, p=seen["p"], state={}), {}, PLAIN)
    after = Printer(replace(made, names={}), {"made": "p"}, PLAIN)
    after.inputs[made.tensors["p"]] = f"p{OLD}"
    numbers = set(made.numbers.values())
    given = {symbol: values[x] for each in (before, after) for x, symbol in each.symbols().items() if x in numbers}
    return given, _equations(before, values), _equations(after, values)


NOTHING = Evaluated({}, (), {})


def _names(program: Program, numbers: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the numbers that a program may read, but for scalar state, which it has anyway."""
    scalars = {s.name for s in program.scalars}
    return tuple(name for name in numbers if name not in scalars)


def _equations(printer: Printer, values: Mapping[fx.Node, Value]) -> tuple[Equation, ...]:
    return tuple(Equation(each.symbol, each.expression, values[each.node]) for each in printer.assignments())


def _decided(made: Trace, values: Mapping[fx.Node, Any]) -> Trace:
    """Return a trace with the side that each condition on numbers took in place of both."""
    taken: dict[fx.Node, Any] = {}
    for node in made.graph.nodes:
        if node.target is where and isinstance(values.get(node.args[0]), bool):
            side = node.args[1 if values[node.args[0]] else 2]
            taken[node] = taken.get(side, side)
        else:
            node.args = fx.node.map_arg(node.args, lambda x: taken.get(x, x))
    names: dict[fx.Node, str] = {}
    for node, name in made.names.items():
        side = taken.get(node, node)
        if node is side or (isinstance(side, fx.Node) and side not in made.names):
            names[side] = name
    state = {name: taken.get(x, x) for name, x in made.state.items()}
    p = taken.get(made.p, made.p)
    read = {p, *state.values(), *names}
    for node in reversed(made.graph.nodes):
        if node.op == "call_function" and not node.users and node not in read:
            made.graph.erase_node(node)
    return replace(made, p=p, state=state, names=names)


def _values(made: Trace, inputs: Mapping[str, Any]) -> dict[fx.Node, Value]:
    """Return the value of every node of a trace."""
    values = {node: inputs[name] for name, node in (made.tensors | made.numbers).items() if name in inputs}
    for node in made.graph.nodes:
        if node.op == "call_function":
            values[node] = node.target(*fx.node.map_arg(node.args, values.__getitem__))
    return values
