"""Parameters that one launch of a Triton kernel serves, remembered from step to step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from ...group import GroupSpec
from ...rule import Program
from ...trace import RuleError, trace, with_count
from ...views import compute_dtype
from ..base import ActiveParams, Batch, UnsupportedError
from ..memory import copied_like, same_layout
from ..partition import BatchBucket, kinds
from .counters import HostCounters
from .emit import BLOCK, Kernel, emit, extents_are_full, unknown_words
from .library import launch
from .tables import Constants, Tables

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""The dtypes of parameters, gradients and state."""


def unsupported_program(program: Program, numbers: tuple[str, ...], real: torch.dtype) -> str:
    """Return why no kernel that computes in ``real`` can be made of a program; empty if one can.

    It is empty too for a rule with a mistake in it, about which the first step teaches.
    """
    if program.kind != "pointwise":
        return "the Triton executor runs pointwise rules only, and this one looks at whole tensors"
    if program.storage:
        return f"the Triton executor keeps plain state only, and {', '.join(program.storage)} is stored in a codec"
    return _unsupported_trace(program, numbers, real)


@cache
def _unsupported_trace(program: Program, numbers: tuple[str, ...], real: torch.dtype) -> str:
    try:
        traced = trace(program, numbers)
    except RuleError:
        return ""
    if not extents_are_full(traced):
        return "the Triton executor runs elements only, and this rule keeps numbers of whole tensors"
    words = ", ".join(unknown_words(traced, real))
    return f"the Triton executor does not have {words} yet" if words else ""


@cache
def kernel_for(program: Program, numbers: tuple[str, ...], dtypes: tuple[torch.dtype, ...]) -> Kernel:
    """Make the kernel of a program for these dtypes of tensors (p, g, state), only once.

    Raises:
        UnsupportedError: no kernel can be made of the program, or not for these dtypes.
    """
    if unknown := [dtype for dtype in dtypes if dtype not in FLOATS]:
        known = ", ".join(map(str, FLOATS))
        raise UnsupportedError(f"the Triton executor computes with {known}, not {unknown[0]}")
    if reason := unsupported_program(program, numbers, compute_dtype(dtypes[0])):
        raise UnsupportedError(reason)
    traced = trace(program, numbers)
    return emit(traced, dict(zip(traced.tensors, dtypes, strict=True)))


def kernel_like(spec: GroupSpec, p: Tensor) -> Kernel:
    """Return the kernel for a parameter like ``p``, with a gradient and state of the parameter's dtype.

    Raises:
        UnsupportedError: no kernel can be made for it.
    """
    program = spec.program(p)
    return kernel_for(program, with_count(program, spec.numbers), (p.dtype.to_real(),) * (2 + len(program.stored)))


def run(batch: Batch, counters: HostCounters, tables: Tables, constants: Constants) -> dict[str, list[float]]:
    """Run ``batch`` in one launch and return the new scalar state of each parameter.

    Parameters and state are written in place. Parameters with equal counters share a row of constants.
    """
    grads = [_fitted(g, p) for g, p in zip(batch.grads, batch.params, strict=True)]
    slots = [batch.params, grads, *batch.state.values()]
    kernel = kernel_for(batch.program, with_count(batch.program, batch.numbers), _dtypes(slots))
    counts = counters.rows or [()] * len(grads)
    places = {count: place for place, count in enumerate(dict.fromkeys(counts))}
    made = [kernel.host(**batch.numbers, **dict(zip(counters.values, count, strict=True))) for count in places]
    rows = [places[count] for count in counts]
    table, owners = tables.of(slots, rows, batch.streams)
    if len(owners):
        values = constants.of([row for row, _ in made], kernel.real, table.device)
        launch(kernel.source, table, owners, values, is_aligned=tables.is_aligned)
    return {s.name: [made[row][1][s.name] for row in rows] for s in batch.program.scalars}


def _dtypes(slots: list[list[Tensor]]) -> tuple[torch.dtype, ...]:
    return tuple(slot[0].dtype for slot in slots)


def _fitted(g: Tensor, p: Tensor) -> Tensor:
    """Return a gradient in the layout of its parameter, and not as a negated view."""
    g = g.resolve_neg()
    return g if same_layout(g, p) else copied_like(g, p)


@dataclass(eq=False)
class LaunchBucket(BatchBucket):
    """Parameters of one device that share a kernel."""

    counters: HostCounters

    def __post_init__(self) -> None:
        """Refuse tensors that the kernel cannot read."""
        super().__post_init__()
        self._tables, self._constants = Tables(BLOCK), Constants()
        if reason := self._refused_layout():
            raise UnsupportedError(reason)

    def _refused_layout(self) -> str:
        written = self._written()
        if any(map(Tensor.is_neg, written)) or any(map(Tensor.is_conj, written)):
            return "a parameter or its state is a negated or conjugate view; give resolve_neg().resolve_conj()"
        for p, held in zip(self.params, self.states, strict=True):
            for x in (p, *(held[s.name] for s in self.program.stored)):
                if x.shape != p.shape or not same_layout(x, p):
                    shape = tuple(p.shape)
                    return f"the parameter of shape {shape} or its state has gaps in its memory; give contiguous()"
        return ""

    def ready(self, grads: list[Tensor]) -> bool:
        """Return whether tensors and counters are as they were, and the tensors still have no gaps."""
        return super().ready(grads) and not self._refused_layout()

    def step(self, numbers: Any) -> None:
        """Count the step, launch the kernel, and store new scalar state."""
        self.counters.advance()
        self.counters.store(self.run(self._batch(numbers), self.counters, self._tables, self._constants))
        increment_version(self._written())


def make_buckets(live: ActiveParams) -> Iterator[LaunchBucket]:
    """Put parameters together that share a kernel.

    Raises:
        UnsupportedError: some parameter cannot be run.
    """
    for program, members in live.grouped_by(kinds):
        params, states, streams = live.at(members)
        tensors = (params[0], params[0].grad, *(states[0][s.name] for s in program.stored))
        kernel_for(
            program, with_count(program, live.numbers), tuple(x.dtype.to_real() for x in tensors if x is not None)
        )
        counters = HostCounters.of_each(program.counted, states)
        yield LaunchBucket(run, program, members, params, states, counters, streams)
