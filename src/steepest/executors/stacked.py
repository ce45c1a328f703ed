"""The stacked executor: parameters of one shape become one tensor with a dimension more, and a matrix rule runs once.

A matrix rule works on the last two dimensions, so it runs on a stack of matrices as on one matrix. Many small layers
then take a few large products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import reference
from .base import Batch, Executor, runs
from .partition import split

MOST = 2**17
"""Elements per stack on a CPU, 512 KiB in float32: a stack and what a rule makes of it stay in the cache.

What is larger than a quarter runs by itself, since its products are as fast there. Measured on 2 cores for Muon and
SOAP on matrices of 32 to 512 rows, with stacks of 2**14 to 2**24 elements.
"""

MOST_ELSEWHERE = 2**24
"""Elements per stack on other devices. A stack is a copy, and a rule's temporaries are as many elements again."""


def run(batch: Batch) -> dict[str, Any]:
    """Run ``batch`` and return the new scalar state. Parameters and state are written in place."""
    new_scalars: dict[str, Any] = {}
    for members in stacks(batch.params):
        new_scalars = _run_alone(batch, members) if len(members) == 1 else _run_stack(batch, members)
    return new_scalars


def stacks(params: list[Tensor]) -> Iterator[list[int]]:
    """Yield the places of parameters of one shape, in runs of at most `MOST` elements, or one parameter."""
    most = MOST if params[0].is_cpu else MOST_ELSEWHERE
    shapes: dict[torch.Size, list[int]] = {}
    for index, p in enumerate(params):
        shapes.setdefault(p.shape, []).append(index)
    for members in shapes.values():
        size = params[members[0]].numel()
        yield from runs(members, lambda index: size if 4 * size <= most else most, most)  # noqa: B023


def _run_alone(batch: Batch, members: list[int]) -> dict[str, Any]:
    params, grads, *state = ([slot[i] for i in members] for slot in batch.slots)
    held = dict(zip(batch.state, state, strict=True))
    return reference.run(Batch(batch.program, batch.numbers, params, grads, held, [batch.streams[i] for i in members]))


def _run_stack(batch: Batch, members: list[int]) -> dict[str, Any]:
    view, kinds = batch.program.view, {s.name: s.kind for s in batch.program.tensors}
    slots = [[slot[i] for i in members] for slot in batch.slots]
    is_seen = [view is not None and kinds.get(name, "like") == "like" for name in ("p", "g", *batch.state)]
    seen = [list(map(view, slot)) if shown and view else slot for slot, shown in zip(slots, is_seen, strict=True)]
    p, g, *state = map(torch.stack, seen)
    held = {name: [x] for name, x in zip(batch.state, state, strict=True)}
    streams = torch.tensor([batch.streams[i] for i in members])
    new_scalars = reference.run(Batch(batch.program.on_matrices, batch.numbers, [p], [g], held, [streams]))
    for slot, stack in zip((slots[0], *slots[2:]), (p, *state), strict=True):
        torch._foreach_copy_(slot, [new.view_as(x) for new, x in zip(stack.unbind(), slot, strict=True)])
    return new_scalars


def map_matrices(function: Callable[[Tensor], Tensor], matrices: list[Tensor]) -> list[Tensor]:
    """Apply a function to each of a list of matrices, in the stacks that `run` makes of parameters."""
    results = list(matrices)
    for members in stacks(matrices) if matrices else ():
        seen = [matrices[i] for i in members]
        made = [function(seen[0])] if len(members) == 1 else function(torch.stack(seen)).unbind()
        for i, result in zip(members, made, strict=True):
            results[i] = result
    return results


STACKED = Executor(
    "stacked",
    partial(split, run=run),
    lambda spec: spec.rule.kind == "matrix",
    switch="foreach",
    map_matrices=map_matrices,
)
