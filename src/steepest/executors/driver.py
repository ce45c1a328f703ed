"""The driver executor: runs a rule that asks for new gradients, on all parameters of a group as one vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..fields import Options
from ..rule import Rule
from .batch import compute_dtype, real_view

Closure = Callable[[], Any]


@dataclass
class Objective:
    """The loss as a function of one flat vector.

    ``maximize`` and coupled ``weight_decay`` act here, on value and gradient alike, so that a line search sees the
    function that is really minimised: ``sign * f(x) + weight_decay / 2 * x.x``.
    """

    params: list[Tensor]
    closure: Closure
    sign: float
    weight_decay: float

    def __call__(self, x: Tensor) -> tuple[float, Tensor]:
        """Loss and gradient at ``x``; the parameters are left there. A missing gradient counts as zero."""
        scatter(x, self.params)
        with torch.enable_grad():
            self.raw_loss = self.closure()
        raw = self.raw_loss
        loss = self.sign * float(raw.detach() if isinstance(raw, Tensor) else raw)
        g = self.sign * self._gradient(x)
        if self.weight_decay:
            loss, g = loss + 0.5 * self.weight_decay * float(x.dot(x)), g + self.weight_decay * x
        return loss, g

    def _gradient(self, x: Tensor) -> Tensor:
        grads = (torch.zeros_like(p) if p.grad is None else p.grad for p in self.params)
        return gather(list(grads)).to(x.dtype)


def gather(tensors: list[Tensor]) -> Tensor:
    """All tensors as one vector, in the dtype to compute in."""
    flat = [real_view(x.detach()).reshape(-1) for x in tensors]
    joined = torch.cat(flat)
    return joined.to(compute_dtype(joined.dtype))


def scatter(x: Tensor, tensors: list[Tensor]) -> None:
    """Write a vector back into the tensors that it was gathered from."""
    offset = 0
    with torch.no_grad():
        for tensor in tensors:
            target = real_view(tensor.detach())
            target.copy_(x[offset : offset + target.numel()].view(target.shape))
            offset += target.numel()


def run(rule: Rule, options: Options, closure: Closure, state: dict[str, list[Tensor]]) -> Any:
    """Run one step of a driver and return the loss of its first evaluation.

    Args:
        rule: a generator; it yields trial points, is sent ``(loss, gradient)`` and returns the new x (and state).
        options: the group's options with the parameters under ``params``.
        closure: re-evaluates the model and returns the loss, as in torch.
        state: the rule's state, a list over parameters per name; written in place.

    Whatever the closure or the rule raises, the parameters get back the values they had before the step.
    """
    params = options["params"]
    sign = -1.0 if options.get("maximize") else 1.0
    objective = Objective(params, closure, sign, options.get("weight_decay", 0.0))
    start = gather(params)
    held = [gather(tensors) for tensors in state.values()]
    try:
        (x, *new), loss = _drive(rule.fn(start, *held, **rule.keywords(options)), objective)
    except BaseException:
        scatter(start, params)
        raise
    scatter(x, params)
    for vector, tensors in zip(new, state.values(), strict=True):
        scatter(vector, tensors)
    return loss


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
