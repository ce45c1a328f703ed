"""AdaBound: Adam whose rates are bounded, ever closer, by those of SGD."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Search, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, maximum, minimum, sqrt, where


def adabound(p, g, m, v, vmax, *, t, lr, beta1, beta2, eps, final_lr, gamma, base_lr):
    """p, g, m, v, vmax: same shape; vmax is None without amsbound. Returns new (p, m, v, vmax).

    Both bounds follow the schedule of the rate, lr / base_lr. A base_lr of 0 counts as lr.
    """
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    if vmax is not None:
        vmax = maximum(vmax, v)
    base = where(base_lr > 0, base_lr, where(lr > 0, lr, 1.0))
    final = final_lr * lr / base
    low = final * (1 - 1 / (gamma * t + 1))
    high = final * (1 + 1 / (gamma * t))
    eta = lr * sqrt(1 - beta2**t) / (1 - beta1**t)
    k = minimum(maximum(eta / (sqrt(v if vmax is None else vmax) + eps), low), high)
    return p - k * m, m, v, vmax


class AdaBound(Optimizer):
    """AdaBound: Adam at first; the rate of every coordinate is then bound to an interval that shrinks to SGD's rate.

    Source:
        Luo et al. 2019, "Adaptive gradient methods with dynamic bound of learning rate", arXiv:1902.09843.
    Differs:
        torch has none. Bounds, corrections and ε before the correction are as in the official code: the paper's bounds
        hold 1 - β₂ in place of γ, and its rate falls as 1/√t. The official code keeps the first rate in a list outside
        of groups and state, where copies and new groups lose it, and divides by it: here ``base_lr`` is an option of
        the group. AMSBound keeps the maximum of the uncorrected v. Decay is coupled, as in the official code.
    Use:
        Choose it to begin with steps like Adam's and to end with SGD's. Search ``final_lr`` from 0.01 to 10.
    Caveats:
        It is here for its reputation: we know of no independent evidence for it.
    """

    lr: fields.Rate = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    final_lr: float = fields.hyper(0.1, "rate of SGD that all rates approach", low=0.0, search=Search(1e-2, 10.0))
    gamma: float = fields.hyper(
        1e-3, "speed γ with which the bounds close", low=0.0, exclusive_low=True, search=Search(1e-4, 1e-2)
    )
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    amsbound: bool = fields.hyper(False, "divide by the largest v so far, so that rates never grow")
    base_lr: float | None = fields.hyper(
        None, "learning rate that final_lr belongs to; None: the group's lr when it is made", low=0.0, default_from="lr"
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
        adabound,
        "pointwise",
        (
            State("step", "step"),
            State("exp_avg"),
            State("exp_avg_sq", nonnegative=True),
            State("max_exp_avg_sq", when=lambda o: o["amsbound"], nonnegative=True),
        ),
    )
