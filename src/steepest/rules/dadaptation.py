"""D-Adaptation: SGD and Adam whose step size is found from a lower bound on the distance to a solution."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule, Shared
from ..vocabulary import absolute, sqrt, total, where
from .prodigy import corrected


def dadapt_adam(p, g, s, m, v, *, lr, beta1, beta2, eps, weight_decay, decouple, delta):
    """p, g, s, m, v: same shape; delta is the step size d·η of before. Returns new (p, s, m, v)."""
    g = g if decouple else g + weight_decay * p
    new_s = averaged(g, s, beta2, delta)
    new_m = beta1 * m + (1 - beta1) * delta * g
    new_v = beta2 * v + (1 - beta2) * g * g
    new_p = (p * (1 - delta * weight_decay) if decouple else p) - new_m / (sqrt(new_v) + eps)
    active = lr > 0
    return where(active, new_p, p), where(active, new_s, s), where(active, new_m, m), where(active, new_v, v)


def averaged(g, s, beta2, delta):
    """Return the new average s of gradients, each times its step size."""
    return sqrt(beta2) * s + (1 - sqrt(beta2)) * delta * g


def measured_adam(p, g, s, m, v, *, lr, beta1, beta2, eps, weight_decay, decouple, use_bias_correction, d, k):
    """p, g, s, m, v: same shape. Returns <g, s/(√v + eps)> with the old s and v, and the sum of the new |s|."""
    g = g if decouple else g + weight_decay * p
    s_new = averaged(g, s, beta2, d * lr * corrected(k, beta1, beta2, use_bias_correction))
    along, length = total(g * (s / (sqrt(v) + eps))), total(absolute(s_new))
    return where(lr > 0, along, 0.0), where(lr > 0, length, 0.0)


def renewed_adam(
    *, along: float, length: float, lr: float, beta1: float, beta2: float, growth_rate: float | None,
    use_bias_correction: bool, d: float, numerator_weighted: float, k: int,
) -> dict[str, Any] | None:  # fmt: skip
    """Return the new estimate d; None while every gradient has been 0."""
    if length == 0:
        return None
    delta = d * lr * corrected(k, beta1, beta2, use_bias_correction)
    root = math.sqrt(beta2)
    numerator = root * numerator_weighted + (1 - root) * delta * along
    d_hat = numerator / ((1 - root) * length)
    return {"d": larger(d, d_hat, growth_rate), "numerator_weighted": numerator, "k": k + 1, "delta": delta}


def larger(d: float, d_hat: float, growth_rate: float | None) -> float:
    """Return the estimate d, raised to d_hat by no more than the growth rate."""
    return max(d, d_hat if growth_rate is None else min(d_hat, d * growth_rate))


def dadapt_sgd(p, g, s, x0, *, lr, momentum, weight_decay, delta):
    """p, g, s, x0: same shape; delta is the step size. Returns new (p, s, x0); p averages the dual averaging points."""
    new_s = s + delta * (g + weight_decay * p)
    return where(lr > 0, momentum * p + (1 - momentum) * (x0 - new_s), p), where(lr > 0, new_s, s), x0


def measured_sgd(p, g, s, x0, *, lr, weight_decay):
    """p, g, s, x0: same shape. Returns ‖g‖², <g, s> and ‖s‖² with the old s, where g has its decay."""
    g = g + weight_decay * p
    sums = total(g * g), total(g * s), total(s * s)
    return tuple(where(lr > 0, x, 0.0) for x in sums)


def renewed_sgd(
    *, square: float, along: float, length: float, lr: float, growth_rate: float | None,
    d: float, numerator_weighted: float, g0_norm: float, k: int,
) -> dict[str, Any] | None:  # fmt: skip
    """Return the new estimate d; None while every gradient has been 0."""
    g0_norm = math.sqrt(square) if g0_norm == 0 else g0_norm
    delta = d * lr / g0_norm if g0_norm else 0.0
    new_length = math.sqrt(max(length + 2 * delta * along + delta * delta * square, 0.0))
    if new_length == 0:
        return None
    numerator = numerator_weighted + delta * along
    kept = {"numerator_weighted": numerator, "g0_norm": g0_norm, "k": k + 1}
    return {"d": larger(d, 2 * numerator / new_length, growth_rate), **kept, "delta": delta}


D0 = "first estimate of the distance; a lower bound of it"
"""Meaning of ``d0``."""


class DAdaptAdam(Optimizer):
    """D-Adaptation for Adam: its rate is a lower bound, which only grows, on the distance to a solution.

    The bound ``d`` is one number for all groups, kept in each as ``d``, with ``numerator_weighted`` and ``k``.

    Source:
        Defazio and Mishchenko 2023, "Learning-rate-free learning by D-Adaptation", arXiv:2301.07733, Algorithm 5, in
        the form of the authors' package dadaptation.
    Differs:
        dadaptation 3.2: same numbers, without layer_scale; a group whose rate becomes 0 rests altogether. The bound
        weighs by the v of before the step. Decay is coupled unless ``decouple=True``. optax's dadapt_adamw always
        corrects the averages, and decouples the decay: ``use_bias_correction=True, decouple=True``.
    Use:
        Choose it to repeat a result. `Prodigy` is by the same authors, and finds the size of the steps sooner.
    Caveats:
        d never falls, so that one spike of it is for good.
    """

    lr: fields.Rate = fields.rate_factor("factor η of the steps, for schedules; groups may differ in it only by 0")
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    decouple: bool = fields.hyper(False, "decay the weights themselves, θ ← θ - dηλθ; False: add λθ to the gradient")
    use_bias_correction: bool = fields.hyper(False, "correct Adam's averages for their start at zero")
    d0: float = fields.hyper(1e-6, D0, low=0.0, exclusive_low=True)
    growth_rate: float | None = fields.growth_rate()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    rule = Rule(
        dadapt_adam,
        "pointwise",
        (State("s"), State("exp_avg"), State("exp_avg_sq", nonnegative=True)),
        shared=Shared(
            renewed_adam,
            {"d": "d0", "numerator_weighted": 0.0, "k": 0},
            made=("delta",),
            sums=("along", "length"),
            measure=measured_adam,
            over="all",
        ),
    )


class DAdaptSGD(Optimizer):
    """D-Adaptation for SGD: dual averaging whose rate is a lower bound, which only grows, on the distance.

    The bound ``d`` is one number for all groups, kept in each as ``d``, with ``numerator_weighted``, the norm
    ``g0_norm`` of the first gradient, and ``k``.

    Source:
        Defazio and Mishchenko 2023, "Learning-rate-free learning by D-Adaptation", arXiv:2301.07733, Algorithm 4, in
        the form of the authors' package dadaptation.
    Differs:
        dadaptation 3.2: same numbers without decay; with decay its norm of the first gradient leaves out λθ, by an
        addition that is lost. z is not kept, since it is x0 - s. A group whose rate becomes 0 rests altogether, and a
        first gradient of 0 waits for another: dadaptation divides by 0. The paper's sums are not weighed by momentum.
    Use:
        Choose it over SGD where no rate can be tuned; `DoG` needs no estimate of the first gradient's norm.
    Caveats:
        d never falls, and the norm of the first gradient scales all steps. Where later gradients are many times as
        large, as from a flat start above steep walls, the steps diverge although d is below the distance: set ``lr``
        below 1, as 0.1.
    """

    lr: fields.Rate = fields.rate_factor("factor η of the steps, for schedules; groups may differ in it only by 0")
    momentum: float = fields.hyper(
        0.0, "weight μ of the old point in the average of points", low=0.0, high=1.0, is_decay=True, candidates=(0.9,)
    )
    weight_decay: float = fields.weight_decay()
    d0: float = fields.hyper(1e-6, D0, low=0.0, exclusive_low=True)
    growth_rate: float | None = fields.growth_rate()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    rule = Rule(
        dadapt_sgd,
        "pointwise",
        (State("s", exact=True), State("x0", init="param", exact=True)),
        shared=Shared(
            renewed_sgd,
            {"d": "d0", "numerator_weighted": 0.0, "g0_norm": 0.0, "k": 0},
            made=("delta",),
            sums=("square", "along", "length"),
            measure=measured_sgd,
            over="all",
        ),
    )
