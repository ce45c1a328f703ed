"""SPlus: signs in the eigenbases of rows and columns, and an average of the weights to evaluate."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .. import fields
from ..fields import Options, State, View
from ..preconditioned import (
    FAILURES,
    PHASE,
    Preconditioned,
    is_due,
    max_precond_dim,
    precondition_frequency,
    presence,
    sides,
    spread,
)
from ..rule import Rule
from ..spectral import eigenbasis
from ..vocabulary import lerp, sign
from ..weights import TwoWeights
from .soap import averaged, back, rotated


def splus(
    p, g, m, e, L, R, QL, QR, failures, phase,
    *, t, lr, beta1, beta2, weight_decay, ema_rate, precondition_frequency, nonstandard_constant,
):  # fmt: skip
    """p, g, m, e: (..., n, m), L, QL: (..., n, n), R, QR: (..., m, m). Returns new p and state.

    A side that is not preconditioned has None. e is the average of the weights, from 0.
    """
    sizes = max(1, g.shape[-2] + g.shape[-1])
    rate = lr * (2 / sizes if QL is not None and QR is not None else nonstandard_constant)
    m = lerp(m, g, 1 - beta1)
    u = back(torch.sign(rotated(m, QL, QR)), QL, QR)
    L, R = averaged(L, g, beta2), averaged(R, g.mT, beta2)
    if t == 1 or is_due(t, precondition_frequency, phase):
        QL, failed = (QL, 0) if L is None else eigenbasis(L, QL)
        QR, failed_too = (QR, 0) if R is None else eigenbasis(R, QR)
        failures = failures + failed + failed_too
    p = p - rate * u
    return p * (1 - rate * weight_decay), m, lerp(e, p, 1 - ema_rate), L, R, QL, QR, failures, phase


def vector(p, g, m, e, *, lr, beta1, weight_decay, ema_rate, nonstandard_constant):
    """p, g, m, e: same shape. Returns new (p, m, e)."""
    rate = lr * nonstandard_constant
    m = lerp(m, g, 1 - beta1)
    p = p - rate * sign(m)
    return p * (1 - rate * weight_decay), m, lerp(e, p, 1 - ema_rate)


def average(p: Tensor, m: Tensor, e: Tensor, *_: Any, t: float, ema_rate: float) -> Tensor:
    """Return the average of the weights, corrected for its start at zero."""
    corrected: Tensor = e / (1 - ema_rate**t)
    return corrected


STATE = State("step", "step"), State("momentum"), State("param_ema", exact=True)
VECTOR = Rule(vector, "pointwise", STATE, is_real=True, evaluated=average)


@cache
def matrix(rows: bool, columns: bool, view: View | None) -> Rule:
    """Return the rule for matrices whose rows, columns, or both are preconditioned."""
    left, right = presence(rows, columns)
    state = (
        *STATE,
        State("side_0", "left", when=left),
        State("side_1", "right", when=right),
        State("Q_0", "left", init="identity", when=left),
        State("Q_1", "right", init="identity", when=right),
        FAILURES,
        PHASE,
    )
    return Rule(splus, "matrix", state, is_real=True, view=view, branches=True, evaluated=average)


class SPlus(Preconditioned, TwoWeights):
    """SPlus: the sign of the momentum in Shampoo's eigenbases, with a rate that carries over between widths.

    The average of the weights is what is evaluated: ``with optimizer.averaged():``, or ``optimizer.eval()`` and
    ``train()``.

    Source:
        Frans, Levine and Abbeel 2025, "A stable whitening optimizer for efficient neural network training",
        arXiv:2506.07254, Algorithm 1.
    Differs:
        The authors' code and pytorch_optimizer: same numbers on matrices; convolutions are matrices, where theirs step
        by signs. Their ``inverse_every`` and ``max_dim`` are ``precondition_frequency`` and ``max_precond_dim`` here. A
        basis that cannot be found keeps the old one, see `failures`. Decay comes after the step, by the rate of the
        step.
    Use:
        Choose it over `SOAP` where eigenvectors are to be found rarely: every hundred steps. Language models take rates
        of 0.03 to 0.5. The search range goes further: a step is 2η/(n + m) in the eigenbases, which is small for the
        long matrices of embeddings (see docs/convergence.md).
    """

    lr: fields.Rate = fields.lr(0.1, 0.03, 5.0)
    betas: tuple[float, float] = fields.betas((0.9, 0.999), "decay rates of the averages of g and of gg'")
    weight_decay: float = fields.weight_decay(0.01, "decay λ of the weights, by λ times the step's own rate, after it")
    ema_rate: float = fields.hyper(
        0.999, "decay rate of the average of the weights", low=0.0, high=1.0, is_decay=True, candidates=(0.9,)
    )
    precondition_frequency: int = precondition_frequency(100)
    nonstandard_constant: float = fields.hyper(1e-3, "factor of the rate of all that is not a matrix", low=0.0)
    max_precond_dim: int = max_precond_dim(10000)
    _: KW_ONLY
    spread: bool = spread()
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()

    rule = matrix(rows=True, columns=True, view=None)

    @classmethod
    def matrix_rule(cls, options: Options, seen: Tensor, view: View | None) -> Rule:
        """Return the rule of matrices."""
        return matrix(*sides(options, seen), view)

    @classmethod
    def vector_rule(cls, options: Options, p: Tensor) -> Rule:
        """Return the rule of signs."""
        return VECTOR
