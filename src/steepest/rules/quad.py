"""QUAD: PSGD whose preconditioners are symmetric, stay positive and need matrix products only."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from functools import cache

import torch
from torch import Tensor

from .. import fields
from ..fields import Options, Search, State, View
from ..matrices import column
from ..orthogonal import matrix_norm
from ..preconditioned import Preconditioned, exists, never
from ..rule import Rule
from ..vocabulary import lerp, maximum
from .psgd_kron import balanced, clipped, factors, gram, is_diagonal, largest, preconditioned, rms, started, transformed


def quad(p, g, m, QL, QR, LL, LR, *, t, lr, lr_style, momentum, weight_decay, preconditioner_lr, noise_scale):
    """p, g, m: (..., n, m), QL: (..., n, n) or (..., n, 1), QR: (..., m, m) or (..., 1, m), LL, LR: (..., 1, 1).

    Returns new p and state. A vector has one side, and None for the other. LL and LR bound the curvature of what QL and
    QR minimise.
    """
    if t == 1:
        least = torch.as_tensor(noise_scale, dtype=g.dtype, device=g.device)
        m, (QL, QR) = g, started(QL, QR, torch.hypot(rms(g), least) ** -0.5)
    m = lerp(m, g, 1 - momentum)
    if p.numel():
        QL, QR = balanced(QL, QR) if t % 100 == 0 else (QL, QR)
        rate = maximum(preconditioner_lr / math.sqrt(1 + t / 10000), 0.3)
        QL, QR, LL, LR = improved(QL, QR, LL, LR, m, rate, noise_scale)
    u = clipped(preconditioned(m, QL, QR), 1.05)
    return p * (1 - lr * weight_decay) - (lr / 5 if lr_style == "adam" else lr) * u, m, QL, QR, LL, LR


def improved(QL, QR, LL, LR, G, rate, noise_scale):
    """Return both sides one step nearer to where P G, for P = QL² ⊗ QR², is white: (PG)(PG)' = m I, (PG)'(PG) = n I.

    G has noise of size ``noise_scale`` in its elements, which enters by the mean of its products.
    """
    PL, PR = squared(QL), squared(QR)
    PG = transformed(G, PL, PR)
    QL, LL = stepped(QL, LL, PG, PL, noise_scale * length(PR), rate)
    QR, LR = stepped(QR, LR, PG.mT, PR, noise_scale * length(PL), rate)
    return QL, QR, LL, LR


def stepped(Q, L, PG, P, noise, rate):
    """Return Q and L of the rows of PG after one step; a side without a Q has none."""
    if Q is None:
        return Q, L
    wanted = PG.shape[-1]
    T = gram(PG, Q) + noise**2 * squared(P)
    curvature = largest(T, Q) + wanted
    L = torch.maximum(lerp(L, curvature, 0.05), curvature)
    rate = rate / (2 * L)
    if is_diagonal(Q):
        return Q * (1 - rate * (T - wanted)) ** 2, L
    Q = Q - rate * (T @ Q - wanted * Q)
    Q = Q - rate * (Q @ T - wanted * Q)
    return (Q + Q.mT) / 2, L


def squared(Q: Tensor | None) -> Tensor | None:
    """Return QQ of a symmetric or a diagonal Q."""
    return None if Q is None else Q * Q if is_diagonal(Q) else Q @ Q


def length(P: Tensor | None) -> Tensor | float:
    """Return the Frobenius norm of a side of the preconditioner; 1 for a side without one."""
    return 1.0 if P is None else matrix_norm(P)


@cache
def matrix(rows: bool | None, columns: bool | None, view: View | None) -> Rule:
    """Return the rule for matrices whose Q is dense (True), diagonal (False) or not there, for rows and for columns."""
    state = (
        State("step", "step"),
        State("momentum_buffer"),
        *factors(rows, columns),
        State("L_0", "matrix_scalar", when=never if rows is None else exists, nonnegative=True),
        State("L_1", "matrix_scalar", when=never if columns is None else exists, nonnegative=True),
    )
    return Rule(quad, "matrix", state, is_real=True, view=view, branches=True)


class QUAD(Preconditioned):
    """QUAD: momentum times a Kronecker product that whitens it, P = QL² ⊗ QR² with symmetric Q, by products only.

    A side is dense where it is not the longer one, and not longer than ``max_size_dense``; others are diagonal.
    Vectors, and matrices of one row or column, have one diagonal side.

    Source:
        Li 2024, "Stochastic Hessian fittings with Lie groups", arXiv:2402.11858, in the form of the package quad_torch
        0.4.5.
    Differs:
        quad_torch: same equations. It adds noise from torch's generator to the momentum, by which a row without a
        gradient does not make Q infinite; here the mean of that noise's products is added, without random numbers:
        σ²‖PR‖²PL² to (PG)(PG)'. It computes the rate of Q in float32. Version 0.4.5 fails for every matrix, by two
        mistakes, and is equal once they are mended. Convolutions are matrices with a row per output channel; theirs are
        the squarest. Q is in the parameter's dtype (float32 for half types). Its ``dtype`` is not there.
    Use:
        Choose it over `PSGDKron` where nothing may be random, and where triangular systems are slow to solve. Its steps
        have the size of Adam's at the same ``lr``.
    Caveats:
        Q moves at every step: a square matrix takes 16 products of its size.
    """

    lr: fields.Rate = fields.lr(1e-3, 1e-4, 3e-2)
    lr_style: str = fields.hyper(
        "adam",
        "size of a step: a root mean square of about η/5, which is Adam's, or of about η ('rms', or None)",
        choices=("adam", "rms"),
        aliases=((None, "rms"),),
    )
    momentum: float = fields.averaging_momentum(0.95, 0.01, 0.3)
    weight_decay: float = fields.weight_decay(0.1, fields.OF_WEIGHTS, 0.1, 0.6)
    max_size_dense: int = fields.hyper(8192, "longest side with a dense Q", low=1, integer=True, candidates=(1,))
    max_skew_dense: float = fields.hyper(
        1.0, "largest ratio of a side with a dense Q to the other side", low=0.0, candidates=(2.0,)
    )
    preconditioner_lr: float = fields.hyper(
        0.7, "length of a step of Q, which falls to 0.3 in time", low=0.3, search=Search(0.3, 1.0)
    )
    noise_scale: float = fields.hyper(
        1e-9, "size σ of the noise in the momentum that Q is fitted to", low=0.0, exclusive_low=True, candidates=(1e-6,)
    )
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()

    rule = matrix(rows=True, columns=True, view=None)

    @classmethod
    def matrix_rule(cls, options: Options, seen: Tensor, view: View | None) -> Rule:
        """Return the rule of matrices; those of one row or column have one side."""
        n, m = seen.shape[-2:]
        if 1 in (n, m):
            return matrix(*((False, None) if m == 1 else (None, False)), view)
        return matrix(is_dense(n, m, options), is_dense(m, n, options), view)

    @classmethod
    def vector_rule(cls, options: Options, p: Tensor) -> Rule:
        """Return the rule of matrices of one column."""
        return matrix(rows=False, columns=None, view=column)


def is_dense(size: int, other: int, options: Options) -> bool:
    """Return whether a side is short enough for a dense Q."""
    return bool(size <= options["max_size_dense"] and size <= options["max_skew_dense"] * other)
