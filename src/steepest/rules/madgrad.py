"""MADGRAD: dual averaging with momentum and a cube root."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, maximum, sqrt, where


def madgrad(p, g, n, s, x0, *, t, lr, momentum, eps):
    """p, g, n, s, x0: same shape; x0 is None without momentum, and then follows from p. Returns new (p, n, s, x0)."""
    x = p + s / root(n, eps) if x0 is None else x0
    a = where(lr > 0, (lr + eps) * sqrt(t), 0.0)
    s = s + a * g
    n = n + a * g * g
    z = x - s / root(n, eps)
    return (z if x0 is None else lerp(p, z, 1 - momentum)), n, s, x0


def root(n, eps):
    """Return ∛n + ε; what is far below ε³ counts as 1e-36, so that the root has a derivative where n is 0."""
    return maximum(n, 1e-36) ** (1 / 3) + eps


class MADGRAD(Optimizer):
    """MADGRAD: the start minus the sum of all gradients over the cube root of their squares, with weights ~ η√t.

    Source:
        Defazio and Jelassi 2022, "Adaptivity without compromise: a momentumized, adaptive, dual averaged gradient
        method for stochastic optimization", arXiv:2101.11075, Algorithm 1.
    Differs:
        torch has none. As in the official code, timm and optax, ε joins η, and nothing moves at η = 0, so a warm-up may
        start there; momentum is 1 - c of the paper. x0, the parameter at its first step, is kept only with momentum.
        Put new weights into the parameter during a run and x0 pulls them back: start anew then. The best η and λ
        differ from those of SGD and Adam by orders of magnitude. Decay is coupled, as by default in the official code
        and timm; of a decoupled one (timm's ``madgradw``) x0 undoes the part 1 - μ at every step.
    Use:
        Choose it over SGD and Adam where others do: in the reconstruction of MRI images (fastMRI). Search η from 1e-4
        to 0.1, whatever was best for another rule.
    """

    lr: fields.Rate = fields.lr(1e-2, 1e-4, 1e-1)
    momentum: float = fields.momentum(0.9)
    weight_decay: float = fields.weight_decay()
    eps: float = fields.eps(1e-6)
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        madgrad,
        "pointwise",
        (
            State("step", "step"),
            State("grad_sum_sq", nonnegative=True),
            State("s"),
            State("x0", init="param", when=lambda o: o["momentum"] != 0),
        ),
    )
