"""Aggregated momentum: several momenta at once."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule


def aggmo(p, g, v1, v2, v3, *, lr, beta1, beta2, beta3):
    """p, g, v1, v2, v3: same shape. Returns new (p, v1, v2, v3)."""
    v1 = g + beta1 * v1
    v2 = g + beta2 * v2
    v3 = g + beta3 * v3
    return p - lr / 3 * (v1 + v2 + v3), v1, v2, v3


class AggMo(Optimizer):
    """Aggregated momentum: the mean of three momenta, the fast ones against the oscillations of the slow.

    Source:
        Lucas et al. 2018, "Aggregated momentum: stability through passive damping", arXiv:1804.00325.
    Differs:
        torch has none. Same numbers as the authors' code with its default of three βs, 1 - 0.1^i; another number of βs
        needs a rule with as many buffers. Each buffer is a tensor of its own in the state; the authors' code keeps them
        in one dictionary by the value of β. Buffers are sums, as in SGD.
    """

    lr: fields.Rate = fields.lr(1e-3, 1e-3, 1.0)
    betas: tuple[float, float, float] = fields.betas(
        (0.0, 0.9, 0.99), "momentum factors of the three buffers", search=None
    )
    weight_decay: float = fields.weight_decay()
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(aggmo, "pointwise", tuple(State(f"momentum_buffer_{number}") for number in (1, 2, 3)))
