"""Views of tensors: how executors see a parameter, its gradient and its state."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor

PLAIN = {Tensor, torch.nn.Parameter}
"""Types of tensors that are not of a subclass of torch's own."""


def are_plain(tensors: Iterable[Any]) -> bool:
    """Return whether all tensors are of torch's own types, and none of a subclass."""
    return {type(x) for x in tensors} <= PLAIN


def is_dtensor(x: Any) -> TypeGuard[Any]:
    """Return whether a tensor is a DTensor. Where nothing has imported the module that makes them, none is."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def local_part(x: Any) -> Any:
    """Return the part of a DTensor on this rank, and anything else as it is."""
    return x.to_local() if is_dtensor(x) else x


def placed_as(target: Tensor, value: Any) -> Any:
    """Return a DTensor's value with the placement of another one, over ranks; any other value as it is."""
    if is_dtensor(target) and is_dtensor(value) and value.placements != target.placements:
        return value.redistribute(placements=target.placements)
    return value


def zeros_for(p: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return zeros on the parameter's device; of a DTensor, split as it is along those dimensions that both have."""
    if not is_dtensor(p):
        return torch.zeros(shape, dtype=dtype, device=p.device)
    tensor = sys.modules["torch.distributed.tensor"]
    same = {dim for dim in range(p.ndim) if len(shape) == p.ndim and shape[dim] == p.shape[dim]}
    placements = [each if getattr(each, "dim", None) in same else tensor.Replicate() for each in p.placements]
    zeros: Tensor = tensor.zeros(*shape, dtype=dtype, device_mesh=p.device_mesh, placements=placements)
    return zeros


def real_view(x: Tensor) -> Tensor:
    """Return a complex tensor as its real view (a last dimension of size 2), and any other tensor itself."""
    return torch.view_as_real(x) if x.is_complex() else x


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype to compute in: half types compute in float32 and round once, at the store."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def widen(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``x`` in the dtype to compute in, which is ``x`` itself where it already has that dtype."""
    return x if x.dtype == dtype else x.to(dtype)
