"""Euclidean norms that neither overflow nor vanish, as float32 squares do beyond 1e19 and below 1e-19."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import sums
from .modes import intercepting
from .views import are_plain, real_view

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


def total_norm(grads: list[Tensor], scale: Any = 1) -> Tensor:
    """Return the Euclidean norm of all gradients together, 0-dim, in double, after unscaling.

    Unlike torch's norm it is differentiable, and right for gradients whose squares overflow.
    """
    of_each: list[Tensor] = []
    real = [real_view(g.resolve_conj()) for g in grads]
    for kind in dict.fromkeys((g.dtype, g.device) for g in real):
        of_each += map(sums.of_all_shards, norms([g for g in real if (g.dtype, g.device) == kind]))
    together = torch.stack([x.to(of_each[0].device) for x in of_each]).double()
    norm: Tensor = torch.linalg.vector_norm(together) / scale
    return norm


def norm_over_ranks(norm: Tensor, norm_group: str | None) -> Tensor:
    """Return the norm over all ranks of a process group, from the norm of this rank; see `sums.over_ranks`."""
    return norm if norm_group is None else sums.over_ranks(norm * norm, norm_group).sqrt()


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
