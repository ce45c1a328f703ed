"""MoMo and MoMo-Adam: momentum and Adam whose rate is bounded by how far the loss can still fall."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule, Shared
from ..vocabulary import sqrt, total, where

TINY = 2.220446049250313e-16
"""Squared norm of the average below which the step is 0."""


def momo(p, g, m, *, lr, beta, weight_decay, before, tau):
    """p, g, m: same shape; tau is the step size. Returns new (p, m). The average m starts at the first gradient."""
    new_m = averaged(g, m, beta, before)
    new_p = p / (1 + lr * weight_decay) - tau * new_m
    return where(lr > 0, new_p, p), where(lr > 0, new_m, m)


def averaged(g, m, beta, k):
    """Return the new average of gradients after k others."""
    beta = where(k > 0, beta, 0.0)
    return beta * m + (1 - beta) * g


def measured(p, g, m, *, lr, beta, k):
    """p, g, m: same shape. Returns ‖m‖² and <m, p> of the new average m, and <g, p>; zeros for a group that rests."""
    m = averaged(g, m, beta, k)
    sums = total(m * m), total(m * p), total(g * p)
    return tuple(where(lr > 0, x, 0.0) for x in sums)


def renewed(
    *, loss: float, length: float, along: float, product: float, lr: float, beta: float, lower_bound: float,
    weight_decay: float, adapt_lower_bound: bool, maximize: bool, barf: float, gamma: float, lb: float, k: int,
) -> dict[str, float]:  # fmt: skip
    """Return the averages of the loss and of <g, p>, the lower bound, and the step size τ."""
    beta = beta if k > 0 else 0.0
    barf = beta * barf + (1 - beta) * (-loss if maximize else loss)
    gamma = beta * gamma + (1 - beta) * product
    tau, lb = fitted(barf - gamma, length, along, lr, weight_decay, lb, lower_bound if adapt_lower_bound else None)
    return {"barf": barf, "gamma": gamma, "lb": lb, "k": k + 1, "before": k, "tau": tau}


def fitted(
    height: float, length: float, along: float, lr: float, weight_decay: float, lb: float, least: float | None,
    share: float = 1.0,
) -> tuple[float, float]:  # fmt: skip
    """Return the step size τ at which the averaged model of the loss falls to its bound, at most η, and the bound.

    The bound is adapted, but for ``least`` None. Averages that start at 0 are too small by the factor ``share``.
    """
    shrinking = 1 + lr * weight_decay
    cap = shrinking * height + along
    if least is not None and cap < shrinking * share * lb:
        lb = max(cap / (2 * shrinking * share), least)
    tau = min(lr / share, max(cap - shrinking * share * lb, 0.0) / length) if length > TINY else 0.0
    if least is not None:
        lb = max((height + along - tau * length / 2) / share, least)
    return tau, lb


def momo_adam(p, g, m, v, *, lr, beta1, beta2, eps, weight_decay, before, tau):
    """p, g, m, v: same shape; tau is the step size. Returns new (p, m, v)."""
    new_m, new_v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    new_p = (p - tau * new_m / metric(new_v, beta2, eps, before)) / (1 + lr * weight_decay)
    return where(lr > 0, new_p, p), where(lr > 0, new_m, m), where(lr > 0, new_v, v)


def metric(v, beta2, eps, k):
    """Return Adam's metric D = √v + ε, corrected for the start of v at 0, after k other steps."""
    return sqrt(v / (1 - beta2 ** (k + 1))) + eps


def measured_adam(p, g, m, v, *, lr, beta1, beta2, eps, k):
    """p, g, m, v: same shape. Returns <m, m/D> and <m, p> of the new averages, and <g, p>; zeros at rest."""
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    sums = total(m * m / metric(v, beta2, eps, k)), total(m * p), total(g * p)
    return tuple(where(lr > 0, x, 0.0) for x in sums)


def renewed_adam(
    *, loss: float, length: float, along: float, product: float, lr: float, beta1: float, lower_bound: float,
    weight_decay: float, adapt_lower_bound: bool, maximize: bool, barf: float, gamma: float, lb: float, k: int,
) -> dict[str, float]:  # fmt: skip
    """Return the averages of the loss and of <g, p>, the lower bound, and the step size τ."""
    barf = beta1 * barf + (1 - beta1) * (-loss if maximize else loss)
    gamma = beta1 * gamma + (1 - beta1) * product
    least, share = lower_bound if adapt_lower_bound else None, 1 - beta1 ** (k + 1)
    tau, lb = fitted(barf - gamma, length, along, lr, weight_decay, lb, least, share)
    return {"barf": barf, "gamma": gamma, "lb": lb, "k": k + 1, "before": k, "tau": tau}


def loss_model(renew: Callable[..., dict[str, float]], measure: Callable[..., tuple[Any, ...]]) -> Shared:
    """Declare the numbers of the averaged model of the loss, one for all groups."""
    return Shared(
        renew,
        {"barf": 0.0, "gamma": 0.0, "lb": "lower_bound", "k": 0},
        made=("before", "tau"),
        sums=("length", "along", "product"),
        measure=measure,
        over="all",
    )


def lower_bound() -> Any:
    """Declare the least loss."""
    return fields.hyper(0.0, "bound of the loss from below", low=-math.inf)


def adapt_lower_bound() -> Any:
    """Declare whether the least loss is estimated."""
    return fields.hyper(False, "raise the bound where it proves too low")


class MoMo(Optimizer):
    """MoMo: SGD with momentum whose rate is min(η, Polyak's), from averages of loss and gradient.

    Each step needs the loss: ``optimizer.step(loss=loss)``, or a closure that returns it. The average ``barf`` of the
    loss, that of <g, θ>, ``gamma``, the bound ``lb`` and the number of steps ``k`` are kept in each group.

    Source:
        Schaipp et al. 2024, "MoMo: momentum models for adaptive learning rates", arXiv:2305.07583, Algorithm 1.
    Differs:
        optax's contrib.momo: same numbers; there the loss is ``value``. All averages start at their first value, and
        decay divides the weights by 1 + ηλ, where the authors' package, momo-opt, divides the step too. With
        ``maximize`` the loss is negated, and so is the bound.
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
    lower_bound: float = lower_bound()
    weight_decay: float = fields.weight_decay(0.0, "decay λ, θ ← θ / (1 + ηλ)")
    adapt_lower_bound: bool = adapt_lower_bound()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    rule = Rule(momo, "pointwise", (State("exp_avg"),), shared=loss_model(renewed, measured))


class MoMoAdam(Optimizer):
    """MoMo-Adam: Adam whose rate is min(η, Polyak's) in Adam's metric, from averages of loss and gradient.

    Each step needs the loss: ``optimizer.step(loss=loss)``, or a closure that returns it. The average ``barf`` of the
    loss, that of <g, θ>, ``gamma``, the bound ``lb`` and the number of steps ``k`` are kept in each group.

    Source:
        Schaipp et al. 2024, "MoMo: momentum models for adaptive learning rates", arXiv:2305.07583, Algorithm 3.
    Differs:
        The authors' package, momo-opt: same numbers with ``lb`` for ``lower_bound`` and ``use_fstar`` for
        ``adapt_lower_bound``; all groups share one step size, where theirs have one each. optax's contrib.momo_adam:
        same numbers without decay; with it optax divides by 1 + ηλ the weights but not the step. Averages start at 0,
        and the bound and η are scaled to match. With ``maximize`` the loss is negated, and so is the bound.
    Use:
        Choose it over AdamW where the rate must not be tuned and the least loss is known: usually 0. A rate ten times
        too large is brought down.
    Caveats:
        The loss must be that of the gradients: the mean over ranks and parts of the batch, not scaled. Label smoothing
        and regularisers raise the least loss.
    """

    lr: fields.Rate = fields.lr(1e-2, 1e-4, 1.0)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    lower_bound: float = lower_bound()
    weight_decay: float = fields.weight_decay(0.0, "decay λ, θ ← θ / (1 + ηλ) after the step")
    adapt_lower_bound: bool = adapt_lower_bound()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    rule = Rule(
        momo_adam,
        "pointwise",
        (State("exp_avg"), State("exp_avg_sq", nonnegative=True)),
        shared=loss_model(renewed_adam, measured_adam),
    )
