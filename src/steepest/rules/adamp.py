"""AdamP and SGDP: steps without the part along the weights, where the length of the weights does not matter."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

from torch import Tensor

from .. import fields
from ..fields import Options, Search, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import absolute, axis_mean, axis_total, lerp, maximum, mean, norm, rms, sqrt, total, where


def projected(u, p, g, delta, wd_ratio, eps):
    """u, p, g: same shape. Returns u, projected if g is nearly orthogonal to p, and the factor of the decay.

    The rows (of the first dimension) are asked first, then the whole tensor. Cosines are times the root of the length.
    """
    n = sqrt(axis_total(p * p, 0))
    cosines = absolute(axis_total(g * p, 0)) / maximum(sqrt(axis_total(g * g, 0)) * sqrt(axis_mean(p * p, 0)), eps)
    cosine = absolute(total(g * p)) / maximum(norm(g) * rms(p), eps)
    by_row = mean(where(cosines < delta, 0.0, 1.0, like=cosines)) == 0
    rows = u - p / (n + eps) * axis_total(p / (n + eps) * u, 0)
    whole = u - p / (norm(p) + eps) * total(p / (norm(p) + eps) * u)
    u = where(by_row, rows, where(cosine < delta, whole, u))
    return u, where(by_row, wd_ratio, where(cosine < delta, wd_ratio, 1.0, like=cosine))


def adamp(p, g, m, v, *, t, lr, beta1, beta2, eps, weight_decay, delta, wd_ratio, nesterov):
    """p, g, m, v: same shape. Returns new (p, m, v)."""
    d, m, v = adam_direction(g, m, v, t, beta1, beta2, eps, nesterov)
    u, rho = projected(d, p, g, delta, wd_ratio, eps)
    return p * (1 - lr * weight_decay * rho) - lr * u, m, v


def adamp_vector(p, g, m, v, *, t, lr, beta1, beta2, eps, weight_decay, nesterov):
    """p, g, m, v: same shape, a vector or a number. Returns new (p, m, v)."""
    d, m, v = adam_direction(g, m, v, t, beta1, beta2, eps, nesterov)
    return p * (1 - lr * weight_decay) - lr * d, m, v


def adam_direction(g, m, v, t, beta1, beta2, eps, nesterov):
    """g, m, v: same shape. Returns Adam's direction and new (m, v)."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    ahead = lerp(g, m, beta1) if nesterov else m
    return ahead / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps), m, v


def sgdp(p, g, b, *, lr, momentum, dampening, nesterov, weight_decay, delta, wd_ratio, eps):
    """p, g, b: same shape; b is None without momentum. Returns new (p, b)."""
    d, b = momentum_direction(g, b, momentum, dampening, nesterov)
    u, rho = projected(d, p, g, delta, wd_ratio, eps)
    return p * (1 - lr * weight_decay * rho / (1 - momentum)) - lr * u, b


def sgdp_vector(p, g, b, *, lr, momentum, dampening, nesterov, weight_decay):
    """p, g, b: same shape, a vector or a number; b is None without momentum. Returns new (p, b)."""
    d, b = momentum_direction(g, b, momentum, dampening, nesterov)
    return p * (1 - lr * weight_decay / (1 - momentum)) - lr * d, b


def momentum_direction(g, b, momentum, dampening, nesterov):
    """g, b: same shape; b is None without momentum. Returns the direction and new b."""
    if b is None:
        return g, None
    b = momentum * b + (1 - dampening) * g
    return (g + momentum * b if nesterov else b), b


def delta() -> Any:
    """Declare the threshold of both classes."""
    doc = "cosine of gradient and weights below which a step is projected, times the root of the number of weights"
    return fields.hyper(0.1, doc, low=0.0, candidates=(0.02, 1.0))


def wd_ratio() -> Any:
    """Declare the factor of the decay where a step is projected."""
    return fields.hyper(0.1, "factor of the decay where a step is projected", low=0.0, candidates=(0.01, 1.0))


DECAY = "decay λ of the weights themselves, before the step"
MOMENTS = State("step", "step"), State("exp_avg"), State("exp_avg_sq", nonnegative=True)


class AdamP(Optimizer):
    """AdamP: Adam without the growth of weights that normalisation layers make pointless, and with less decay there.

    Source:
        Heo et al. 2021, "AdamP: slowing down the slowdown for momentum optimizers on scale-invariant weights",
        arXiv:2006.08217, Algorithm 2.
    Differs:
        torch has none. As in the official code and timm the absolute value of the cosine is compared (the paper omits
        it), rows before the whole tensor, in tensors of two dimensions and more. pytorch_optimizer adds ε before v is
        corrected. The step is chosen by values, without a branch, so that it can be compiled and captured. Decay is
        decoupled.
    Use:
        Choose it over AdamW for networks with batch normalisation. Rates are AdamW's, and λ is larger: 0.01 to 0.1.
    """

    lr: fields.Rate = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay(0, DECAY, 1e-3)
    delta: float = delta()
    wd_ratio: float = wd_ratio()
    nesterov: bool = fields.hyper(False, "step along β₁m + (1 - β₁)g, the momentum seen ahead, and not along m")
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()

    rule = Rule(adamp, "per_tensor", MOMENTS)
    vector = Rule(adamp_vector, "pointwise", MOMENTS)

    @classmethod
    def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
        """Return the rule without a projection for vectors and numbers."""
        return cls.rule if p is None or p.dim() > 1 else cls.vector


BUFFER = State("momentum", when=lambda o: o["momentum"] != 0)


class SGDP(Optimizer):
    """SGDP: SGD with momentum without the growth of weights that normalisation layers make pointless.

    Source:
        Heo et al. 2021, "AdamP: slowing down the slowdown for momentum optimizers on scale-invariant weights",
        arXiv:2006.08217, Algorithm 1.
    Differs:
        torch has none. The momentum keeps its part along the weights: the official code without Nesterov's form
        projects the buffer itself in place, by accident; timm and pytorch_optimizer copy it. The buffer starts at 0, so
        dampening acts on the first step too, which SGD skips. Decay is decoupled and divided by 1 - μ, as in the
        official code. See AdamP for the comparison.
    Use:
        Choose it over SGD for networks with batch normalisation. Rates are SGD's, and λ is larger: 0.01 to 0.1.
    """

    lr: fields.Rate = fields.lr(1e-3, 1e-4, 10.0)
    momentum: float = fields.hyper(
        0, "momentum factor μ", low=0.0, high=1.0, search=Search(0.01, 1.0, complement=True), is_decay=True
    )
    dampening: float = fields.hyper(0, "how much less than the whole gradient enters the buffer")
    weight_decay: float = fields.weight_decay(0, DECAY, 1e-5)
    nesterov: bool = fields.hyper(False, "step along g + μb, the gradient seen ahead, and not along b")
    eps: float = fields.eps(1e-8)
    delta: float = delta()
    wd_ratio: float = wd_ratio()
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()

    rule = Rule(sgdp, "per_tensor", (BUFFER,))
    vector = Rule(sgdp_vector, "pointwise", (BUFFER,))

    @classmethod
    def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
        """Return the rule without a projection for vectors and numbers."""
        return cls.rule if p is None or p.dim() > 1 else cls.vector

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse Nesterov's form without momentum."""
        super().check(options)
        if options["nesterov"] and options["momentum"] == 0:
            raise ValueError("nesterov=True looks ahead along the momentum; give momentum > 0, or leave it False")
