"""Muon²: Muon of a momentum that is normalised element by element."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import torch

from .. import fields
from ..companion import WithCompanion
from ..fields import Options, State
from ..orthogonal import scaled
from ..rule import Rule
from ..vocabulary import lerp, sqrt
from .muon import NS_EPS, adjust_lr_fn, averaged, check_iteration, nesterov, ns_coefficients, ns_dtype, ns_steps, polar


def muon2(
    p, g, B, v, *, lr, momentum, beta2, nesterov, ns_coefficients, ns_steps, ns_dtype, eps, adjust_lr_fn, precision,
    whole,
):  # fmt: skip
    """p, g, B, v: (..., n, m), matrices or stacks of them. Returns new (p, B, v)."""
    B, u = averaged(g, B, momentum, nesterov)
    v = lerp(v, g * g, 1 - beta2)
    O = polar(u / (sqrt(v) + eps), ns_coefficients, ns_steps, NS_EPS, ns_dtype or precision, whole)  # noqa: E741
    return p - lr * scaled(O, adjust_lr_fn, whole), B, v


class Muon2(WithCompanion):
    """Muon²: Adam's direction, orthogonalized: the momentum is divided by the root of the average of g² before it.

    Source:
        Liu et al. 2026, "Muon²: boosting Muon via adaptive second-moment preconditioning", arXiv:2604.09967.
    Differs:
        torch has none, and no package does. The average of g² has no correction: the iteration divides by the norm, so
        that a factor for all elements cancels, but for ε. `AdaMuon` normalises after the iteration.
    Use:
        Choose it over `Muon` where the gradients of a matrix have elements of very different sizes.
    Caveats:
        In modded-nanogpt's benchmark of optimizers it took 3,325 steps to a loss that `NorMuon` reached in 3,250.
    """

    lr: fields.Rate = fields.lr(0.1, 5e-3, 0.3)
    weight_decay: float = fields.weight_decay(0, fields.OF_WEIGHTS)
    momentum: float = fields.averaging_momentum(0.95, 0.01, 1.0)
    beta2: float = fields.hyper(
        0.95, "decay rate of the average of g²", low=0.0, high=1.0, search=fields.BETAS, is_decay=True
    )
    nesterov: bool = nesterov()
    ns_coefficients: Any = ns_coefficients()
    ns_steps: int = ns_steps()
    eps: float = fields.eps(1e-10, 1e-12, 1e-6, exclusive_low=True)
    adjust_lr_fn: str | None = adjust_lr_fn()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    ns_dtype: str | None = ns_dtype()

    rule = Rule(
        muon2,
        "matrix",
        (State("momentum_buffer"), State("exp_avg_sq", nonnegative=True)),
        is_real=True,
        precision=torch.bfloat16,
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse a hundred iterations or more, and other numbers of steps than a preset has."""
        check_iteration(options)
