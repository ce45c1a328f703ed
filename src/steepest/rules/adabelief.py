"""AdaBelief: steps by how far a gradient is from its prediction."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Options, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, maximum, sqrt, where
from .radam import rectification, sample_sizes


def adabelief(p, g, m, s, smax, *, t, lr, beta1, beta2, eps, rectify):
    """p, g, m, s, smax: same shape; smax is None without amsgrad. Returns new (p, m, s, smax). ε stays in s."""
    m = lerp(m, g, 1 - beta1)
    s = beta2 * s + (1 - beta2) * (g - m) * (g - m) + eps
    smax = None if smax is None else maximum(smax, s)
    mhat = m / (1 - beta1**t)
    if rectify:
        rho, rho_inf = sample_sizes(t, beta2)
        a = where(rho >= 5, rho, 5)
        b = maximum(rho_inf, a)
        r = rectification(a, b) * sqrt(1 - beta2**t)
        return p - lr * where(rho >= 5, r * mhat / (sqrt(s) + eps), mhat), m, s, smax
    largest = s if smax is None else smax
    return p - lr * mhat / (sqrt(largest / (1 - beta2**t)) + eps), m, s, smax


class AdaBelief(Optimizer):
    """AdaBelief: Adam with an average of (g - m)² for v: long steps where gradients are as m predicts them.

    Source:
        Zhuang et al. 2020, "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients",
        arXiv:2010.07468, Algorithm 2; rectification: Liu et al. 2020, arXiv:1908.03265.
    Differs:
        torch has none. Same numbers as the authors' code since 0.1, which rectifies; timm's ``adabelief`` does not,
        ``rectify=False``. ε is added to s at every step and stays in it, as in the authors' code, timm and optax; the
        paper's appendix adds it once. It is added to the root too. g - m has the new m, so the first step is η/β1. The
        rectified step begins at ρ ≥ 5 and adds ε before s is corrected, as RAdam's does. Constant gradients lengthen
        the steps until ε stops it; for convolutional networks the authors take 1e-8.
    Use:
        Choose it over Adam where others do: in adversarial networks and reinforcement learning. Rates are Adam's;
        search ε too, from 1e-16 to 1e-6.
    Caveats:
        Half of the published gain may be the choice of ε (Adabelief-Optimizer #23). float16 cannot hold an ε of 1e-16.
    """

    lr: fields.Rate = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999), "decay rates of the averages of g and of (g - m)²")
    eps: float = fields.eps(1e-16, 1e-16, 1e-6)
    weight_decay: float = fields.weight_decay(0, fields.OF_WEIGHTS)
    amsgrad: bool = fields.hyper(False, "divide by the largest s so far, so that rates never grow")
    rectify: bool = fields.hyper(True, "momentum alone until the average of (g - m)² can be trusted, as in RAdam")
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        adabelief,
        "pointwise",
        (
            State("step", "step"),
            State("exp_avg"),
            State("exp_avg_var", nonnegative=True),
            State("max_exp_avg_var", nonnegative=True, when=lambda o: o["amsgrad"]),
        ),
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse the largest s for the rectified step, which does not read it."""
        super().check(options)
        if options["amsgrad"] and options["rectify"]:
            raise ValueError("amsgrad=True acts on the step that is not rectified; give rectify=False too")
