"""MARS: AdamW on gradients that are corrected by how they change."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Search, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, maximum, norm, sqrt


def mars(p, g, m, v, h, *, t, lr, beta1, beta2, eps, gamma, initial_last_grad, first):
    """p, g, m, v, h: same shape; h is the gradient of the step before. Returns new (p, m, v, h)."""
    if first and initial_last_grad == "gradient":
        h = g
    d = g + gamma * beta1 / (1 - beta1) * (g - h)
    c = d / maximum(norm(d), 1)
    m = lerp(m, c, 1 - beta1)
    v = beta2 * v + (1 - beta2) * c * c
    mhat = m / (1 - beta1**t)
    vhat = v / (1 - beta2**t)
    return p - lr * mhat / (sqrt(vhat) + eps), m, v, g


class MARS(Optimizer):
    """MARS-AdamW: AdamW on c = g + γβ₁/(1 - β₁)(g - last g), a gradient of less variance, clipped to norm 1 by tensor.

    Source:
        Yuan et al. 2024, "MARS: unleashing the power of variance reduction for training large models",
        arXiv:2411.10438, Algorithm 2 with the approximate gradient correction.
    Differs:
        torch has none. The last gradient is that of the last batch at the last weights, as in all code; exact MARS
        evaluates the new batch there. It is kept as a copy: the official code keeps the gradient itself, and gradients
        zeroed in place turn it into AdamW. Before the first step it is 0, as in the official code;
        ``first="gradient"`` takes the first gradient, as timm does. Every tensor is corrected and clipped;
        official code gives all but matrices to AdamW, with options of their own.
    Use:
        Choose it over AdamW for pretraining: it was among the best three of a language-model benchmark
        (arXiv:2509.01440). Start from three times AdamW's η.
    Caveats:
        Gains over AdamW shrink as models grow: see `AdamW`.
    """

    lr: fields.Rate = fields.lr(3e-3, 5e-4, 1e-1)
    betas: tuple[float, float] = fields.betas((0.95, 0.99), "decay rates of the averages of c and of c²")
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    gamma: float = fields.hyper(0.025, "scale γ of the correction", low=0.0, search=Search(1e-2, 1e-1))
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    first: str = fields.hyper(
        "zero",
        "the last gradient before the first step: 0, or the first one",
        choices=("zero", "gradient"),
        names=("initial_last_grad",),
    )
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        mars,
        "per_tensor",
        (State("step", "step"), State("exp_avg"), State("exp_avg_sq", nonnegative=True), State("last_grad")),
    )
