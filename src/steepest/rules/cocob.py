"""COCOB: every coordinate bets its gains on the sign of the next gradient."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import absolute, maximum


def cocob(p, g, theta, G, L, R, p0, *, lr, alpha, weight_decay):
    """p, g, theta, G, L, R, p0: same shape. Returns new (p, theta, G, L, R, p0). R is the gain, θ the sum of -g."""
    g = g + weight_decay * p
    L = maximum(L, absolute(g))
    G = G + absolute(g)
    R = maximum(R - g * (p - p0), 0.0)
    theta = theta - g
    return p0 + lr * theta / (L * maximum(G + L, alpha * L)) * (L + R), theta, G, L, R, p0


class COCOB(Optimizer):
    """COCOB: coin betting by coordinate, without a rate; a step is a part of the gain so far.

    Source:
        Orabona and Tommasi 2017, "Training deep networks without learning rates through coin betting",
        arXiv:1705.07795, Algorithm 2.
    Differs:
        parameterfree and optax's contrib.cocob: same numbers. Here ``lr`` is a factor of the way from the start, which
        is 1 in the paper; optax multiplies the gradient by its rate, which changes nothing. The gain is of coordinate
        steps from the start θ0, so decay is coupled.
    Use:
        Choose it where nothing can be tuned and the gradients of coordinates differ much.
    Caveats:
        It keeps five tensors for each parameter.
    """

    lr: fields.Rate = fields.rate_factor("factor η of the way from the start; keep 1")
    alpha: float = fields.hyper(
        100.0, "number α of steps, about, over which bets are small", low=0.0, search=fields.Search(10.0, 1000.0)
    )
    eps: float = fields.hyper(1e-8, "first bound ε of the gradient's size", low=0.0, exclusive_low=True)
    weight_decay: float = fields.weight_decay()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    takes_schedule = False
    rule = Rule(
        cocob,
        "pointwise",
        (
            State("sum_negative_gradients"),
            State("grad_norm_sum", nonnegative=True),
            State("L", init="eps", nonnegative=True),
            State("reward", nonnegative=True),
            State("x0", init="param", exact=True),
        ),
    )
