"""Adan: Adam with an average of the gradients' differences."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, sqrt


def adan(p, g, m, n, v, g_neg, *, t, lr, beta1, beta2, beta3, eps, weight_decay, prox, first):
    """p, g, m, n, v, g_neg: same shape; g_neg is minus the last g. Returns new (p, m, n, v, g_neg)."""
    d = 0.0 if first else g + g_neg
    x = g + beta2 * d
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * d
    n = beta3 * n + (1 - beta3) * x * x
    u = (m / (1 - beta1**t) + beta2 / (1 - beta2**t) * v) / (sqrt(n / (1 - beta3**t)) + eps)
    shrink = lr * weight_decay
    p = (p - lr * u) / (1 + shrink) if prox else (1 - shrink) * p - lr * u
    return p, m, n, v, -g


class Adan(Optimizer):
    """Adan: Nesterov's momentum without a second gradient: averages of g, of g - g_old and of (g + β2(g - g_old))².

    Source:
        Xie et al. 2022, "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models",
        arXiv:2208.06677, Algorithm 1.
    Differs:
        torch has none. Same numbers as the authors' code and timm: βs are 1 - those of the paper, averages are
        corrected, ε is outside the root, and nothing is restarted. optax's adan weighs the difference by 1 - β2. The
        last gradient is a copy, so gradients may be set to 0 in place. Decay is proximal, (θ - ηu)/(1 + ηλ); with
        ``prox=False`` (1 - ηλ)θ - ηu (no_prox in the authors' code). Their ``max_grad_norm`` is ``max_norm``.
    Use:
        Choose it over AdamW where others do: in vision, and in super-resolution by diffusion. Start from 2 to 10 times
        AdamW's η. For fine-tuning language models take 2 to 4 times, with λ = 0.005 (Adan #43).
    """

    lr: fields.Rate = fields.lr(1e-3, 3e-4, 1e-1)
    betas: tuple[float, float, float] = fields.betas(
        (0.98, 0.92, 0.99), "decay rates of the averages of g, of its differences and of the square"
    )
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay(0, "decay λ of the weights themselves", 0.005, 0.1)
    prox: bool = fields.hyper(True, "decay by the division (θ - ηu) / (1 + ηλ), and not by the product (1 - ηλ)θ")
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()

    rule = Rule(
        adan,
        "pointwise",
        (
            State("step", "step"),
            State("exp_avg"),
            State("exp_avg_sq", nonnegative=True),
            State("exp_avg_diff"),
            State("neg_pre_grad"),
        ),
    )
