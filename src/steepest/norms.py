"""Euclidean norms that neither overflow nor vanish, as float32 squares do beyond 1e19 and below 1e-19."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import sums
from .modes import intercepting
from .sharding import is_dtensor, is_partial, local_part, whole
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
    real = [real_view(g.resolve_conj()) for g in grads]
    apart = [g for g in real if _adds_up(g)]
    of_each = [whole(x) for x in _of_each([g for g in real if not _adds_up(g)])]
    if apart:
        device = local_part(apart[0]).device
        squares = [x.to(device, torch.float64) ** 2 for x in _of_each(list(map(local_part, apart)))]
        of_each.append(sums.over_shards(torch.stack(squares)[:, None], apart).squeeze(0).sqrt())
    together = torch.stack([x.to(of_each[0].device) for x in of_each]).double()
    norm: Tensor = torch.linalg.vector_norm(together) / scale
    return norm


def _of_each(tensors: list[Tensor]) -> list[Tensor]:
    """Return the norm of each real tensor; those of one dtype and device are taken together."""
    kinds: dict[Any, list[int]] = {}
    for place, x in enumerate(tensors):
        kinds.setdefault((x.dtype, x.device), []).append(place)
    found: dict[int, Tensor] = {}
    for places in kinds.values():
        found.update(zip(places, norms([tensors[place] for place in places]), strict=True))
    return [found[place] for place in range(len(tensors))]


def _adds_up(g: Any) -> bool:
    """Return whether the norm of a DTensor can be made of those of its parts, outside of graphs and derivatives."""
    if not is_dtensor(g) or torch.is_grad_enabled() or torch.compiler.is_compiling() or intercepting() is not None:
        return False
    return not is_partial(g)


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
