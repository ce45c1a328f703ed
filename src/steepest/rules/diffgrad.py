"""DiffGrad: Adam that slows down where the gradient does not change."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import absolute, lerp, sigmoid, sqrt


def diffgrad(p, g, m, v, h, *, t, lr, beta1, beta2, eps):
    """p, g, m, v, h: same shape; h is the gradient of the step before. Returns new (p, m, v, h)."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    xi = sigmoid(absolute(h - g))
    eta = lr * sqrt(1 - beta2**t) / (1 - beta1**t)
    return p - eta * xi * m / (sqrt(v) + eps), m, v, g


class DiffGrad(Optimizer):
    """DiffGrad: Adam's step times a friction ξ = σ(|last g - g|), from ½ where the gradient stays to 1 where it jumps.

    Source:
        Dubey et al. 2020, "diffGrad: an optimization method for convolutional neural networks", arXiv:1909.11015.
    Differs:
        torch has none. The last gradient is kept as a copy, and is 0 before the first step; the official code keeps
        the gradient itself, so that gradients zeroed in place make the last one 0 at all steps. ε is added before v is
        corrected, as in the official code. Decay is coupled, as there; pytorch_optimizer decouples it.
    """

    lr: fields.Rate = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        diffgrad,
        "pointwise",
        (
            State("step", "step"),
            State("exp_avg"),
            State("exp_avg_sq", nonnegative=True),
            State("previous_grad"),
        ),
    )
