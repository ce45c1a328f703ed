"""Prodigy: Adam whose step size is found from the distance that the weights have moved."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any

from .. import fields
from ..fields import Search, State
from ..optimizer import Optimizer
from ..rule import Rule, Shared
from ..vocabulary import absolute, sqrt, total, where


def prodigy(
    p, g, s, p0, m, v,
    *, lr, beta1, beta2, beta3, eps, weight_decay, decouple, safeguard_warmup, d0, d, d_before, bias,
):  # fmt: skip
    """p, g, s, p0, m, v: same shape. Returns new (p, s, p0, m, v); d is the new distance, d_before the last one."""
    g = g if decouple else g + weight_decay * p
    delta = d_before * lr * bias
    new_s = summed(g, s, lr, beta2, beta3, safeguard_warmup, d0, d_before, bias)
    new_m = beta1 * m + (1 - beta1) * d_before * g
    new_v = beta2 * v + (1 - beta2) * (d_before * d_before) * g * g
    p = p * (1 - delta * weight_decay) if decouple else p
    p = p - delta * new_m / (sqrt(new_v) + d * eps)
    return p, where(lr > 0, new_s, s), p0, where(lr > 0, new_m, m), where(lr > 0, new_v, v)


def summed(g, s, lr, beta2, beta3, safeguard_warmup, d0, d, bias):
    """Return the new sum of gradients s, whose length bounds the distance from below."""
    beta3 = sqrt(beta2) if beta3 is None else beta3
    return beta3 * s + d / d0 * d * (1.0 if safeguard_warmup else lr * bias) * g


def measured(
    p, g, s, p0, m, v,
    *, lr, beta1, beta2, beta3, weight_decay, decouple, safeguard_warmup, use_bias_correction, d0, d, k,
):  # fmt: skip
    """p, g, s, p0, m, v: same shape. Returns <g, p0 - p> and the sum of the new |s|, 0 with a rate of 0."""
    g = g if decouple else g + weight_decay * p
    bias = corrected(k, beta1, beta2, use_bias_correction)
    s = summed(g, s, lr, beta2, beta3, safeguard_warmup, d0, d, bias)
    return where(lr > 0, total(g * (p0 - p)), 0.0), where(lr > 0, total(absolute(s)), 0.0)


def corrected(k, beta1, beta2, use_bias_correction):
    """Return Adam's factor of the rate for the start at zero, at the step after k others."""
    return sqrt(1 - beta2 ** (k + 1)) / (1 - beta1 ** (k + 1)) if use_bias_correction else 1.0


def renewed(
    *, moved: float, length: float, lr: float, beta1: float, beta2: float, beta3: float | None, d0: float,
    d_coef: float, growth_rate: float | None, use_bias_correction: bool, d: float, d_max: float, d_numerator: float,
    k: int,
) -> dict[str, Any] | None:  # fmt: skip
    """Return the new estimate d of the distance to a solution; None while every gradient has been 0."""
    if length == 0:
        return None
    bias = corrected(k, beta1, beta2, use_bias_correction)
    beta3 = math.sqrt(beta2) if beta3 is None else beta3
    numerator = beta3 * d_numerator + d / d0 * d * lr * bias * moved
    d_hat = d_coef * numerator / length
    grown = max(d, d_hat) if d == d0 else d
    d_max = max(d_max, d_hat)
    d_new = d_max if growth_rate is None else min(d_max, grown * growth_rate)
    kept = {"d": d_new, "d_max": d_max, "d_numerator": numerator, "d_hat": d_hat, "k": k + 1}
    return {**kept, "d_before": d, "bias": bias}


class Prodigy(Optimizer):
    """Prodigy: AdamW without a learning rate to tune, its steps scaled by an estimate of the distance to a solution.

    The estimate ``d`` only grows. It is one number for all groups, kept in each as ``d``, with ``d_max``,
    ``d_numerator``, ``d_hat`` and the number of steps ``k``.

    Source:
        Mishchenko and Defazio 2024, "Prodigy: an expeditiously adaptive parameter-free learner", arXiv:2306.06101,
        Algorithm 4, in the form of the authors' package prodigyopt.
    Differs:
        prodigyopt: same numbers with slice_p=1; the sum s has the parameter's shape, p0 is never one zero, and a group
        whose rate becomes 0 rests altogether. The paper's Algorithm 4 has no bound on the growth and no rule for d0,
        and corrects the averages. optax always corrects. pytorch_optimizer takes the rate of the first group and the
        step count before it grows. Clipping gradients makes d too large, as in every package.
    Use:
        Choose it over `AdamW` where no rate can be tuned: LoRA and diffusion models. Keep lr=1 and sweep ``d_coef``;
        for diffusion models set ``use_bias_correction`` and ``safeguard_warmup``.
    Caveats:
        d never falls, so that one spike of it is for good; schedules that restart break it.
    """

    lr: fields.Rate = fields.rate_factor("factor η of the steps, for schedules; groups may differ in it only by 0")
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    beta3: float | None = fields.hyper(
        None, "decay rate of the sums in the estimate; None: √β2", low=0.0, high=1.0, is_decay=True, candidates=(0.9,)
    )
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay(0.0, "decay λ of the weights, θ ← θ - δλθ with the step size δ = d·η")
    decouple: bool = fields.hyper(True, "decay the weights themselves; False: add λθ to the gradient")
    use_bias_correction: bool = fields.hyper(False, "correct Adam's averages for their start at zero")
    safeguard_warmup: bool = fields.hyper(False, "leave η out of the sum s, so that a warm-up does not inflate d")
    d0: float = fields.hyper(1e-6, "first estimate of the distance", low=0.0, exclusive_low=True)
    d_coef: float = fields.hyper(
        1.0, "factor of the estimate", low=0.0, exclusive_low=True, search=Search(0.5, 2.0, "log")
    )
    growth_rate: float | None = fields.growth_rate()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    rule = Rule(
        prodigy,
        "pointwise",
        (
            State("s", exact=True),
            State("p0", init="param", exact=True),
            State("exp_avg"),
            State("exp_avg_sq", nonnegative=True),
        ),
        shared=Shared(
            renewed,
            {"d": "d0", "d_max": "d0", "d_numerator": 0.0, "d_hat": "d0", "k": 0},
            made=("d_before", "bias"),
            sums=("moved", "length"),
            measure=measured,
            over="all",
        ),
    )
