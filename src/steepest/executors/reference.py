"""The reference executor: the rule itself, one tensor at a time. Debuggable, differentiable, and the float64 oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import _get_capturable_supported_devices

from ..fields import View
from ..group import GroupSpec
from ..rule import Program, Values
from ..sharding import placed_as
from ..trace import RuleError
from ..views import compute_dtype, widen
from . import coded
from .base import ActiveParams, Batch, Bucket, Executor
from .memory import Memory
from .partition import singles, split


def run(batch: Batch) -> dict[str, Any]:
    """Run ``batch`` and return the new scalar state. Parameters and state are written in place."""
    return coded.run(batch, _run_plain, most=0) if batch.program.storage else _run_plain(batch)


def _run_plain(batch: Batch) -> dict[str, Any]:
    new_scalars: dict[str, Any] = {}
    for index, (p, g) in enumerate(zip(batch.params, batch.grads, strict=True)):
        held = {name: tensors[index] for name, tensors in batch.state.items()}
        own = {"stream": batch.streams[index]} if batch.program.rule.takes_stream else {}
        new_scalars = run_one(batch.program, {**batch.numbers, **own}, p, g, held)
    return new_scalars


def run_one(program: Program, numbers: Values, p: Tensor, g: Tensor, held: dict[str, Tensor]) -> dict[str, Any]:
    """Run ``program`` on one parameter, write it and its tensor state ``held``, and return the new scalar state."""
    new_p, new_state = updated(program, numbers, p, g, held)
    _store([(p, new_p), *((x, new_state[name]) for name, x in held.items())])
    return {s.name: new_state[s.name] for s in program.scalars}


def updated(
    program: Program, numbers: Values, p: Tensor, g: Tensor, held: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, Any]]:
    """Return the new parameter and state, in the dtype to compute in, and write nothing."""
    if program.view is not None:
        return _on_matrices(program, program.view, numbers, p, g, held)
    dtype = compute_dtype(p.dtype)
    scalars = {s.name: numbers[s.name] for s in program.scalars}
    tensors = {name: _read(x, dtype) for name, x in held.items()}
    inputs = [_read(p, dtype), widen(g, dtype), *tensors.values()]
    before = _versions(inputs)
    new_p, new_state = program.update(inputs[0], inputs[1], {**tensors, **scalars}, numbers)
    if before != _versions(inputs):
        raise RuleError(f"{program.rule.fn.__name__} writes to its inputs (such as g += 1); write g = g + 1")
    return new_p, new_state


def _on_matrices(
    program: Program, view: View, numbers: Values, p: Tensor, g: Tensor, held: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, Any]]:
    """Return the new parameter and state of a program that sees matrices in them, in the shapes of the old ones."""
    like = {s.name for s in program.tensors if s.kind == "like"}
    seen = {name: view(x) if name in like else x for name, x in held.items()}
    new_p, new_state = updated(program.on_matrices, numbers, view(p), view(g), seen)
    return new_p.reshape(p.shape), {name: x.reshape(p.shape) if name in like else x for name, x in new_state.items()}


def _versions(tensors: list[Tensor]) -> list[int]:
    """Return the tensors' version counters; nothing under dynamo, which does not have them.

    Dynamo sees a rule only after eager steps or tests have. A tensor made in `torch.inference_mode` has no counter.
    """
    return [] if torch.compiler.is_compiling() else [x._version for x in tensors if not x.is_inference()]


def _read(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert ``x`` to ``dtype``. A differentiable step gets a copy.

    Its backward needs the old values, and the new ones are written over them.
    """
    return x.to(dtype, copy=True) if torch.is_grad_enabled() else widen(x, dtype)


def _store(results: list[tuple[Tensor, Tensor]]) -> None:
    """Write every result into its target. A result that is a target, or a view of one, is copied first."""
    targets = [target for target, _ in results]
    changed = [(target, value) for target, value in results if value is not target]
    is_old = _within(targets)
    values = [value.clone() if is_old(value) else value for _, value in changed]
    for (target, _), value in zip(changed, values, strict=True):
        target.copy_(placed_as(target, value))


def _within(targets: list[Tensor]) -> Callable[[Tensor], bool]:
    """Return the test whether a tensor is one of the targets or lies in one. Under dynamo nothing has an address."""
    memory = None if torch.compiler.is_compiling() else Memory(targets)
    return lambda x: any(x is target for target in targets) or (memory is not None and memory.holds(x))


def _suits(spec: GroupSpec) -> bool:
    return spec.rule.kind != "driver" and spec.rule.sparse != "lazy"


def check_capturable(live: ActiveParams) -> None:
    """Raise `AssertionError` for a parameter of a capturable step on a device without graphs, in torch's words."""
    supported = _get_capturable_supported_devices()
    if live.spec.options.get("capturable") and any(p.device.type not in supported for p in live.params):
        raise AssertionError(f"If capturable=True, params and state_steps must be on supported devices: {supported}.")


def _make_buckets(live: ActiveParams) -> Iterator[Bucket]:
    """Put parameters together; capturable and differentiable steps take them one by one.

    Raises:
        AssertionError: a parameter of a capturable step is on a device without graphs, in torch's words.
    """
    options = live.spec.options
    check_capturable(live)
    is_single = options.get("capturable") or options.get("differentiable")
    return singles(live, run=run) if is_single else split(live, run=run)


def map_matrices(function: Callable[[Tensor], Tensor], matrices: list[Tensor]) -> list[Tensor]:
    """Apply a function to each of a list of matrices."""
    return list(map(function, matrices))


REFERENCE = Executor("reference", _make_buckets, _suits, map_matrices=map_matrices)

ON_TENSORS = Executor("reference", partial(singles, run=run), _suits)
"""The reference executor with numbers that stay tensors, whatever the options say."""
