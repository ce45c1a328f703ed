"""PSGD-Kron: a preconditioner for each side of a matrix, fitted to the momentum by small multiplicative steps."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .. import fields
from ..fields import Options, Search, State, View
from ..matrices import column
from ..noise import normal
from ..orthogonal import matrix_norm
from ..preconditioned import Preconditioned, exists, never
from ..rule import Rule
from ..spectral import norm_bound
from ..vocabulary import lerp


def psgd_kron(
    p, g, m, QL, QR, counter,
    *, t, stream, lr, momentum, weight_decay, preconditioner_update_probability, momentum_into_precond_update,
    precond_lr, precond_init_scale,
):  # fmt: skip
    """p, g, m: (..., n, m), QL: (..., n, n) or (..., n, 1), QR: (..., m, m) or (..., 1, m). Returns new p and state.

    A vector is a matrix of one column with a diagonal QL, without QR and without decay. counter is the number of steps
    since QL and QR moved.
    """
    if t == 1:
        QL, QR = started(QL, QR, precond_init_scale)
    m = lerp(m, g, 1 - momentum)
    corrected, counter = m / (1 - momentum**t), counter + 1
    if counter >= 1 / update_probability(t, preconditioner_update_probability):
        counter = 0
        if p.numel():
            V = normal(stream, int(t), tuple(g.shape), device=g.device).to(g.dtype)
            QL, QR = improved(QL, QR, corrected if momentum_into_precond_update else g, V, precond_lr)
    u = clipped(preconditioned(corrected, QL, QR), 1.1)
    return p - lr * (u if QR is None else u + weight_decay * p), m, QL, QR, counter


def update_probability(t: float, fixed: float | None) -> float:
    """Return the part of steps in which the preconditioner moves: 1 for 500 steps, and after 4000 the least."""
    return min(1.0, max(0.03, math.exp(-0.001 * (t - 1 - 500)))) if fixed is None else fixed


def improved(QL, QR, G, V, rate):
    """Return both sides one step nearer to where QL G QR' and QL^-T V QR^-1 have the same second moments.

    G gets a little of V, so that no direction is without a gradient. A gradient of zero says nothing: Q then stays.
    """
    QL, QR = balanced(QL, QR)
    size = G.abs().mean((-2, -1), keepdim=True)
    A = transformed(G + ROOT_EPS * size * V, QL, QR)
    B = V / QL if is_diagonal(QL) else torch.linalg.solve_triangular(QL.mT, V, upper=False)
    rate = rate * (size > 0).to(G.dtype)
    if QR is None:
        return stepped(QL, A, B, rate), None
    B = B / QR if is_diagonal(QR) else torch.linalg.solve_triangular(QR, B, upper=True, left=False)
    return stepped(QL, A, B, rate), stepped(QR, A.mT, B.mT, rate)


ROOT_EPS = math.sqrt(torch.finfo(torch.float32).eps)
"""Part of V, in units of the mean of abs(G), that is added to G."""


def stepped(Q: Tensor, A: Tensor, B: Tensor, rate: Tensor) -> Tensor:
    """Return the triangular or diagonal Q of the rows of A and B after a step of relative length ``rate``."""
    a, b = gram(A, Q), gram(B, Q)
    rate = rate / largest(a + b, Q).clamp(min=torch.finfo(Q.dtype).tiny)
    return Q - rate * (a - b) * Q if is_diagonal(Q) else Q - rate * torch.triu(a - b) @ Q


def is_diagonal(Q: Tensor) -> bool:
    """Return whether Q is the diagonal of a matrix, as a column or as a row."""
    return Q.shape[-2] != Q.shape[-1]


def transformed(x: Tensor, QL: Tensor | None, QR: Tensor | None) -> Tensor:
    """Return QL x QR'; a side without a Q stays."""
    if QL is not None:
        x = QL * x if is_diagonal(QL) else QL @ x
    if QR is not None:
        x = x * QR if is_diagonal(QR) else x @ QR.mT
    return x


def preconditioned(x: Tensor, QL: Tensor | None, QR: Tensor | None) -> Tensor:
    """Return QL'QL x QR'QR."""
    return transformed(transformed(x, QL, QR), *(Q if Q is None or is_diagonal(Q) else Q.mT for Q in (QL, QR)))


def gram(x: Tensor, Q: Tensor) -> Tensor:
    """Return xx', or its diagonal in the shape of a diagonal Q."""
    return x.square().sum(-1).view(Q.shape) if is_diagonal(Q) else x @ x.mT


def largest(A: Tensor, Q: Tensor) -> Tensor:
    """Return the largest eigenvalue of A, (..., 1, 1), which is known by its diagonal or bounded from below."""
    return A.amax((-2, -1), keepdim=True) if is_diagonal(Q) else norm_bound(A)


def started(QL: Tensor | None, QR: Tensor | None, scale: Tensor | float) -> list[Tensor | None]:
    """Return the first Q of both sides, whose product is ``scale``."""
    sides = [Q for Q in (QL, QR) if Q is not None]
    return [None if Q is None else Q * scale ** (1 / len(sides)) for Q in (QL, QR)]


def balanced(QL: Tensor | None, QR: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return both sides with the same largest element; their product stays."""
    if QL is None or QR is None:
        return QL, QR
    left, right = (Q.abs().amax((-2, -1), keepdim=True) for Q in (QL, QR))
    return QL * torch.sqrt(right / left), QR * torch.sqrt(left / right)


def rms(x: Tensor) -> Tensor:
    """Return the root mean square of each matrix, (..., 1, 1)."""
    return matrix_norm(x) / math.sqrt(max(1, x.shape[-2] * x.shape[-1]))


def clipped(u: Tensor, most: float) -> Tensor:
    """Return each matrix with a root mean square of at most ``most``."""
    return u * (most / rms(u).clamp(min=most))


def factors(rows: bool | None, columns: bool | None) -> tuple[State, State]:
    """Return the state Q of both sides: a matrix (True), its diagonal (False), or none (None)."""
    return factor("Q_0", "left", rows), factor("Q_1", "right", columns)


def factor(name: str, side: str, is_whole: bool | None) -> State:
    """Return the state Q of one side."""
    if is_whole:
        return State(name, side, init="identity")
    return State(name, f"{side}_vector", init=1.0, when=never if is_whole is None else exists)


@cache
def matrix(rows: bool, columns: bool | None, view: View | None) -> Rule:
    """Return the rule for matrices whose Q is triangular (True) or diagonal (False) for rows, and for columns."""
    state = (
        State("step", "step"),
        State("momentum_buffer"),
        *factors(rows, columns),
        State("update_counter", "scalar"),
    )
    return Rule(psgd_kron, "matrix", state, is_real=True, view=view, branches=True)


class PSGDKron(Preconditioned):
    """PSGD-Kron: momentum times a Kronecker product that whitens it, P = (QL'QL) ⊗ (QR'QR) with triangular Q.

    Vectors have the same rule with a diagonal Q, and no decay; a number is a vector of one element. A side longer than
    ``max_size_triangular`` has a diagonal Q too.

    Source:
        Li 2015, "Preconditioned stochastic gradient descent", arXiv:1512.04202; Pooladzandi and Li 2024,
        "Curvature-informed SGD via general purpose Lie-group preconditioners", arXiv:2402.04553; in the form of the
        package kron_torch 0.3.3.
    Differs:
        kron_torch: same equations, with its ``b1`` named ``momentum``. Its numbers V come from torch's global generator
        and its balancing from one of Python's, neither of which a state dict has; ours are hashes of ``seed``, the
        parameter's place, the step and the element, and Q is balanced at every update, which changes rounding only. It
        adds a little of V to the momentum in place, and so to the step too; here that is for Q only, as in Li's code.
        Its Q of a gradient that stays zero grows until it is infinite; here it waits. Counters are a parameter's own.
        A probability is a number or the schedule, not a function. Steps solve in the dtype of Q: float32 for half
        types, else the parameter's; theirs in float32. Convolutions are matrices with a row per output channel.
        ``min_ndim_triangular``, ``merge_dims`` and the two dtypes are not there.
    Use:
        Choose it over `SOAP` where eigenvectors are not to be found and steps should become cheap: after 4000 steps the
        preconditioner moves in one of 34. A third of Adam's rate and 3 to 10 times its decay are the authors' choice.
    Caveats:
        A parameter's random numbers depend on its place among all parameters; keep their order when a run resumes. In
        the first 500 steps they are made anew at every step.
    """

    lr: fields.Rate = fields.lr(3e-4, 1e-4, 1e-2)
    momentum: float = fields.averaging_momentum(0.9, 0.01, 0.3)
    weight_decay: float = fields.weight_decay(0.0, "decay λ of matrices, which joins the step: ηλθ", 0.1, 0.6)
    preconditioner_update_probability: float | None = fields.hyper(
        None,
        "part π of the steps in which Q moves, one in ⌈1/π⌉; None: 1 for 500 steps, then down to 0.03 at step 4000",
        low=0.0,
        exclusive_low=True,
        high=1.0,
        inclusive_high=True,
        candidates=(0.3,),
    )
    max_size_triangular: int = fields.hyper(
        8192, "longest side with a triangular Q; others have a diagonal one", low=1, integer=True, candidates=(1,)
    )
    memory_save_mode: str | None = fields.hyper(
        None,
        "sides with a diagonal Q: the longer one ('smart_one_diag'), or of a square the columns ('one_diag'), or both "
        "('all_diag'); None: those that are too long",
        choices=("smart_one_diag", "one_diag", "all_diag"),
    )
    momentum_into_precond_update: bool = fields.hyper(True, "fit Q to the corrected momentum, and not to the gradient")
    precond_lr: float = fields.hyper(0.1, "length of a step of Q", low=0.0, exclusive_low=True, search=Search(0.1, 1.0))
    precond_init_scale: float = fields.hyper(
        1.0, "scale of the first Q, both sides together", low=0.0, exclusive_low=True, candidates=(0.1,)
    )
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()

    rule = matrix(rows=True, columns=True, view=None)

    @classmethod
    def matrix_rule(cls, options: Options, seen: Tensor, view: View | None) -> Rule:
        """Return the rule of matrices."""
        return matrix(*triangular_sides(options, seen), view)

    @classmethod
    def vector_rule(cls, options: Options, p: Tensor) -> Rule:
        """Return the rule of matrices of one column."""
        return matrix(rows=False, columns=None, view=column)


def triangular_sides(options: Options, seen: Tensor) -> tuple[Any, ...]:
    """Return whether Q is triangular for the rows, and for the columns, of a matrix."""
    n, m = seen.shape[-2:]
    diagonal = {
        None: (False, False),
        "smart_one_diag": (n > m, m > n),
        "one_diag": (n > m, m >= n),
        "all_diag": (True, True),
    }[options["memory_save_mode"]]
    longest = options["max_size_triangular"]
    return tuple(size <= longest and not is_saved for size, is_saved in zip((n, m), diagonal, strict=True))
