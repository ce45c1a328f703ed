"""Adadelta: steps whose units match the parameter's, from two running root mean squares."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import sqrt


def adadelta(p, g, s, d, *, lr, rho, eps):
    """p, g, s, d: same shape. Returns new (p, s, d). u is formed with the old d, as in Algorithm 1."""
    s = rho * s + (1 - rho) * g * g
    u = sqrt(d + eps) / sqrt(s + eps) * g
    d = rho * d + (1 - rho) * u * u
    return p - lr * u, s, d


class Adadelta(Optimizer):
    """Adadelta: the ratio of two running root mean squares replaces the learning rate.

    Source:
        Zeiler 2012, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701, Algorithm 1.
    Differs:
        torch: same numbers; it and we add η (the paper has none: lr = 1). ε is under both roots everywhere. Keras:
        η = 0.001, ρ = 0.95, ε = 1e-7, decay always decoupled. optax couples it, as torch does.
    """

    lr: fields.Rate = fields.lr(1.0, 1e-2, 10.0)
    rho: float = fields.hyper(
        0.9,
        "decay of both averages",
        low=0.0,
        high=1.0,
        inclusive_high=True,
        search=fields.Search(1e-3, 0.3, complement=True),
        is_decay=True,
    )
    eps: float = fields.eps(1e-6)
    weight_decay: float = fields.weight_decay()
    foreach: bool | None = fields.foreach()
    _: KW_ONLY
    capturable: bool = fields.capturable()
    maximize: bool = fields.maximize()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        adadelta,
        "pointwise",
        (State("step", "step"), State("square_avg", nonnegative=True), State("acc_delta", nonnegative=True)),
    )
