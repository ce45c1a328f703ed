"""Slots: the tensors of a parameter that a kernel reads and writes, plain or parts of a coded one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from ..rule import Program, TensorSlot
from ..trace import Trace, extent_of
from .phases import DIMENSIONS, LINES

LAYOUTS = ("like", "blocks", *DIMENSIONS)
"""Layouts of a slot: as the parameter, one number for each block of codes, or one for what a number can belong to."""


@dataclass(frozen=True)
class Slot:
    """One tensor per parameter that the kernel reads: p, g, a state, or a part of a coded one.

    ``layout`` is one of `LAYOUTS`.
    """

    name: str
    dtype: torch.dtype
    layout: str = "like"


S = TypeVar("S", bound=Slot)


def parts_of(
    program: Program, traced: Trace, dtypes: tuple[torch.dtype, ...], make: Callable[[str, torch.dtype, str], S]
) -> dict[str, tuple[S, ...]]:
    """Return the slots that hold p, g and each tensor state, in the trace's order.

    Args:
        program: the program.
        traced: its trace.
        dtypes: the dtypes of p, g and the program's stored state.
        make: makes a slot.
    """
    parts: dict[str, tuple[S, ...]] = dict.fromkeys(traced.tensors, ())
    parts |= {name: (make(name, dtype, "like"),) for name, dtype in zip(("p", "g"), dtypes, strict=False)}
    for stored, dtype in zip(program.stored, dtypes[2:], strict=True):
        parts[stored.of] += (make(stored.name, dtype, _layout(stored, program)),)
    return parts


def _layout(stored: TensorSlot, program: Program) -> str:
    if stored.codec is not None:
        return "like" if stored.codec.sizes(2)[stored.part] == 2 else "blocks"
    extents = {s.name: extent_of(s) for s in program.tensors}
    return LINES.get(extents[stored.of], "like")


def in_order(parts: Mapping[str, tuple[S, ...]]) -> tuple[S, ...]:
    """Return all slots in a kernel's order: p, g, the program's stored state."""
    (p, *beside), (g,), *state = parts.values()
    return (p, g, *(slot for held in state for slot in held), *beside)


def places_of(parts: Mapping[str, tuple[S, ...]]) -> dict[str, int]:
    """Return the number of each of a rule's tensors, for the key of its random bits. The gradient has none."""
    return {name: place for place, name in enumerate(name for name in parts if name != "g")}


def plain_dtypes(program: Program, dtype: torch.dtype) -> tuple[torch.dtype, ...]:
    """Return the dtypes of p, g and stored state for a parameter whose gradient and plain state have its dtype."""
    return dtype, dtype, *(dtype if s.codec is None else s.codec.dtypes[s.part] for s in program.stored)
