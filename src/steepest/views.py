"""Views of tensors: how executors see a parameter, its gradient and its state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

PLAIN = {Tensor, torch.nn.Parameter}
"""Types of tensors that are not of a subclass of torch's own."""


def are_plain(tensors: Iterable[Any]) -> bool:
    """Return whether all tensors are of torch's own types, and none of a subclass."""
    return {type(x) for x in tensors} <= PLAIN


def real_view(x: Tensor) -> Tensor:
    """Return a complex tensor as its real view (a last dimension of size 2), and any other tensor itself."""
    return torch.view_as_real(x) if x.is_complex() else x


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype to compute in: half types compute in float32 and round once, at the store."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def widen(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``x`` in the dtype to compute in, which is ``x`` itself where it already has that dtype."""
    return x if x.dtype == dtype else x.to(dtype)
