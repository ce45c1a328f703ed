"""LAMB: Adam's step in every tensor, as long as the tensor itself."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, norm, sqrt, where


def lamb(p, g, m, v, *, t, lr, beta1, beta2, eps, weight_decay):
    """p, g, m, v: same shape. Returns new (p, m, v). r is 1 where the tensor or its direction is zero."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    mhat = m / (1 - beta1**t)
    vhat = v / (1 - beta2**t)
    u = mhat / (sqrt(vhat) + eps) + weight_decay * p
    r = where(norm(p) > 0, where(norm(u) > 0, norm(p) / norm(u), 1.0), 1.0)
    return p - lr * r * u, m, v


class LAMB(Optimizer):
    """LAMB: Adam's direction with decay, scaled in every tensor so that ‖Δθ‖ = η‖θ‖; for very large batches.

    Source:
        You et al. 2020, "Large batch optimization for deep learning: training BERT in 76 minutes", arXiv:1904.00962v5.
    Differs:
        torch has none. φ is the identity, as in timm and optax; early code bounds ‖θ‖ by 10. Both averages are
        corrected inside the ratio: pytorch_optimizer has the correction outside, so that its first steps are up to ten
        times too long. The decay is part of the scaled direction, as in the paper. Every tensor is scaled: timm scales
        only tensors with decay, and the paper's recipes leave biases and norms out (give them a group of AdamW). timm
        and NVIDIA's code clip the global norm first: ``max_norm=1.0``.
    Use:
        Choose it over AdamW for very large batches, as in MLPerf. Scale η by the root of the batch size, and warm up
        for 5 to 30 % of the run.
    """

    lr: fields.Rate = fields.lr(1e-3, 1e-4, 2e-2)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-6)
    weight_decay: float = fields.weight_decay(1e-2, "decay λ, added to the direction before it is scaled", 1e-3)
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()

    rule = Rule(lamb, "per_tensor", (State("step", "step"), State("exp_avg"), State("exp_avg_sq", nonnegative=True)))
