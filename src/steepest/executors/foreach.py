"""The foreach executor: a plan of list operations, run in chunks that fit the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..codecs import flat
from ..rule import Program
from ..trace import trace
from ..views import compute_dtype, widen
from . import coded
from .base import ActiveParams, Batch, Executor, runs
from .partition import BatchBucket, split_as_asked
from .reference import check_capturable
from .vectors import constant, listed, on_device, vector

if TYPE_CHECKING:
    from .plan import Plan, Reduction

CHUNK = 512 * 1024
"""Elements per chunk on a CPU: few enough to stay in the cache, and many enough that a call's own cost stays small.
Measured on 2 cores with 2 MiB of cache each: 128 Ki to 1 Mi are within a third of each other, and this is the best."""

DTYPE = attrgetter("dtype")

Slots = list[list[Tensor]]


@cache
def plan_for(
    program: Program, numbers: tuple[str, ...], on_device: frozenset[str] = frozenset(), *, is_in_phases: bool = False
) -> Plan:
    """Return the plan of a program, which is traced once; see `steepest.executors.plan.make_plan`.

    What plans is imported with the first plan.
    """
    from .plan import make_plan

    return make_plan(trace(program, numbers), on_device, is_in_phases=is_in_phases)


def run(batch: Batch) -> dict[str, Any]:
    """Run ``batch`` and return the new scalar state. Parameters and state are written in place."""
    return coded.run(batch, _run_plain, CHUNK) if batch.program.storage else _run_plain(batch)


def _run_plain(batch: Batch) -> dict[str, Any]:
    plan, dtype = _plan_of(batch), compute_dtype(batch.params[0].dtype)
    as_it_is = set(map(DTYPE, chain.from_iterable(batch.slots))) == {dtype}
    # A single call that needs no copies reads everything once: there is nothing to keep in the cache.
    is_whole = (as_it_is and plan.calls == 1) or plan.is_on_device
    return _run_chunks(batch, plan, plan.step, [batch.slots] if is_whole else chunks(batch))


def run_whole(batch: Batch, reduced: Reduction) -> dict[str, Any]:
    """Run ``batch`` without cutting it, with other reductions, and return the new scalar state."""
    plan = _plan_of(batch, is_in_phases=True)
    return _run_chunks(batch, plan, plan.step_with(reduced), [batch.slots])


def _plan_of(batch: Batch, *, is_in_phases: bool = False) -> Plan:
    scalars = {s.name for s in batch.program.scalars}
    names = tuple(n for n in batch.numbers if n not in scalars)
    return plan_for(batch.program, names, on_device(batch.numbers), is_in_phases=is_in_phases)


def _run_chunks(batch: Batch, plan: Plan, step: Callable[..., None], cut: Iterable[Slots]) -> dict[str, Any]:
    dtype = compute_dtype(batch.params[0].dtype)
    compute = _computed_on_device if plan.is_on_device else _computed
    constants, new_scalars = compute(batch, plan, dtype)
    for chunk in cut:
        wide = [slot if not slot or slot[0].dtype == dtype else [widen(x, dtype) for x in slot] for slot in chunk]
        step(*wide, *constants)
        _store(chunk, wide)
    return new_scalars


def _computed(batch: Batch, plan: Plan, dtype: torch.dtype) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the constants of a plan, and the new scalar state."""
    constants, new_scalars = plan.host(**batch.numbers)
    if batch.params[0].is_cpu:
        box = partial(torch.tensor, dtype=dtype, device="cpu")
        constants = tuple(box(c) if boxed else c for c, boxed in zip(constants, plan.boxed, strict=True))
    return constants, new_scalars


def _computed_on_device(batch: Batch, plan: Plan, dtype: torch.dtype) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the constants of a plan, and the new scalar state, in tensors that nobody has read."""
    count = len(batch.params)
    constants, new_scalars = plan.host(**{name: vector(value) for name, value in batch.numbers.items()})
    fitted = (constant(c, count, dtype, boxed) for c, boxed in zip(constants, plan.boxed, strict=True))
    return tuple(fitted), {name: listed(value, count) for name, value in new_scalars.items()}


def _store(chunk: Slots, wide: Slots) -> None:
    """Round results computed in a wider dtype into parameters and state. Gradients are never written."""
    for index, (slot, computed) in enumerate(zip(chunk, wide, strict=True)):
        if index != 1 and slot and slot[0] is not computed[0]:
            torch._foreach_copy_(slot, computed)


def chunks(batch: Batch) -> Iterator[Slots]:
    """Cut a batch into cache-sized runs of tensors. A large tensor of a pointwise rule is itself cut into slices."""
    if batch.params[0].device.type != "cpu" or sum(map(Tensor.numel, batch.params)) <= CHUNK:
        yield batch.slots
        return
    for run_of in runs(_columns(batch), lambda column: column[0].numel(), CHUNK):
        yield [list(slot) for slot in zip(*run_of, strict=True)]


def _columns(batch: Batch) -> Iterator[tuple[Tensor, ...]]:
    """Yield each parameter with its gradient and state. A large parameter of a pointwise rule comes in slices."""
    for column in zip(*batch.slots, strict=True):
        is_large = column[0].numel() > CHUNK and batch.program.kind == "pointwise"
        if is_large and (views := flat(column)):
            yield from zip(*(torch.split(x, CHUNK) for x in views), strict=True)
        else:
            yield column


def _make_buckets(live: ActiveParams) -> Iterator[BatchBucket]:
    """Put parameters together.

    Raises:
        AssertionError: a parameter of a capturable step is on a device without graphs, in torch's words.
    """
    check_capturable(live)
    return split_as_asked(live, run=run)


FOREACH = Executor("foreach", _make_buckets, switch="foreach", run_sums=run_whole, is_capturable=True)
