"""ASGD: gradient descent whose average over the steps is the answer."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Search, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, maximum


def asgd(p, g, eta, mu, ax, *, t, lr, lambd, alpha, t0):
    """p, g, ax: same shape; eta, mu: numbers, which this step uses as the last one left them.

    Returns new (p, eta, mu, ax).
    """
    p = (1 - lambd * eta) * p - eta * g
    ax = lerp(ax, p, mu)
    eta = lr / (1 + lambd * lr * t) ** alpha
    mu = 1 / maximum(1, t - t0)
    return p, eta, mu, ax


class ASGD(Optimizer):
    """ASGD: descent at a rate that falls slowly, and from step t0 on ``state["ax"]``, the average of the weights.

    Source:
        Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"; the falling rate and the
        decay lambd as in Bottou's stochastic gradient code.
    Differs:
        torch: same numbers. As in torch a step uses the rate that the step before has computed, so a new lr acts one
        step late; the first step uses the lr that was there when the state was made. While mu is 1, up to step t0 + 2,
        ``ax`` is a copy of the weights, bit for bit; infinite weights, which torch copies unless ``capturable``, make
        it NaN at once. The rule never reads ``ax``: use it in the model's place.
    """

    lr: fields.Rate = fields.lr(1e-2, 1e-4, 10.0)
    lambd: float = fields.hyper(1e-4, "decay term λ: of the weights, and of the rate", search=Search(1e-6, 1e-1))
    alpha: float = fields.hyper(
        0.75, "power with which the rate falls, η / (1 + ληt)^α", search=Search(0.5, 1.0, "linear")
    )
    t0: float = fields.hyper(1e6, "step at which averaging begins", candidates=(0.0,))
    weight_decay: float = fields.weight_decay()
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    differentiable: bool = fields.differentiable()
    capturable: bool = fields.capturable()
    _: KW_ONLY
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        asgd,
        "pointwise",
        (State("step", "step"), State("eta", "scalar", init="lr"), State("mu", "scalar", init=1.0), State("ax")),
    )
