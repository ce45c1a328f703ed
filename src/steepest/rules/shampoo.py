"""Shampoo: gradients between inverse roots of the second moments of their rows and of their columns."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .. import fields
from ..fields import Options, Search, State, View
from ..matrices import column
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
from ..spectral import inverse_root
from ..vocabulary import lerp


def shampoo(
    p, g, m, v, L, R, iL, iR, failures, phase,
    *, t, lr, beta1, beta2, beta3, eps, precondition_frequency, start_preconditioning_step, exponent, correct_bias,
    graft, graft_beta2, graft_eps,
):  # fmt: skip
    """p, g, m, v: (..., n, m), L, iL: (..., n, n), R, iR: (..., m, m). Returns new p and state.

    A side that is not preconditioned has None. iL and iR are the inverse roots, of the last refresh.
    """
    beta3 = beta1 if beta3 is None else beta3
    filtered = lerp(m, g, 1 - beta3) / (1 - beta3 * beta1 ** (t - 1) if correct_bias else 1)
    m = lerp(m, g, 1 - beta1)
    v, direction = grafted(filtered, g, v, t, graft, graft_beta2, graft_eps)
    L, R = summed(L, g, beta2), summed(R, g.mT, beta2)
    start = precondition_frequency if start_preconditioning_step is None else start_preconditioning_step
    if t == start or (t > start and is_due(t, precondition_frequency, phase)):
        sides = (L is not None) + (R is not None)
        power = 1 / (2 * sides) if exponent is None and sides else exponent
        correction = 1 - beta2**t if correct_bias and beta2 < 1 else 1
        iL, failed = refreshed(L, iL, correction, power, eps)
        iR, failed_too = refreshed(R, iR, correction, power, eps)
        failures = failures + failed + failed_too
    if t < start:
        return p - lr * direction, m, v, L, R, iL, iR, failures, phase
    u = filtered if iL is None else iL @ filtered
    u = u if iR is None else u @ iR
    u = u if graft is None else u * (length(direction) / (length(u) + 1e-16))
    return p - lr * u, m, v, L, R, iL, iR, failures, phase


def summed(A: Tensor | None, g: Tensor, beta2: float) -> Tensor | None:
    """Return the running average of gg', or its sum for β2 = 1."""
    return None if A is None else A * beta2 + (g @ g.mT) * (1 - beta2 if beta2 < 1 else 1)


def refreshed(A: Tensor | None, old: Tensor | None, correction: float, power: float, eps: float) -> tuple[Any, Any]:
    """Return the inverse root of A, and what failed."""
    return (old, 0) if A is None or old is None else inverse_root(A / correction, old, power, eps)


def grafted(
    filtered: Tensor, g: Tensor, v: Tensor | None, t: float, graft: str | None, beta2: float, eps: float
) -> tuple[Tensor | None, Tensor]:
    """Return the new second moment and the direction of the rule whose length a step takes."""
    if v is None:
        return v, filtered
    v = v + g * g if graft == "adagrad" else lerp(v, g * g, 1 - beta2)
    return v, filtered / (torch.sqrt(v / (1 - beta2**t) if graft == "adam" else v) + eps)


def length(x: Tensor) -> Tensor:
    """Return the norm of each matrix of a stack, (..., 1, 1)."""
    found: Tensor = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    return found


def has_moment(options: Options) -> bool:
    """Return whether the rule whose length a step takes has a second moment."""
    return options["graft"] not in (None, "sgd")


@cache
def matrix(rows: bool, columns: bool, view: View | None) -> Rule:
    """Return the rule for matrices whose rows, columns, or both are preconditioned."""
    left, right = presence(rows, columns)
    state = (
        State("step", "step"),
        State("filtered_grad"),
        State("graft_sq", when=has_moment, nonnegative=True),
        State("factor_0", "left", when=left),
        State("factor_1", "right", when=right),
        State("inverse_root_0", "left", init="identity", when=left),
        State("inverse_root_1", "right", init="identity", when=right),
        FAILURES,
        PHASE,
    )
    return Rule(shampoo, "matrix", state, is_real=True, view=view, branches=True)


class Shampoo(Preconditioned):
    """Shampoo: steepest descent under a metric learned from rows and columns, L^(-1/4) m R^(-1/4).

    A vector is a matrix of one column, with full-matrix Adagrad's root L^(-1/2).

    Source:
        Gupta, Koren and Singer 2018, "Shampoo: preconditioned stochastic tensor optimization", arXiv:1802.09568; in the
        form of Shi et al. 2023, "A distributed data-parallel PyTorch implementation of the distributed Shampoo
        optimizer", arXiv:2309.06497, which won AlgoPerf 2024 with ``graft="adam"``.
    Differs:
        Meta's distributed_shampoo: same equations, on whole matrices: sides of more than ``max_precond_dim`` are not
        preconditioned, where theirs are cut into blocks, and small dimensions are not merged. A root that cannot be
        found keeps the old one, see `failures`; theirs raises after three in a row. The paper starts at εI, sums
        (betas[1]=1), and has neither average of the gradient, correction nor graft; pytorch_optimizer's Shampoo is that
        form. Decay is decoupled and part of the step, ηλθ.
    Use:
        Choose it over `SOAP` where its second moment is too much memory or roots are refreshed rarely. Give it
        ``graft="adam"``, the rate of `AdamW`, betas[1] of 0.95 to 0.999 and ``precondition_frequency`` of 10 to 100.
    Caveats:
        ε is its most sensitive number: 1e-12 to 1e-1 have been swept.
    """

    lr: fields.Rate = fields.lr(1e-2, 3e-4, 1e-1)
    betas: tuple[float, float] = fields.hyper(
        (0.9, 1.0),
        "decay rates of the averages of g and of gg'; β2 = 1 sums",
        low=0.0,
        high=1.0,
        inclusive_high=True,
        names=("beta1", "beta2"),
        is_decay=True,
        search=Search(1e-3, 0.3, complement=True),
        invalid="Invalid beta parameter at index {index}: {value}",
    )
    beta3: float | None = fields.hyper(
        None,
        "decay rate of the average that a step takes; None: β1, and β1² is NAdam's look ahead",
        low=0.0,
        high=1.0,
        is_decay=True,
        candidates=(0.81,),
    )
    eps: float = fields.eps(1e-12, 1e-12, 1e-4)
    weight_decay: float = fields.weight_decay(0.0, fields.OF_WEIGHTS)
    precondition_frequency: int = precondition_frequency(1)
    start_preconditioning_step: int | None = fields.hyper(
        None,
        "step of the first roots, before which the graft's direction is taken; None: precondition_frequency",
        low=1,
        integer=True,
        candidates=(4,),
    )
    max_precond_dim: int = max_precond_dim(1024)
    exponent: float | None = fields.hyper(
        None,
        "exponent of the inverse roots; None: 1/4 for a matrix, 1/2 for a vector or one side",
        low=0.0,
        exclusive_low=True,
        candidates=(0.5,),
    )
    correct_bias: bool = fields.hyper(True, "correct the averages for their start at zero")
    graft: str | None = fields.hyper(
        None,
        "rule whose length each step takes, with Shampoo's direction",
        choices=("sgd", "adagrad", "rmsprop", "adam"),
    )
    graft_beta2: float = fields.hyper(0.999, "decay rate of the graft's second moment", low=0.0, high=1.0)
    graft_eps: float = fields.hyper(1e-8, "the graft's ε", low=0.0)
    _: KW_ONLY
    spread: bool = spread()
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = matrix(rows=True, columns=True, view=None)

    @classmethod
    def matrix_rule(cls, options: Options, seen: Tensor, view: View | None) -> Rule:
        """Return the rule of matrices."""
        return matrix(*sides(options, seen), view)

    @classmethod
    def vector_rule(cls, options: Options, p: Tensor) -> Rule:
        """Return the rule of matrices of one column."""
        return matrix(p.numel() <= options["max_precond_dim"], columns=False, view=column)
