"""Padam: Adam with a smaller power of its second moment."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Search, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, maximum, sqrt


def padam(p, g, m, v, vmax, *, t, lr, beta1, beta2, eps, partial):
    """p, g, m, v, vmax: same shape; vmax is None without amsgrad. Returns new (p, m, v, vmax)."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    if vmax is not None:
        vmax = maximum(vmax, v)
    d = sqrt(v if vmax is None else vmax) + eps
    eta = lr * sqrt(1 - beta2**t) / (1 - beta1**t)
    return p - eta * m / d ** (2 * partial), m, v, vmax


class Padam(Optimizer):
    """Padam: θ ← θ - η m / v^q with a power q between that of SGD with momentum, 0, and that of Adam, ½.

    Source:
        Chen et al. 2018, "Closing the generalization gap of adaptive gradient methods in training deep neural
        networks", arXiv:1806.06763, Algorithm 1.
    Differs:
        torch has none. Corrections, AMSGrad's maximum and ``partial=1/4`` are as in the official code; the paper has
        q = 1/8 in its experiments and corrects nothing. pytorch_optimizer has no maximum: ``amsgrad=False``. The
        correction of v is √(1 - β₂^t) whatever q is, as there. ε joins √v before the correction and the power. Decay
        is coupled, as in the official code. Rates are those of SGD.
    """

    lr: fields.Rate = fields.lr(0.1, 1e-3, 1.0)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    amsgrad: bool = fields.hyper(True, "divide by the largest v so far, so that rates never grow")
    partial: float = fields.hyper(
        0.25,
        "power q of the second moment",
        low=0.0,
        high=0.5,
        inclusive_high=True,
        search=Search(1 / 16, 0.5),
    )
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        padam,
        "pointwise",
        (
            State("step", "step"),
            State("exp_avg"),
            State("exp_avg_sq", nonnegative=True),
            State("max_exp_avg_sq", when=lambda o: o["amsgrad"], nonnegative=True),
        ),
    )
