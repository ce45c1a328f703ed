"""Adamax: Adam under the infinity norm."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, maximum


def adamax(p, g, m, u, *, t, lr, beta1, beta2, eps, eps_in_max):
    """p, g, m, u: same shape. Returns new (p, m, u)."""
    m = lerp(m, g, 1 - beta1)
    u = maximum(beta2 * u, abs(g) + eps if eps_in_max else abs(g))
    d = u if eps_in_max else u + eps
    return p - lr / (1 - beta1**t) * m / d, m, u


class Adamax(Optimizer):
    """Adamax: Adam with an exponentially weighted maximum of |g| in place of the root of v.

    Source:
        Kingma and Ba 2015, arXiv:1412.6980, section 7.1, Algorithm 2.
    Differs:
        torch: same numbers. The paper has no ε; torch and optax add it to |g| inside the maximum, as here; Keras adds
        it to u at the division, ``eps_in_max=False``. Decay is coupled, as in torch; Keras and optax's adamaxw decouple
        it.
    """

    lr: fields.Rate = fields.lr(2e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999), "decay of the average of g and of the maximum of |g|")
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    foreach: bool | None = fields.foreach()
    _: KW_ONLY
    maximize: bool = fields.maximize()
    differentiable: bool = fields.differentiable()
    capturable: bool = fields.capturable()
    fused: bool | None = fields.fused()
    eps_in_max: bool = fields.hyper(True, "add ε to |g| inside the maximum, and not to u at the division")
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(adamax, "pointwise", (State("step", "step"), State("exp_avg"), State("exp_inf", nonnegative=True)))
