"""StableAdamW: AdamW with the update clipping of Adafactor."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import maximum, rms, sqrt


def stable_adamw(p, g, m, v, *, t, lr, beta1, beta2, eps, weight_decay):
    """p, g, m, v: same shape; m and v hold corrected averages. Returns new (p, m, v)."""
    beta1 = (beta1 - beta1**t) / (1 - beta1**t)
    beta2 = (beta2 - beta2**t) / (1 - beta2**t)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    eta = lr / maximum(1, rms(g / maximum(sqrt(v), eps)))
    return p * (1 - eta * weight_decay) - eta * m / (sqrt(v) + eps), m, v


class StableAdamW(Optimizer):
    """StableAdamW: AdamW whose rate falls, tensor by tensor, while gradients are larger than their average foretold.

    Source:
        Wortsman et al. 2023, "Stable and low-precision training for large-scale vision-language models",
        arXiv:2304.13013, Algorithm 2.
    Differs:
        torch has none. As in the paper and optimi, the averages are kept corrected, by rates β̂ = (β - β^t)/(1 - β^t):
        AdamW's checkpoints hold other values. The lowered rate scales the decay too, as in the paper, optimi and
        pytorch_optimizer; timm decays by the whole rate. ε bounds √v from below in RMS and is added to it in the step.
        Clipping gradients in addition (``max_norm``) is not needed.
    Use:
        Choose it over AdamW with clipped gradients: there is one threshold less to tune. Rates are AdamW's, and β2 is
        between 0.95 and 0.99; ModernBERT was trained with it.
    """

    lr: fields.Rate = fields.lr(1e-3, 1e-4, 1e-1)
    betas: tuple[float, float] = fields.betas((0.9, 0.99))
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay(1e-2, "decay λ of the weights themselves, by the lowered rate")
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()

    rule = Rule(
        stable_adamw, "per_tensor", (State("step", "step"), State("exp_avg"), State("exp_avg_sq", nonnegative=True))
    )
