"""Common steps on the gradient: unscaling, for mixed precision, and clipping by its norm. ``.grad`` stays as it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .executors.batch import real_view
from .fields import hyper
from .norms import norms
from .rule import Update, Values
from .vocabulary import rescaled


def max_norm() -> Any:
    """Declare ``max_norm``, which every optimizer takes."""
    doc = "largest norm of the gradient, over all groups that set it, as torch's clip_grad_norm_ has it; None: any"
    return hyper(None, doc, low=0.0)


def unscaled(update: Update) -> Update:
    """Mixed precision: the rule sees ``g / grad_scale``."""

    def unscale(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, rescaled(g, 1 / scalars["grad_scale"]), state, scalars)

    return unscale


def clipped(update: Update) -> Update:
    """Clip by the global norm: the rule sees ``clip * g``, where `clip_factor` makes ``clip``."""

    def clip(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, rescaled(g, scalars["clip"]), state, scalars)

    return clip


def total_norm(grads: list[Tensor], scale: Any) -> Tensor:
    """The Euclidean norm of all gradients together, 0-dim, in double, after unscaling.

    Unlike torch's it is differentiable, and right for gradients whose squares overflow.
    """
    of_each: list[Tensor] = []
    real = [real_view(g.resolve_conj()) for g in grads]
    for kind in dict.fromkeys((g.dtype, g.device) for g in real):
        of_each += norms([g for g in real if (g.dtype, g.device) == kind])
    together = torch.stack([x.to(of_each[0].device) for x in of_each]).double()
    norm: Tensor = torch.linalg.vector_norm(together) / scale
    return norm


def clip_factor(max_norm: float, norm: Tensor) -> Tensor:
    """What the gradients are multiplied by, as in ``torch.nn.utils.clip_grad_norm_``; NaN for a norm that is NaN."""
    factor: Tensor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    return factor
