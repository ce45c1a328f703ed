"""Euclidean norms that neither overflow nor vanish, as float32 squares do beyond 1e19 and below 1e-19."""

from __future__ import annotations

import torch
from torch import Tensor

from .modes import intercepting
from .views import are_plain

SAFE = 1e-12, 1e18
"""Range of norms that are right in float32: no square has overflown, and squares that vanished do not count."""


def norms(tensors: list[Tensor]) -> list[Tensor]:
    """Return the norm of each real tensor, 0-dim, in its dtype (for half types in float32).

    All tensors have one device and dtype.
    """
    if tensors[0].dtype == torch.float64:
        # The function for one tensor can be mapped over by torch.func; it has the same numbers.
        return list(torch._foreach_norm(tensors)) if len(tensors) > 1 else [torch.linalg.vector_norm(tensors[0])]
    if not _may_look(tensors[0]):
        return [_in_double(x) for x in tensors]
    fast = torch._foreach_norm(tensors, 2, torch.float32)
    low, high = SAFE
    return [
        norm if low < value < high else _in_double(x)
        for x, norm, value in zip(tensors, fast, torch.stack(fast).tolist(), strict=True)
    ]


def norm(x: Tensor) -> Tensor:
    """Return the norm of one real tensor in its dtype; see `norms`."""
    return norms([x])[0].to(x.dtype)


def _may_look(x: Tensor) -> bool:
    """Return whether a value may be read: not while a graph is made, and not where reading it waits for a device."""
    if not are_plain([x]) or not x.is_cpu:
        return False
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    mode = intercepting()
    return mode is None or not mode.hides_values


def _in_double(x: Tensor) -> Tensor:
    wide: Tensor = torch.linalg.vector_norm(x, dtype=torch.float64)
    return wide.float()
