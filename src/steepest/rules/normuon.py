"""NorMuon: Muon whose rows move by equal lengths."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import torch

from .. import fields
from ..companion import WithCompanion
from ..fields import Options, State
from ..orthogonal import matrix_norm, resized, scaled
from ..rule import Rule
from ..vocabulary import lerp, row_mean, sqrt
from .muon import NS_EPS, adjust_lr_fn, averaged, check_iteration, nesterov, ns_coefficients, ns_dtype, ns_steps, polar


def normuon(
    p, g, B, v, *, lr, momentum, beta2, nesterov, ns_coefficients, ns_steps, ns_dtype, eps, adjust_lr_fn, precision
):
    """p, g, B: (..., n, m), matrices or stacks of them; v: (..., n, 1). Returns new (p, B, v)."""
    B, u = averaged(g, B, momentum, nesterov)
    O = polar(u, ns_coefficients, ns_steps, NS_EPS, ns_dtype or precision)  # noqa: E741 - the paper's letter
    v = lerp(v, row_mean(O * O).to(v.dtype), 1 - beta2)
    N = resized(O / (sqrt(v) + eps), matrix_norm(O)).to(O.dtype)
    return p - lr * scaled(N, adjust_lr_fn), B, v


class NorMuon(WithCompanion):
    """NorMuon: an orthogonalized momentum whose rows, the neurons, are brought to equal lengths by an average.

    Source:
        Li et al. 2025, "NorMuon: making Muon more efficient and scalable", arXiv:2510.05491.
    Differs:
        torch has none. Numbers as in the authors' code: η 0.02, μ 0.95, β2 0.95, ε 1e-10, no correction of v's start,
        and the norm of O is kept, under each convention of the rate. The paper's algorithm has steps of a root mean
        square of 0.2: ``adjust_lr_fn="rms_norm"``. Convolutions have a row per output channel; the authors' code
        averages over the kernel's last dimension. Rows are always the first dimension of the matrix; modded-nanogpt
        and NVIDIA's take the longer side. dion has ε 1e-8 and the factor √(n/m). pytorch_optimizer's iterates in
        bfloat16 as ours does, so that both agree within its rounding.
    Use:
        Choose it over `Muon` for one number more per row, where neurons get updates of very different lengths.
    Caveats:
        In modded-nanogpt's benchmark of optimizers it took 3,250 steps, as many as a tuned `Muon`.
    """

    lr: fields.Rate = fields.lr(0.02, 5e-3, 0.1)
    weight_decay: float = fields.weight_decay(0, fields.OF_WEIGHTS)
    momentum: float = fields.averaging_momentum(0.95, 0.01, 1.0)
    beta2: float = fields.hyper(
        0.95,
        "decay rate of the average of a row's mean square",
        low=0.0,
        high=1.0,
        search=fields.BETAS,
        is_decay=True,
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
        normuon,
        "matrix",
        (State("momentum_buffer"), State("second_momentum_buffer", "left_vector")),
        is_real=True,
        precision=torch.bfloat16,
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse a hundred iterations or more, and other numbers of steps than a preset has."""
        check_iteration(options)
