"""Parameters that one launch of a Triton kernel serves, remembered from step to step."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from ...group import GroupSpec
from ...rule import Program
from ...trace import RuleError, trace
from ...views import compute_dtype
from ..base import ActiveParams, Batch, UnsupportedError
from ..memory import copied_like, same_layout
from ..partition import BatchBucket, split
from .emit import BLOCK, Kernel, emit, extents_are_full, unknown_words
from .library import launch

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""The dtypes of parameters, gradients and state."""

ALIGNMENT = 16
"""Bytes of the longest load of one thread: addresses that are multiples of it are loaded in few long words."""


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
    names = _names(program, (*spec.numbers, *program.counted))
    return kernel_for(program, names, (p.dtype.to_real(),) * (2 + len(program.stored)))


@dataclass(eq=False)
class Tables:
    """Tables that a launch reads on its device. They are uploaded only when they have changed."""

    _rows: list[list[int]] = field(default_factory=list)
    _values: bytes = b""
    _table: Any = None
    _owners: Any = None
    _constants: Any = None

    def of(self, slots: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the table of parameters and the table of tiles.

        A parameter's row has the addresses of its tensors, its number of elements and the number of its first tile. A
        tile's entry is the row of its parameter.
        """
        sizes = list(map(Tensor.numel, slots[0]))
        tiles = [-(-size // BLOCK) for size in sizes]
        first = accumulate(tiles, initial=0)
        columns = [list(map(Tensor.data_ptr, slot)) for slot in slots]
        rows = [list(row) for row in zip(*columns, sizes, first, strict=False)]
        if rows != self._rows:
            device = slots[0][0].device
            self._rows, self._table = rows, torch.tensor(rows, dtype=torch.int64, device="cpu").to(device)
            places = torch.arange(len(tiles), dtype=torch.int32, device="cpu")
            self._owners = places.repeat_interleave(torch.tensor(tiles, device="cpu")).to(device)
        return self._table, self._owners

    @property
    def is_aligned(self) -> bool:
        """True if all addresses of the table are multiples of `ALIGNMENT` bytes."""
        return all(address % ALIGNMENT == 0 for row in self._rows for address in row[:-2])

    def constants(self, values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return the constants, computed in double and rounded once. Zeros of either sign are two constants."""
        given = array("d", values or (0.0,))
        if self._constants is None or given.tobytes() != self._values:
            rounded = torch.tensor(given.tolist(), dtype=torch.float64, device="cpu").to(dtype)
            self._values, self._constants = given.tobytes(), rounded.to(device)
        return cast(Tensor, self._constants)


def run(batch: Batch, tables: Tables) -> dict[str, Any]:
    """Run ``batch`` in one launch and return the new scalar state. Parameters and state are written in place."""
    grads = [_fitted(g, p) for g, p in zip(batch.grads, batch.params, strict=True)]
    slots = [batch.params, grads, *batch.state.values()]
    kernel = kernel_for(batch.program, _names(batch.program, tuple(batch.numbers)), _dtypes(slots))
    constants, new_scalars = kernel.host(**batch.numbers)
    table, owners = tables.of(slots)
    if len(owners):
        values = tables.constants(constants, kernel.real, table.device)
        launch(kernel.source, table, owners, values, is_aligned=tables.is_aligned)
    return new_scalars


def _names(program: Program, numbers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the numbers that are not scalar state."""
    scalars = {s.name for s in program.scalars}
    return tuple(name for name in numbers if name not in scalars)


def _dtypes(slots: list[list[Tensor]]) -> tuple[torch.dtype, ...]:
    return tuple(slot[0].dtype for slot in slots)


def _fitted(g: Tensor, p: Tensor) -> Tensor:
    """Return a gradient in the layout of its parameter, and not as a negated view."""
    g = g.resolve_neg()
    return g if same_layout(g, p) else copied_like(g, p)


@dataclass(eq=False)
class LaunchBucket(BatchBucket):
    """Parameters of one device that share a kernel and the values of their counters."""

    def __post_init__(self) -> None:
        """Refuse tensors that the kernel cannot read."""
        super().__post_init__()
        self._tables = Tables()
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
        self.counters.store(self.run(self._batch(numbers), self._tables))
        increment_version(self._written())


def make_buckets(live: ActiveParams) -> Iterator[LaunchBucket]:
    """Put parameters together that share a kernel and the values of their counters.

    Raises:
        UnsupportedError: some parameter cannot be run.
    """
    for bucket in split(live, run=run, bucket=LaunchBucket):
        program, p, held = bucket.program, bucket.params[0], bucket.states[0]
        tensors = (p, p.grad, *(held[s.name] for s in program.stored))
        names = _names(program, (*live.numbers, *program.counted))
        kernel_for(program, names, tuple(x.dtype.to_real() for x in tensors if x is not None))
        yield cast(LaunchBucket, bucket)
