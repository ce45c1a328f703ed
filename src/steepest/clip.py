"""Common steps on the gradient: unscaling, for mixed precision, and clipping by its norm. ``.grad`` stays as it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .executors.batch import compute_dtype
from .fields import hyper
from .rule import Update, Values


def max_norm() -> Any:
    """Declare ``max_norm``, which every optimizer takes."""
    doc = "largest norm of the gradient, over all groups that set it, as torch's clip_grad_norm_ has it; None: any"
    return hyper(None, doc, low=0.0)


def unscaled(update: Update) -> Update:
    """Mixed precision: the rule sees ``g / grad_scale``."""

    def unscale(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, g / scalars["grad_scale"], state, scalars)

    return unscale


def clipped(update: Update) -> Update:
    """Clip by the global norm: the rule sees ``clip * g``, where `clip_factor` makes ``clip``."""

    def clip(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, scalars["clip"] * g, state, scalars)

    return clip


def total_norm(grads: list[Tensor], scale: Any) -> Tensor:
    """The Euclidean norm of all gradients together, 0-dim, after unscaling.

    Unlike torch's it is differentiable, and half types are summed in float32.
    """
    halves = [g for g in grads if compute_dtype(g.dtype) != g.dtype]
    others = [g for g in grads if compute_dtype(g.dtype) == g.dtype]
    norms = [*torch._foreach_norm(halves, 2, torch.float32)] if halves else []
    norms += [*torch._foreach_norm(others)] if others else []
    together = torch.stack([x.to(norms[0].device) for x in norms])
    norm: Tensor = torch.linalg.vector_norm(together) / scale
    return norm


def clip_factor(max_norm: float, norm: Tensor) -> Tensor:
    """What the gradients are multiplied by, as in ``torch.nn.utils.clip_grad_norm_``; NaN for a norm that is NaN."""
    factor: Tensor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    return factor
