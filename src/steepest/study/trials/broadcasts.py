"""Detection of outputs (N, 1) and targets (N,) that a loss or a metric silently broadcasts to N x N."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WARNING: Final = "Using a target size"
"""The beginning of torch's own warning of a broadcast loss."""


class BroadcastError(Exception):
    """Outputs and targets of different shapes were broadcast to something larger than both."""

    def __init__(self, outputs: Sequence[int], targets: Sequence[int]) -> None:
        super().__init__(
            f"broadcasts outputs of shape {tuple(outputs)} against targets of shape {tuple(targets)} to shape "
            f"{tuple(np.broadcast_shapes(outputs, targets))}; make the shapes equal in model, data or loss, for "
            "example with outputs.squeeze(1) or targets.unsqueeze(1)"
        )


@contextmanager
def refused(outputs: Tensor, targets: Tensor) -> Iterator[None]:
    """Raise BroadcastError if code in the block broadcasts the two shapes to a larger one."""
    if not _fit(outputs.shape, targets.shape):  # torch will say so
        yield
        return
    with warnings.catch_warnings(), _Watch(outputs.shape, targets.shape):
        warnings.filterwarnings("error", message=WARNING)
        try:
            yield
        except UserWarning as warning:
            if not str(warning).startswith(WARNING):
                raise
            raise BroadcastError(outputs.shape, targets.shape) from warning


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that sees every operation of torch, including those inside torch's own functions."""

    def __init__(self, outputs: Sequence[int], targets: Sequence[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shapes = tuple(outputs), tuple(targets)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        shapes = [tuple(argument.shape) for argument in args if isinstance(argument, Tensor)]
        if isinstance(result, Tensor) and self._grow(shapes) and result.numel() > max(map(_size, self._shapes)):
            raise BroadcastError(*self._shapes)
        return result

    def _grow(self, shapes: Sequence[tuple[int, ...]]) -> bool:
        """Return whether an operation takes both shapes, and the two differ."""
        return self._shapes[0] != self._shapes[1] and {*self._shapes} <= {*shapes}


def _fit(left: Sequence[int], right: Sequence[int]) -> bool:
    try:
        np.broadcast_shapes(left, right)
    except ValueError:
        return False
    return True


def _size(shape: Sequence[int]) -> int:
    return torch.Size(shape).numel()
