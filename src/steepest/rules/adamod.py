"""AdaMod: Adam whose rates are bounded by their own average."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, minimum, sqrt


def adamod(p, g, m, v, a, *, t, lr, beta1, beta2, beta3, eps):
    """p, g, m, v, a: same shape; a is the average of the rates k. Returns new (p, m, v, a)."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    eta = lr * sqrt(1 - beta2**t) / (1 - beta1**t)
    k = eta / (sqrt(v) + eps)
    a = beta3 * a + (1 - beta3) * k
    return p - minimum(k, a) * m, m, v, a


class AdaMod(Optimizer):
    """AdaMod: Adam with the rate of every coordinate bounded by a long average of itself, so that none jumps.

    Source:
        Ding et al. 2019, "An adaptive and momental bound method for stochastic learning", arXiv:1910.12249.
    Differs:
        torch has none. As in the paper the average of the rates starts at 0 and is not corrected: the first step is
        (1 - β₃)η long, a warm-up of its own. ε is added before v is corrected, as in the official code. β₃ = 0.999 is
        its default; pytorch_optimizer has 0.9999, and 0.99 for β₂. Decay is decoupled, as in both.
    """

    lr: fields.Rate = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    beta3: float = fields.hyper(
        0.999, "decay rate of the average of the rates", low=0.0, high=1.0, is_decay=True, candidates=(0.9, 0.99)
    )
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        adamod,
        "pointwise",
        (
            State("step", "step"),
            State("exp_avg"),
            State("exp_avg_sq", nonnegative=True),
            State("exp_avg_lr", nonnegative=True),
        ),
    )
