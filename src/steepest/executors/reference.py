"""The reference executor: the rule itself, one tensor at a time. Debuggable, differentiable, and the float64 oracle."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..trace import RuleError
from ..vocabulary import computing_in
from . import coded
from .batch import Batch, compute_dtype, widen


def run(batch: Batch) -> dict[str, Any]:
    """Run ``batch`` and return the new scalar state. Parameters and state are written in place."""
    return coded.run(batch, _run_plain, most=0) if batch.program.storage else _run_plain(batch)


def _run_plain(batch: Batch) -> dict[str, Any]:
    new_scalars: dict[str, Any] = {}
    for index, (p, g) in enumerate(zip(batch.params, batch.grads, strict=True)):
        held = {name: tensors[index] for name, tensors in batch.state.items()}
        new_scalars = _run_one(batch, p, g, held)
    return new_scalars


def _run_one(batch: Batch, p: Tensor, g: Tensor, held: dict[str, Tensor]) -> dict[str, Any]:
    dtype = compute_dtype(p.dtype)
    scalars = {s.name: batch.numbers[s.name] for s in batch.program.scalars}
    tensors = {name: _read(x, dtype) for name, x in held.items()}
    inputs = [_read(p, dtype), widen(g, dtype), *tensors.values()]
    versions = [x._version for x in inputs]
    with computing_in(dtype):
        new_p, new_state = batch.program.update(inputs[0], inputs[1], tensors | scalars, batch.numbers)
    if versions != [x._version for x in inputs]:
        rule = batch.program.rule.fn.__name__
        raise RuleError(f"{rule} writes to its inputs (such as g += 1); write g = g + 1")
    _store({p: new_p} | {held[name]: new_state[name] for name in held})
    return {name: new_state[name] for name in scalars}


def _read(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A differentiable step keeps the old values for its backward, while the new ones are written over them."""
    return x.to(dtype, copy=True) if torch.is_grad_enabled() else widen(x, dtype)


def _store(results: dict[Tensor, Tensor]) -> None:
    """Write every result into its target. A result that is itself a target (state handed on) is copied first."""
    changed = {target: value for target, value in results.items() if value is not target}
    values = [value.clone() if value in results else value for value in changed.values()]
    for target, value in zip(changed, values, strict=True):
        target.copy_(value)
