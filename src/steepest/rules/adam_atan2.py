"""Adam-atan2: Adam without ε."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import atan2, lerp, sqrt


def adam_atan2(p, g, m, v, *, t, lr, beta1, beta2, a, b):
    """p, g, m, v: same shape. Returns new (p, m, v). Nothing is divided by v."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    mhat = m / (1 - beta1**t)
    vhat = v / (1 - beta2**t)
    return p - lr * a * atan2(mhat, b * sqrt(vhat)), m, v


class AdamAtan2(Optimizer):
    """Adam-atan2: the arctangent of Adam's ratio, which is bounded and needs no ε; the size of g does not matter.

    Source:
        Everett et al. 2024, "Scaling exponents across parameterizations and optimizers", arXiv:2407.05872.
    Differs:
        torch has none. Same numbers as adam-atan2-pytorch; the compiled package adam-atan2 has other defaults. a is
        about 4/π, so that a ratio of 1 is a step of η; no step is longer than a·π/2 times η. atan2(0, 0) is 0: an
        element without any gradient stays.
    Use:
        Choose it over AdamW to have no ε to tune, and steps that do not depend on the scale of the loss. Decay and
        schedule are AdamW's; the recursive models HRM and TRM are trained with it.
    """

    lr: fields.Rate = fields.lr(1e-4, 1e-4, 1e-1)
    betas: tuple[float, float] = fields.betas((0.9, 0.99))
    weight_decay: float = fields.weight_decay(0, fields.OF_WEIGHTS)
    a: float = fields.hyper(1.27, "factor of the arctangent", low=0.0)
    b: float = fields.hyper(1.0, "factor of the root of v inside the arctangent", low=0.0)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        adam_atan2, "pointwise", (State("step", "step"), State("exp_avg"), State("exp_avg_sq", nonnegative=True))
    )
