"""MoMo: momentum whose rate is bounded by how far the loss can still fall."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule, Shared
from ..vocabulary import total, where

TINY = 2.220446049250313e-16
"""Squared norm of the average below which the step is 0."""


def momo(p, g, m, *, lr, beta, weight_decay, before, tau):
    """p, g, m: same shape; tau is the step size. Returns new (p, m). The average m starts at the first gradient."""
    m = averaged(g, m, beta, before)
    return p / (1 + lr * weight_decay) - tau * m, m


def averaged(g, m, beta, k):
    """Return the new average of gradients after k others."""
    beta = where(k > 0, beta, 0.0)
    return beta * m + (1 - beta) * g


def measured(p, g, m, *, beta, k):
    """p, g, m: same shape. Returns ‖m‖² and <m, p> of the new average m, and <g, p>."""
    m = averaged(g, m, beta, k)
    return total(m * m), total(m * p), total(g * p)


def renewed(
    *, loss: float, length: float, along: float, product: float, lr: float, beta: float, lower_bound: float,
    weight_decay: float, adapt_lower_bound: bool, maximize: bool, barf: float, gamma: float, lb: float, k: int,
) -> dict[str, float]:  # fmt: skip
    """Return the averages of the loss and of <g, p>, the lower bound, and the step size τ."""
    beta = beta if k > 0 else 0.0
    barf = beta * barf + (1 - beta) * (-loss if maximize else loss)
    gamma = beta * gamma + (1 - beta) * product
    shrinking = 1 + lr * weight_decay
    cap = shrinking * (barf - gamma) + along
    if adapt_lower_bound and cap < shrinking * lb:
        lb = max(cap / (2 * shrinking), lower_bound)
    tau = min(lr, max(cap - shrinking * lb, 0.0) / length) if length > TINY else 0.0
    if adapt_lower_bound:
        lb = max(barf + along - gamma - tau * length / 2, lower_bound)
    return {"barf": barf, "gamma": gamma, "lb": lb, "k": k + 1, "before": k, "tau": tau}


class MoMo(Optimizer):
    """MoMo: SGD with momentum whose rate is min(η, Polyak's), from averages of loss and gradient.

    Each step needs the loss: ``optimizer.step(loss=loss)``, or a closure that returns it. The average ``barf`` of the
    loss, that of <g, θ>, ``gamma``, the bound ``lb`` and the number of steps ``k`` are kept in each group.

    Source:
        Schaipp et al. 2024, "MoMo: momentum models for adaptive learning rates", arXiv:2305.07583, Algorithm 1.
    Differs:
        optax's contrib.momo: same numbers; there the loss is ``value``. All averages start at their first value, and
        decay divides the weights by 1 + ηλ. With ``maximize`` the loss is negated, and so is the bound.
    Use:
        Choose it over SGD with momentum where a large η must be safe and the least loss is known: usually 0.
    Caveats:
        The loss must be that of the gradients: the mean over ranks and parts of the batch, not scaled. Label smoothing
        and regularisers raise the least loss.
    """

    lr: fields.Rate = fields.lr(1.0, 1e-2, 10.0)
    beta: float = fields.hyper(
        0.9,
        "decay rate of the averages",
        low=0.0,
        high=1.0,
        is_decay=True,
        search=fields.Search(0.01, 0.5, complement=True),
    )
    lower_bound: float = fields.hyper(0.0, "bound of the loss from below", low=-math.inf)
    weight_decay: float = fields.weight_decay(0.0, "decay λ, θ ← θ / (1 + ηλ)")
    adapt_lower_bound: bool = fields.hyper(False, "raise the bound where it proves too low")
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    rule = Rule(
        momo,
        "pointwise",
        (State("exp_avg"),),
        shared=Shared(
            renewed,
            {"barf": 0.0, "gamma": 0.0, "lb": "lower_bound", "k": 0},
            made=("before", "tau"),
            sums=("length", "along", "product"),
            measure=measured,
            over="all",
        ),
    )
