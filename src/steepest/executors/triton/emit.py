"""Triton of a trace: the kernel of one program, and the host part that computes its constants."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ...codecs import Codec
from ...trace import Trace
from ...views import compute_dtype
from ..base import UnsupportedError
from ..phases import view_of
from ..slots import Slot
from .elements import Elements
from .emitter import Emitter
from .kernel import Kernel
from .spelling import unknown_words
from .tiles import Tiles

EMITTERS: dict[str, type[Emitter]] = {"elements": Elements, "matrices": Tiles, "units": Tiles}
"""Writers by the view of `phases.VIEWS`."""


def emit(
    trace: Trace,
    parts: Mapping[str, tuple[Slot, ...]],
    storage: Mapping[str, Codec],
    counters: tuple[tuple[str, torch.dtype], ...] | None = None,
) -> Kernel:
    """Write the kernel of ``trace``.

    Args:
        trace: the program's trace.
        parts: the tensors that hold p, g and each tensor state, in the trace's order.
        storage: the codecs of coded tensors, by name.
        counters: names and dtypes of ``t`` and scalar state, where they stay on the device; None where the host counts.

    Raises:
        UnsupportedError: the trace has words that Triton's functions do not round as the CPU does.
    """
    ((p, *_), *_) = parts.values()
    if words := unknown_words(trace, compute_dtype(p.dtype)):
        raise UnsupportedError(f"the Triton executor does not have {', '.join(words)} yet")
    return EMITTERS[view_of(trace)](trace, parts, storage, counters).kernel()
