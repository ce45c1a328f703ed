"""Tables that launches read on their device. They are uploaded only when they have changed, and without waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from .layouts import Layout

ALIGNMENT = 16
"""Bytes of the longest load of one thread: addresses that are multiples of it are loaded in few long words."""

_captured: list[Tensor] = []
"""Pinned memory that graphs read when they are replayed, for as long as the process runs."""


def is_capturing(device: torch.device) -> bool:
    """Return whether the current stream of a device records a graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def uploaded(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on a device. By way of pinned memory neither waits for the other."""
    if device.type == "cpu":
        return x
    pinned = x.pin_memory()
    if is_capturing(device):
        _captured.append(pinned)
    return pinned.to(device, non_blocking=True)


@dataclass(eq=False)
class Tables:
    """The table of parameters, and for each kind of program the parameter that it belongs to.

    Attributes:
        layout: how parameters are cut into programs.
        places: the places of the addresses that tiles of elements are loaded from, among all addresses of a row.
        owners: the place of its parameter by the number of a program, for each kind of program; see `Launch.grid`.
        space: the number of doubles that the lines of all parameters need.
        fixed: the constants that launches over these tensors are compiled with. ``IS_ALIGNED`` says whether all
            addresses of elements, not of single numbers, are multiples of `ALIGNMENT`.
    """

    layout: Layout
    places: Sequence[int]
    owners: dict[str, Tensor] = field(default_factory=dict)
    space: int = 0
    fixed: dict[str, int] = field(default_factory=dict)
    _shapes: list[torch.Size] = field(default_factory=list)
    _columns: Sequence[Sequence[int]] = ()
    _of_shapes: dict[str, int] = field(default_factory=dict)
    _rows: list[tuple[int, ...]] = field(default_factory=list)
    _table: Any = None

    def of(self, slots: list[list[Tensor]], rows: Sequence[int], streams: Sequence[int]) -> Tensor:
        """Return the table of parameters: a row for each, with the addresses of its tensors and then `Layout.columns`.

        Args:
            slots: a list of tensors for each address, with the parameters themselves first.
            rows: the row of constants of each parameter.
            streams: the stream of random bits of each parameter.
        """
        shapes, device = [p.shape for p in slots[0]], slots[0][0].device
        if shapes != self._shapes:
            self._shapes, self._rows = shapes, []
            programs, self._columns = self.layout.of(shapes)
            self.owners = {grid: uploaded(_owners(counts), device) for grid, counts in programs.items()}
            self.space, self._of_shapes = self.layout.space(shapes), self.layout.fixed(shapes)
        addresses = [list(map(Tensor.data_ptr, slot)) for slot in slots]
        made = list(zip(*addresses, rows, streams, *self._columns, strict=True))
        if made != self._rows:
            self._rows, self._table = made, uploaded(torch.tensor(made, dtype=torch.int64, device="cpu"), device)
            is_aligned = all(row[place] % ALIGNMENT == 0 for row in made for place in self.places)
            self.fixed = {**self._of_shapes, "IS_ALIGNED": self._of_shapes["IS_ALIGNED"] and is_aligned}
        return cast(Tensor, self._table)


def _owners(counts: Sequence[int]) -> Tensor:
    places = torch.arange(len(counts), dtype=torch.int32, device="cpu")
    return places.repeat_interleave(torch.tensor(counts, device="cpu"))


@dataclass(eq=False)
class Addresses:
    """The addresses of each parameter's counters."""

    _rows: list[tuple[int, ...]] = field(default_factory=list)
    _table: Any = None

    def of(self, columns: list[list[Tensor]], device: torch.device) -> Tensor:
        """Return a table with a row for each parameter, given a list of tensors for each counter."""
        rows = list(zip(*(map(Tensor.data_ptr, column) for column in columns), strict=True))
        if self._table is None or rows != self._rows:
            self._rows = rows
            self._table = uploaded(torch.tensor(rows or [(0,)], dtype=torch.int64, device="cpu"), device)
        return cast(Tensor, self._table)


@dataclass(eq=False)
class Constants:
    """The constants of a launch, a row for each set of counters."""

    _seen: bytes = b""
    _held: Any = None

    def of(self, rows: list[tuple[float, ...]], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return the rows, computed in double and rounded once. Zeros of either sign are two constants."""
        exact = torch.tensor([row or (0.0,) for row in rows], dtype=torch.float64, device="cpu")
        seen = exact.numpy().tobytes()
        if self._held is None or seen != self._seen:
            self._seen, self._held = seen, uploaded(exact.to(dtype), device)
        return cast(Tensor, self._held)
