"""Tables that launches read on their device. They are uploaded only when they have changed, and without waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor

ALIGNMENT = 16
"""Bytes of the longest load of one thread: addresses that are multiples of it are loaded in few long words."""

COLUMNS = ("size", "first", "own", "stream")
"""Columns of the table of parameters after the addresses: the number of elements, the number of the first tile, the row
of constants, the stream of random bits (with the block at which a part starts in its upper half)."""


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
    """The table of parameters and the table of tiles of one launch.

    Attributes:
        block: the number of elements of a tile.
        places: the places of the addresses that tiles of elements are loaded from, among all addresses of a row.
    """

    block: int
    places: Sequence[int]
    _rows: list[tuple[int, ...]] = field(default_factory=list)
    _table: Any = None
    _owners: Any = None

    def of(self, slots: list[list[Tensor]], rows: Sequence[int], streams: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the table of parameters and the table of tiles.

        A parameter's row has the addresses of its tensors and `COLUMNS`. A tile's entry is the place of its parameter.

        Args:
            slots: a list of tensors for each address, with the parameters themselves first.
            rows: the row of constants of each parameter.
            streams: the stream of random bits of each parameter.
        """
        sizes = list(map(Tensor.numel, slots[0]))
        tiles = [-(-size // self.block) for size in sizes]
        first = accumulate(tiles, initial=0)
        columns = [list(map(Tensor.data_ptr, slot)) for slot in slots]
        made = list(zip(*columns, sizes, first, rows, streams, strict=False))
        if made != self._rows:
            device = slots[0][0].device
            self._rows, self._table = made, uploaded(torch.tensor(made, dtype=torch.int64, device="cpu"), device)
            places = torch.arange(len(tiles), dtype=torch.int32, device="cpu")
            self._owners = uploaded(places.repeat_interleave(torch.tensor(tiles, device="cpu")), device)
        return self._table, self._owners

    @property
    def is_aligned(self) -> bool:
        """True if all addresses of elements, not those of single numbers, are multiples of `ALIGNMENT` bytes."""
        return all(row[place] % ALIGNMENT == 0 for row in self._rows for place in self.places)


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
