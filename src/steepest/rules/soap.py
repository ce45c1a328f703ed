"""SOAP: Adam in the eigenbases of the gradients' second moments of rows and of columns."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import cache
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from .. import fields
from ..fields import Options, Search, State, View
from ..orthogonal import unit_rms
from ..preconditioned import (
    FAILURES,
    PHASE,
    Preconditioned,
    is_due,
    max_precond_dim,
    never,
    precondition_frequency,
    presence,
    sides,
    spread,
)
from ..rule import Rule
from ..spectral import eigenbasis, power_step
from ..vocabulary import lerp, maximum, rms, where
from ..vocabulary import sqrt as root


def soap(
    p, g, m, v, L, R, QL, QR, EL, ER, failures, phase,
    *, t, lr, beta1, beta2, shampoo_beta, eps, weight_decay, precondition_frequency, normalize_grads, correct_bias,
):  # fmt: skip
    """p, g, m, v: (..., n, m), L, QL: (..., n, n), R, QR: (..., m, m), EL: (..., n, 1), ER: (..., 1, m).

    Returns new p and state. A side that is not preconditioned has None; so have EL and ER, the eigenvalues, but for the
    Kullback-Leibler form. The first call makes the bases and nothing else, and does not count.
    """
    beta = beta2 if shampoo_beta is None else shampoo_beta
    if t > 1:
        rate = lr * sqrt(1 - beta2 ** (t - 1)) / (1 - beta1 ** (t - 1)) if correct_bias else lr
        m = lerp(m, g, 1 - beta1)
        v = lerp(v, rotated(g, QL, QR).square(), 1 - beta2)
        u = back(rotated(m, QL, QR) / (torch.sqrt(v) + eps), QL, QR)
        u = unit_rms(u) if normalize_grads else u
        p = (p - rate * u) * (1 - lr * weight_decay)
    by_columns, by_rows = (g, g.mT) if EL is None else scaled(g, QL, QR, EL, ER, t)
    L, R = averaged(L, by_columns, beta), averaged(R, by_rows, beta)
    if t > 1 and EL is not None:
        EL, ER = lerp(EL, spectrum(L, QL).mT, 1 - beta), lerp(ER, spectrum(R, QR), 1 - beta)
    if t == 1 or is_due(t - 1, precondition_frequency, phase):
        QL, failed, vt, EL = refreshed(L, QL, t == 1, v.mT, None if EL is None else EL.mT)
        QR, failed_too, v, ER = refreshed(R, QR, t == 1, vt.mT, ER)
        EL, failures = None if EL is None else EL.mT, failures + failed + failed_too
    return p, m, v, L, R, QL, QR, EL, ER, failures, phase


def rotated(g: Tensor, QL: Tensor | None, QR: Tensor | None) -> Tensor:
    """Return QL' g QR; a side without a basis stays."""
    g = g if QL is None else QL.mT @ g
    return g if QR is None else g @ QR


def back(u: Tensor, QL: Tensor | None, QR: Tensor | None) -> Tensor:
    """Return QL u QR', the inverse of `rotated`."""
    u = u if QL is None else QL @ u
    return u if QR is None else u @ QR.mT


def averaged(A: Tensor | None, g: Tensor, beta: float) -> Tensor | None:
    """Return the running average of gg'."""
    return None if A is None else lerp(A, g @ g.mT, 1 - beta)


def spectrum(A: Tensor, Q: Tensor) -> Tensor:
    """Return the diagonal of Q'AQ, (..., 1, n): A's eigenvalues, if Q has its eigenvectors."""
    return (Q * (A @ Q)).sum(-2, keepdim=True)


def scaled(g: Tensor, QL: Tensor, QR: Tensor, EL: Tensor, ER: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Return what the averages of rows and columns are of in the Kullback-Leibler form: each whitened by the other."""
    n, m = g.shape[-2:]
    if t == 1:
        return g / sqrt(m), g.mT / sqrt(n)
    inverse_right, inverse_left = (E.rsqrt().clamp(max=LARGEST) for E in (ER, EL))
    return (g @ QR) * inverse_right / sqrt(m), ((QL.mT @ g) * inverse_left).mT / sqrt(n)


LARGEST = 4000.0
"""Bound of the inverse roots of eigenvalues in the Kullback-Leibler form."""


def refreshed(A: Tensor | None, Q: Tensor | None, is_first: bool, *owned: Tensor | None) -> tuple[Any, ...]:
    """Return the basis of A after one more power iteration, what failed, and what belongs to its columns.

    The columns are in the order of their eigenvalues, the largest first, and what they own moves with them.
    """
    if A is None or Q is None:
        return Q, 0, *owned
    if is_first:
        return *eigenbasis(A, Q), *owned
    order = spectrum(A, Q).argsort(-1, descending=True)
    moved = (x if x is None else x.gather(-1, order.expand(x.shape)) for x in owned)
    return *power_step(A, Q.gather(-1, order.expand(Q.shape))), *moved


def vector(p, g, m, v, *, t, lr, beta1, beta2, eps, weight_decay, normalize_grads, correct_bias):
    """p, g, m, v: same shape. Returns new (p, m, v): Adam's step, which the first call leaves out."""
    is_later, k = t > 1, maximum(t - 1, 1)
    new_m = lerp(m, g, 1 - beta1)
    new_v = beta2 * v + (1 - beta2) * g * g
    rate = lr * root(1 - beta2**k) / (1 - beta1**k) if correct_bias else lr
    u = new_m / (root(new_v) + eps)
    u = u / rms(u) if normalize_grads else u
    new_p = (p - rate * u) * (1 - lr * weight_decay)
    return where(is_later, new_p, p), where(is_later, new_m, m), where(is_later, new_v, v)


MOMENTS = State("step", "step"), State("exp_avg"), State("exp_avg_sq", nonnegative=True)
VECTOR = Rule(vector, "pointwise", MOMENTS, is_real=True)
NORMALIZED = Rule(vector, "per_tensor", MOMENTS, is_real=True)


def is_kl(options: Options) -> bool:
    """Return whether the options ask for the Kullback-Leibler form."""
    return bool(options["kl"])


@cache
def matrix(rows: bool, columns: bool, view: View | None) -> Rule:
    """Return the rule for matrices whose rows, columns, or both are preconditioned."""
    left, right = presence(rows, columns)
    both = is_kl if rows and columns else never
    state = (
        *MOMENTS,
        State("GG_0", "left", when=left),
        State("GG_1", "right", when=right),
        State("Q_0", "left", init="identity", when=left),
        State("Q_1", "right", init="identity", when=right),
        State("eigenvalues_0", "left_vector", init=0.1, when=both),
        State("eigenvalues_1", "right_vector", init=0.1, when=both),
        FAILURES,
        PHASE,
    )
    return Rule(soap, "matrix", state, is_real=True, view=view, branches=True)


class SOAP(Preconditioned):
    """SOAP: Adam in the eigenbases of Shampoo, which are refreshed every few steps by one power iteration.

    Vectors are updated by Adam itself. A matrix longer than ``max_precond_dim`` on one side is preconditioned on the
    other. The first step makes the bases, and moves nothing.

    Source:
        Vyas et al. 2024, "SOAP: improving and stabilizing Shampoo using Adam", arXiv:2409.11321, Algorithm 3, in the
        form of the authors' code; ``kl``: Lin et al. 2025, "Understanding and improving Shampoo and SOAP via
        Kullback-Leibler minimization", arXiv:2509.03378.
    Differs:
        The authors' code: same numbers, with the momentum kept as it is and not in the bases. Convolutions are matrices
        with a row per output channel; theirs has a basis for each of the four dimensions. The averages are in the
        parameter's dtype (float32 for half types), where theirs are in float32 and fail for float64. A basis that
        cannot be found keeps the old one, see `failures`. The paper refreshes before the step. pytorch_optimizer
        counts the steps of a group. Decay comes after the step, by ηλ, as in the code. ``merge_dims`` and
        ``precondition_1d`` are not there.
    Use:
        Choose it over `Muon` where a step may cost more and small batches are not needed: it needs the fewest steps of
        all rules here. Give it ``precondition_frequency`` of 1 to 10.
    Caveats:
        Two square matrices and two bases are kept for each parameter, 2(n² + m²)/(nm) times its memory.
    """

    lr: fields.Rate = fields.lr(3e-3, 3e-4, 3e-2)
    betas: tuple[float, float] = fields.betas((0.95, 0.95))
    shampoo_beta: float | None = fields.hyper(
        None,
        "decay rate of the averages of gg' and g'g; None: β2",
        low=0.0,
        high=1.0,
        is_decay=True,
        candidates=(0.9,),
        search=Search(1e-2, 0.1, complement=True),
    )
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay(0.01, "decay λ of the weights, θ ← θ - ηλθ after the step")
    precondition_frequency: int = precondition_frequency(10)
    max_precond_dim: int = max_precond_dim(10000)
    normalize_grads: bool = fields.hyper(False, "scale each matrix's step to a root mean square of η")
    correct_bias: bool = fields.hyper(True, "correct the averages for their start at zero")
    kl: bool = fields.hyper(False, "average gg' and g'g whitened by each other's eigenvalues (KL-SOAP)")
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
        """Return Adam's rule."""
        return NORMALIZED if options["normalize_grads"] else VECTOR
