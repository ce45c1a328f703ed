"""AdamS: Adam whose momentum is also its normaliser."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, sqrt


def adams(p, g, m, *, lr, beta1, beta2, eps):
    """p, g, m: same shape. Returns new (p, m). The denominator reads the momentum of the step before."""
    d = sqrt(beta2 * m * m + (1 - beta2) * g * g) + eps
    m = lerp(m, g, 1 - beta1)
    return p - lr * m / d, m


class AdamS(Optimizer):
    """AdamS: Adam with β₂m² + (1 - β₂)g² in place of the second moment, so that momentum is its only state.

    Source:
        Zhang et al. 2025, "AdamS: momentum itself can be a normalizer for LLM pretraining and post-training",
        arXiv:2505.16363.
    Differs:
        torch has none, and no package that we know of has this rule: pytorch_optimizer's AdamS is another method,
        stable weight decay. Nothing is corrected for its start at zero, as in the paper: the first step has length
        η(1 - β₁)/√(1 - β₂), 0.45η at the defaults. AdamW's learning rates and decay suit it.
    Use:
        Choose it over AdamW for half of its state; published runs reach 13 billion parameters.
    """

    lr: fields.Rate = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.95), "decay rate of the momentum, and weight of its square")
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(adams, "pointwise", (State("exp_avg"),))
