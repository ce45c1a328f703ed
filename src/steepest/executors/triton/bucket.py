"""Parameters that the launches of a Triton kernel serve, remembered from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from ...group import GroupSpec
from ...rule import Program, TensorSlot
from ...trace import RuleError, trace, with_count
from ...views import compute_dtype
from ..base import ActiveParams, Batch, UnsupportedError
from ..memory import copied_like, same_layout
from ..partition import BatchBucket, kinds
from ..phases import has_known_extents
from ..slots import Slot, parts_of, plain_dtypes
from .counters import HostCounters
from .emit import TILE, Kernel, emit, unknown_words
from .library import launch
from .tables import Constants, Tables

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""The dtypes of parameters, gradients and plain state."""


@cache
def unsupported_program(program: Program, numbers: tuple[str, ...], real: torch.dtype) -> str:
    """Return why no kernel that computes in ``real`` can be made of a program; empty if one can.

    It is empty too for a rule with a mistake in it, about which the first step teaches.
    """
    try:
        traced = trace(program, numbers)
    except RuleError:
        return ""
    if not has_known_extents(traced):
        return "the Triton executor knows elements and whole tensors, no rows or columns"
    words = ", ".join(unknown_words(traced, real))
    return f"the Triton executor does not have {words} yet" if words else ""


@cache
def kernel_for(program: Program, numbers: tuple[str, ...], dtypes: tuple[torch.dtype, ...]) -> Kernel:
    """Make the kernel of a program for these dtypes of tensors (p, g, stored state), only once.

    Raises:
        UnsupportedError: no kernel can be made of the program, or not for these dtypes.
    """
    plain = [dtype for dtype, stored in zip(dtypes, (None, None, *program.stored), strict=True) if _is_plain(stored)]
    if unknown := [dtype for dtype in plain if dtype not in FLOATS]:
        known = ", ".join(map(str, FLOATS))
        raise UnsupportedError(f"the Triton executor computes with {known}, not {unknown[0]}")
    if reason := unsupported_program(program, numbers, compute_dtype(dtypes[0])):
        raise UnsupportedError(reason)
    traced = trace(program, numbers)
    return emit(traced, parts_of(program, traced, dtypes, Slot), program.storage)


def _is_plain(stored: TensorSlot | None) -> bool:
    return stored is None or stored.codec is None


def kernel_like(spec: GroupSpec, p: Tensor) -> Kernel:
    """Return the kernel for a parameter like ``p``, with a gradient and plain state of the parameter's dtype.

    Raises:
        UnsupportedError: no kernel can be made for it.
    """
    program = spec.program(p)
    return kernel_for(program, with_count(program, spec.numbers), plain_dtypes(program, p.dtype.to_real()))


@dataclass(eq=False)
class Launcher:
    """The launches of one kernel, with the tables and the room that they keep on the device."""

    kernel: Kernel

    def __post_init__(self) -> None:
        """Keep nothing yet."""
        self._tables, self._rounded, self._doubles = Tables(self.kernel.block), Constants(), Constants()
        self._room: dict[str, Any] = {}

    def run(self, batch: Batch, counters: HostCounters) -> dict[str, list[float]]:
        """Run ``batch`` and return the new scalar state of each parameter.

        Parameters and state are written in place. Parameters with equal counters share a row of constants.
        """
        kernel = self.kernel
        counts = counters.rows or [()] * len(batch.params)
        places = {count: place for place, count in enumerate(dict.fromkeys(counts))}
        made = [kernel.host(**batch.numbers, **dict(zip(counters.values, count, strict=True))) for count in places]
        rows = [places[count] for count in counts]
        table, owners = self._tables.of(batch.slots, rows, batch.streams)
        steps = [dict(zip(counters.values, count, strict=True)).get("t", 0.0) for count in places]
        constants = self._constants([row for row, _ in made], steps, table.device)
        room = self._room_for(len(rows), len(owners), table.device)
        for each in kernel.launches:
            if programs := len(owners if each.is_tiled else rows):
                arguments = (table, owners, *constants, *room)
                launch(kernel, each.function, programs, arguments, is_aligned=self._tables.is_aligned)
        return {s.name: [made[row][1][s.name] for row in rows] for s in batch.program.scalars}

    def _constants(
        self, rows: list[tuple[float, ...]], steps: list[float], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return the rows of constants, in the dtype to compute in and in double with the step count, if it is read."""
        rounded = self._rounded.of(rows, self.kernel.real, device)
        if not self.kernel.reads_doubles:
            return rounded, rounded
        filled = [row or (0.0,) for row in rows]
        wide = [(*row, t) for row, t in zip(filled, steps, strict=True)] if self.kernel.is_counted else filled
        return rounded, self._doubles.of(wide, torch.float64, device)

    def _room_for(self, params: int, tiles: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return room for the sums of each tile and the numbers of each parameter, in double."""
        sizes = {"sums": tiles * self.kernel.sums, "reduced": params * self.kernel.reductions}
        for name, size in sizes.items():
            if name not in self._room or self._room[name].numel() < size:
                self._room[name] = torch.empty(max(1, size), dtype=torch.float64, device=device)
        return self._room["sums"], self._room["reduced"]


FITS: dict[str, Callable[[Tensor, Tensor], bool]] = {
    "like": lambda x, p: x.shape == p.shape and same_layout(x, p),
    "number": lambda x, p: x.numel() == 1,
    "blocks": lambda x, p: x.shape == (-(-p.numel() // TILE),) and x.is_contiguous(),
}
"""Whether a tensor of a parameter is laid out as its slot wants it."""


def _fitted(g: Tensor, p: Tensor) -> Tensor:
    """Return a gradient in the layout of its parameter, and not as a negated view."""
    g = g.resolve_neg()
    return g if same_layout(g, p) else copied_like(g, p)


@dataclass(eq=False)
class LaunchBucket(BatchBucket):
    """Parameters of one device that share a kernel."""

    counters: HostCounters
    kernel: Kernel

    def __post_init__(self) -> None:
        """Refuse tensors that the kernel cannot read."""
        super().__post_init__()
        if reason := self._refused_layout():
            raise UnsupportedError(reason)

    def _refused_layout(self) -> str:
        written = self._written()
        if any(map(Tensor.is_neg, written)) or any(map(Tensor.is_conj, written)):
            return "a parameter or its state is a negated or conjugate view; give resolve_neg().resolve_conj()"
        fits = {slot.name: FITS[slot.layout] for slot in self.kernel.slots[2:]}
        for p, held in zip(self.params, self.states, strict=True):
            if not same_layout(p, p) or not all(fit(held[name], p) for name, fit in fits.items()):
                shape = tuple(p.shape)
                return f"the parameter of shape {shape} or its state has gaps in its memory; give contiguous()"
        return ""

    def ready(self, grads: list[Tensor]) -> bool:
        """Return whether tensors and counters are as they were, and the tensors still have no gaps."""
        return super().ready(grads) and not self._refused_layout()

    def step(self, numbers: Any) -> None:
        """Count the step, launch the kernel, and store new scalar state."""
        self.counters.advance()
        batch = self._batch(numbers)
        fitted = [_fitted(g, p) for g, p in zip(batch.grads, batch.params, strict=True)]
        self.counters.store(self.run(replace(batch, grads=fitted), self.counters))
        increment_version(self._written())


def make_buckets(live: ActiveParams) -> Iterator[LaunchBucket]:
    """Put parameters together that share a kernel.

    Raises:
        UnsupportedError: some parameter cannot be run.
    """
    for program, members in live.grouped_by(kinds):
        params, states, streams = live.at(members)
        tensors = (params[0], params[0].grad, *(states[0][s.name] for s in program.stored))
        dtypes = tuple(x.dtype.to_real() for x in tensors if x is not None)
        kernel = kernel_for(program, with_count(program, live.numbers), dtypes)
        counters = HostCounters.of_each(program.counted, states)
        yield LaunchBucket(Launcher(kernel).run, program, members, params, states, counters, streams, kernel)
