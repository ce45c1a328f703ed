"""The step under `torch.compile`: that of the reference executor, written so that dynamo traces it into one graph.

Numbers that change from step to step stay tensors, since dynamo forces ``capturable``. Rates that are floats become
inputs of the graph once they change. State is created by ``_init_group``, which dynamo calls outside the graph, under
that name, for every optimizer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import group as groups
from ..fields import Options
from ..group import GroupSpec
from ..rule import Program, Rule, Values
from ..views import real_view
from . import reference
from .base import Executor, ExecutorChoice
from .sparse import keeps_sparse

NOT_TRACED = ("fused", "state_dtype", "parameter_rounding", "skip_nonfinite")
"""Options with which a step is not traced: a kernel that is asked for, coded state, and steps that depend on the values
of gradients."""


def can_trace(optimizer: Any) -> bool:
    """Return whether the next step may become a graph.

    A rule that evaluates closures itself or branches on its step count, shared numbers, coded state and sparse tensors
    run as they are, outside of any graph. A rule that names ``first`` is compiled only after its state exists.
    """
    return all(_can_trace_group(optimizer, group) for group in optimizer.param_groups)


def _can_trace_group(optimizer: Any, group: Options) -> bool:
    live = [p for p in group["params"] if p.grad is not None]
    if any(group.get(option) for option in NOT_TRACED) or any(p.grad.is_sparse for p in live):
        return False
    rules = dict.fromkeys(groups.rules_of(type(optimizer), group, group["params"]))
    return all(_can_trace_rule(optimizer, rule, group, live) for rule in rules)


def _can_trace_rule(optimizer: Any, rule: Rule, group: Options, live: list[Tensor]) -> bool:
    if rule.kind == "driver" or rule.sparse == "lazy" or rule.shared is not None or rule.branches:
        return False
    # dynamo does not look a second time at state that it has seen, so it is asked for only where it must be there.
    if any(s.sparse for s in rule.state) and any(
        keeps_sparse(optimizer.state[p]) for p in live if p in optimizer.state
    ):
        return False
    has_first = "first" in rule.names and any(s.when(group) for s in rule.state)
    return not has_first or all(p in optimizer.state for p in live)


def step(optimizer: Any, shared: Values) -> None:
    """Take one step of every parameter that has a gradient.

    ``shared`` holds the numbers that a step has for all groups. The optimizer itself is an argument, because dynamo
    knows only an optimizer's method ``_init_group``, by that name.
    """
    cls = type(optimizer)
    for group in optimizer.param_groups:
        params: list[Tensor] = []
        optimizer._init_group(group, params)
        numbers, switches = groups.values(cls.fields, group, shared)
        with torch.set_grad_enabled(group.get("differentiable", False)):
            for p in params:
                spec = GroupSpec.under(cls, cls.rule_for(group, p), group, switches, shared)
                _step_one(spec.program(p), numbers, p, optimizer.state.get(p, {}))


def _step_one(program: Program, numbers: Values, p: Tensor, held: dict[str, Tensor]) -> None:
    counters = {name: held[s.name] for name, s in program.counted.items()}
    if "t" in counters:
        counters["t"].add_(1)
    doubles: dict[str, Any] = {name: x.double() for name, x in counters.items()}
    tensors = {s.name: real_view(held[s.name]) for s in program.tensors}
    assert p.grad is not None
    grad = real_view(p.grad.resolve_conj()) if p.grad.is_complex() else p.grad
    for name, value in reference.run_one(program, {**numbers, **doubles}, real_view(p), grad, tensors).items():
        counters[name].copy_(value)


COMPILED = ExecutorChoice(Executor("compiled"))
"""The executor choice that is recorded for a group whose step is compiled."""
