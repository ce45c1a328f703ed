"""The driver executor, which runs a rule that asks for new gradients, on all parameters of a group as one vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from .. import transforms
from ..fields import Options, State
from ..group import GroupSpec
from ..rule import Rule, Structure, program
from ..sharding import split_as, whole
from ..views import compute_dtype, real_view, widen
from . import reference
from .base import Batch, Executor

Closure = Callable[[], Any]


@dataclass
class Objective:
    """The loss as a function of one flat vector.

    ``maximize`` and coupled ``weight_decay`` act here, on value and gradient alike. A line search therefore sees the
    function that is really minimised: ``sign * f(x) + weight_decay / 2 * x.x``.
    """

    params: list[Tensor]
    closure: Closure
    sign: float
    weight_decay: float

    def __call__(self, x: Tensor) -> tuple[float, Tensor]:
        """Loss and gradient at ``x``, where the parameters are left. A missing gradient counts as zero."""
        scatter(x, self.params)
        with torch.enable_grad():
            self.raw_loss = self.closure()
        raw = self.raw_loss
        loss = self.sign * float(raw.detach() if isinstance(raw, Tensor) else raw)
        g = self.sign * gather([_gradient(p) for p in self.params]).to(x.dtype)
        if self.weight_decay:
            loss, g = loss + 0.5 * self.weight_decay * float(x.dot(x)), g + self.weight_decay * x
        return loss, g


def _gradient(p: Tensor) -> Tensor:
    """Return the gradient of ``p`` as a dense tensor; zero if it is missing."""
    if p.grad is None:
        return torch.zeros_like(p)
    return p.grad.to_dense() if p.grad.is_sparse else p.grad


def gather(tensors: list[Tensor]) -> Tensor:
    """Join all tensors to one vector, in the dtype to compute in; of DTensors the whole ones, on every rank."""
    joined = torch.cat([real_view(whole(x.detach()).resolve_conj()).reshape(-1) for x in tensors])
    return widen(joined, compute_dtype(joined.dtype))


def scatter(x: Tensor, tensors: list[Tensor]) -> None:
    """Write a vector back into the tensors that it was gathered from."""
    offset = 0
    with torch.no_grad():
        for tensor in tensors:
            target = real_view(tensor.detach())
            target.copy_(split_as(target, x[offset : offset + target.numel()].view(target.shape)))
            offset += target.numel()


@dataclass(frozen=True)
class Store:
    """The store of a driver's state between two steps.

    State like the parameter is kept with each parameter. Shared state is kept with the first one, its tensors in the
    dtype to which all parameters promote.

    Attributes:
        params: the group's parameters.
        held: the optimizer's state, by parameter.
    """

    params: list[Tensor]
    held: Mapping[Tensor, dict[str, Any]]

    def read(self, declared: State, dtype: torch.dtype) -> Any:
        """Return a state as a rule takes it, in the dtype to compute in."""
        if declared.kind == "shared":
            return _converted(self.held.get(self.params[0], {}).get(declared.name, declared.init), dtype)
        return gather(self._columns(declared))

    def write(self, declared: State, value: Any) -> None:
        """Store the new value of a state, which a rule has returned."""
        if declared.kind != "shared":
            scatter(value, self._columns(declared))
        elif value is not None:
            kept = reduce(torch.promote_types, (p.dtype.to_real() for p in self.params))
            self.held[self.params[0]][declared.name] = _converted(value, kept)

    def _columns(self, declared: State) -> list[Tensor]:
        return [self.held[p][declared.name] for p in self.params]


def _converted(value: Any, dtype: torch.dtype) -> Any:
    """Convert a tensor, or each tensor of a list, to another dtype.

    A number in a tensor becomes a plain number, so that it is not rounded.
    """
    if isinstance(value, list):
        return [_converted(entry, dtype) for entry in value]
    if not isinstance(value, Tensor) or value.dtype == dtype:
        return value
    return value.to(dtype) if value.ndim else value.item()


def run(
    rule: Rule, params: list[Tensor], options: Options, closure: Closure, state: Mapping[Tensor, dict[str, Any]]
) -> Any:
    """Run one step of a driver and return the loss of its first evaluation.

    Args:
        rule: a generator. It yields trial points, is sent ``(loss, gradient)`` and returns the new x (and state).
        params: the group's parameters.
        options: the group's options, with numbers as plain numbers.
        closure: re-evaluates the model and returns the loss, as in torch.
        state: the optimizer's state by parameter. It is written at the end of the step.

    If the closure or the rule raises, the parameters get back the values that they had before the step. The state is
    then unchanged.
    """
    sign = -1.0 if options.get("maximize") else 1.0
    objective = Objective(params, closure, sign, options.get("weight_decay", 0.0))
    start = gather(params)
    store = Store(params, state)
    declared = [s for s in rule.state if s.name in rule.arguments]
    held = [store.read(s, start.dtype) for s in declared]
    try:
        (x, *new), loss = _drive(rule.fn(start, *held, **rule.keywords(options)), objective)
    except BaseException:
        scatter(start, params)
        raise
    scatter(x, params)
    for s, value in zip(declared, new, strict=True):
        store.write(s, value)
    return loss


def step(
    spec: GroupSpec, closure: Closure | None, options: Mapping[str, Any], states: Mapping[Tensor, dict[str, Any]]
) -> Any:
    """Take one step of a group whose rule is a driver, and return the loss of its first evaluation.

    Args:
        spec: the group's specification.
        closure: re-evaluates the model and returns the loss.
        options: the group's options, with numbers as plain numbers.
        states: the optimizer's state by parameter.

    Raises:
        TypeError: the closure is missing. Torch's words come first in the message.
    """
    if closure is None:
        missing = f"{spec.name}.step() missing 1 required positional argument: 'closure'"
        needed = "a closure that zeroes the gradients, computes the loss, calls backward() and returns the loss"
        raise TypeError(f"{missing}; {spec.name} evaluates new points, so step() needs {needed}")
    spec.check()
    for p in spec.options["params"]:
        spec.create_state(states, p)
    with torch.no_grad():
        loss = run(spec.rule, spec.options["params"], options, closure, states)
        _run_after(spec, options, states)
    return loss


def _unchanged(p: Any, g: Any) -> Any:
    return p


_UNCHANGED = Rule(_unchanged, "pointwise")
"""A rule that changes nothing, for transforms of parameters that a driver has already moved."""


def _run_after(spec: GroupSpec, numbers: Mapping[str, Any], states: Mapping[Tensor, dict[str, Any]]) -> None:
    """Run the transforms that follow the rule, on parameters that have been moved."""
    wrappers = tuple(w for t in transforms.AFTER_RULE if (w := t.wrapper(spec.rule, spec.options)) is not None)
    kept = tuple(s for t in transforms.AFTER_RULE for s in t.state if s in spec.existing)
    if not wrappers:
        return
    update = program(Structure(_UNCHANGED, kept, wrappers, ()))
    for p in spec.options["params"]:
        x = real_view(p)
        held = {s.name: [real_view(states[p][s.name])] for s in kept}
        reference.run(Batch(update, dict(numbers), [x], [x], held))


def _drive(search: Iterator[Tensor], objective: Objective) -> tuple[tuple[Tensor, ...], Any]:
    first_loss = None
    send = search.send  # type: ignore[attr-defined]
    answer = None
    while True:
        try:
            trial = send(answer)
        except StopIteration as finished:
            result = finished.value
            return (result if isinstance(result, tuple) else (result,)), first_loss
        answer = objective(trial)
        first_loss = objective.raw_loss if first_loss is None else first_loss


def _refusal(spec: GroupSpec) -> str:
    for switch in ("foreach", "fused", "capturable", "differentiable"):
        if spec.options.get(switch):
            return f"{switch}=True cannot run {spec.rule.fn.__name__}, which evaluates the closure itself"
    return ""


DRIVER = Executor("driver", suits=lambda spec: spec.rule.kind == "driver", refusal=_refusal)
