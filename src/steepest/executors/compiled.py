"""The step under `torch.compile`: the reference executor's, written so that dynamo traces it into one graph.

Numbers that change from step to step stay tensors, since dynamo forces ``capturable``; rates that are floats become
inputs of the graph once they change. Making state is left to ``_init_group``, which dynamo calls outside the graph,
under that name, for every optimizer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..fields import Options
from ..rule import Program, Values
from . import reference
from .batch import real_view
from .sparse import keeps_sparse

if TYPE_CHECKING:
    from ..optimizer import Optimizer


def can_trace(optimizer: Optimizer) -> bool:
    """Whether the next step may become a graph.

    What evaluates closures itself, keeps coded state or reads sparse tensors runs as it is, outside of any graph; so
    does the step that makes state for a rule that says what is different at the first.
    """
    return all(_can_trace_group(optimizer, group) for group in optimizer.param_groups)


def _can_trace_group(optimizer: Optimizer, group: Options) -> bool:
    rule = optimizer.rule_for(group)
    if rule.kind == "driver" or rule.sparse == "lazy" or group["state_dtype"] or group["parameter_rounding"]:
        return False
    live = [p for p in group["params"] if p.grad is not None]
    if any(p.grad.is_sparse for p in live):
        return False
    # dynamo does not look a second time at state that it has seen, so it is asked for only where it must be there.
    if any(s.sparse for s in rule.state) and any(
        keeps_sparse(optimizer.state[p]) for p in live if p in optimizer.state
    ):
        return False
    has_first = "first" in rule.names and any(state.when(group) for state in rule.state)
    return not has_first or all(p in optimizer.state for p in live)


def step(optimizer: Optimizer, shared: Values) -> None:
    """One step of every parameter that has a gradient; ``shared`` is what a step has for all groups."""
    for group in optimizer.param_groups:
        params: list[Tensor] = []
        optimizer._init_group(group, params)
        numbers, static = optimizer.values(group, shared)
        with torch.set_grad_enabled(group.get("differentiable", False)):
            for p in params:
                _step_one(optimizer.program(group, static, p=p), numbers, p, optimizer.state.get(p, {}))


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
