"""LaProp: normalised gradients first, momentum afterwards."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, sqrt, where


def laprop(p, g, m, v, a, *, t, lr, beta1, beta2, eps):
    """p, g, m, v: same shape; a: the average of lr, a number. Returns new (p, m, v, a)."""
    v = beta2 * v + (1 - beta2) * g * g
    a = beta1 * a + (1 - beta1) * lr
    m = lerp(m, lr * g / (sqrt(v / (1 - beta2**t)) + eps), 1 - beta1)
    return p - lr / where(a > 0, a, 1) * m, m, v, a


class LaProp(Optimizer):
    """LaProp: an average of gradients that are normalised one by one; stable for every pair of βs.

    Source:
        Ziyin et al. 2020, "LaProp: separating momentum and adaptivity in Adam", arXiv:2002.04839, Algorithm 1.
    Differs:
        torch has none. η enters the momentum, which is corrected by the average of η, as in the authors' code and timm;
        the paper has η outside, which is the same while η is constant. While every η was 0 nothing moves, where 0/0
        would be NaN. ε is 1e-15, added to the root. Decay is ηλ before the step, as in AdamW; timm and
        pytorch_optimizer decay after it, the authors' code after it and by λ itself. ``centered`` and ``amsgrad`` are
        not offered. The authors' ``exp_avg_lr_2`` is 1 - β2^t, a closed form of the step count.
    Use:
        Choose it over Adam to combine a long momentum with a short memory of g²: β1 may be above β2. Rates are Adam's.
    """

    lr: fields.Rate = fields.lr(4e-4)
    betas: tuple[float, float] = fields.betas((0.9, 0.999), "decay rates of the averages of the normalised g and of g²")
    eps: float = fields.eps(1e-15, 1e-15, 1e-6)
    weight_decay: float = fields.weight_decay(0, fields.OF_WEIGHTS)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        laprop,
        "pointwise",
        (
            State("step", "step"),
            State("exp_avg"),
            State("exp_avg_sq", nonnegative=True),
            State("exp_avg_lr_1", "scalar"),
        ),
    )
