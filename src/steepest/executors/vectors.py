"""Numbers on the device, at a step: vectors for the host part of a plan, lists of 0-dim tensors for its calls.

Under ``capturable=True`` nobody reads a step count, nor what follows from it. The host part then computes with vectors
that have one entry for each parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def on_device(numbers: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the numbers that are tensors, or a list of one for each parameter."""
    return frozenset(name for name, value in numbers.items() if isinstance(value, (Tensor, list)))


def vector(value: Any) -> Any:
    """Return a number for the host part: in double, and the numbers of all parameters as a vector."""
    if isinstance(value, list):
        return torch.stack(value).double()
    return value.double() if isinstance(value, Tensor) else value


def listed(value: Any, count: int) -> Any:
    """Return a number of the host part as a list of 0-dim tensors, one for each parameter; a plain number as it is."""
    return list(value.expand(count).unbind()) if isinstance(value, Tensor) else value


def constant(value: Any, count: int, dtype: torch.dtype, boxed: bool) -> Any:
    """Return a constant for list calls: of the dtype of the lists, and a list unless one tensor serves as well."""
    if not isinstance(value, Tensor):
        return value
    fitted = value if value.dtype == torch.bool else value.to(dtype)
    return fitted if boxed and not fitted.dim() else listed(fitted, count)
