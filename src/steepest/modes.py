"""Modes that intercept torch's operations. Under a mode, a step is made of operations that the mode can see."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack


class Mode(NamedTuple):
    """Interceptor of operations.

    Attributes:
        name: the name for messages.
        hides_values: whether numbers cannot be read from tensors under the mode, because they are fake, or recorded in
            a graph.
    """

    name: str
    hides_values: bool


def intercepting() -> Mode | None:
    """Return the mode that intercepts operations in this thread, or None.

    It may be a dispatch mode (make_fx, fake tensors, a user's) or a function mode other than a default device. It may
    also be a transform of `torch.func` or a trace of `torch.jit`.
    """
    if torch._C._len_torch_dispatch_stack():
        modes: list[Any] = _get_current_dispatch_mode_stack()
        own = any(
            getattr(mode, "_mode_key", None) is not None for mode in modes
        )  # torch's own: fake, proxy, functional
        return Mode(type(modes[-1]).__name__, own)
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return Mode("a transform of torch.func", True)
    if torch._C._get_tracing_state() is not None:
        return Mode("torch.jit.trace", True)
    if torch._C._len_torch_function_stack():
        modes = [mode for mode in _get_current_function_mode_stack() if not isinstance(mode, DeviceContext)]  # type: ignore[no-untyped-call]
        return Mode(type(modes[-1]).__name__, False) if modes else None
    return None
