"""Grams: the size of Adam's step in the direction of the gradient."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import absolute, lerp, sign, sqrt


def grams(p, g, m, v, *, t, lr, beta1, beta2, eps):
    """p, g, m, v: same shape. Returns new (p, m, v). Where g is 0, p stays."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    mhat = m / (1 - beta1**t)
    vhat = v / (1 - beta2**t)
    u = absolute(mhat) / (sqrt(vhat) + eps)
    return p - lr * sign(g) * u, m, v


class Grams(Optimizer):
    """Grams: θ ← θ - η sign(g) |u|, where u is Adam's step: momentum says how far, the gradient says which way.

    Source:
        Cao et al. 2024, "Grams: gradient descent with adaptive momentum scaling", arXiv:2412.17107, Algorithm 1.
    Differs:
        torch has none. ε is added to the corrected root, as in torch's Adam and pytorch_optimizer; the official code
        adds it before the correction. The official code also writes into the gradients. Decay is decoupled, as there.
        Sign of a complex gradient is by parts.
    Use:
        Choose it over AdamW where its momentum disagrees with the gradient too often; compare it with AdamW and
        ``cautious=True``.
    Caveats:
        Testers found it worse than the plain and the cautious rule (OneTrainer). The option ``cautious`` is pointless
        here, since signs agree already.
    """

    lr: fields.Rate = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-6)
    weight_decay: float = fields.weight_decay()
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(grams, "pointwise", (State("step", "step"), State("exp_avg"), State("exp_avg_sq", nonnegative=True)))
