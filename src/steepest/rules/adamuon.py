"""AdaMuon: Muon whose orthogonalized signs are normalised element by element."""

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
from ..vocabulary import sign as sign_of
from .muon import NS_EPS, averaged, check_iteration, nesterov, ns_coefficients, ns_dtype, ns_steps, polar


def adamuon(
    p, g, B, v, *, lr, momentum, beta2, nesterov, ns_coefficients, ns_steps, ns_dtype, eps, sign, precision, whole
):
    """p, g, B, v: (..., n, m), matrices or stacks of them. Returns new (p, B, v)."""
    B, u = averaged(g, B, momentum, nesterov)
    u = sign_of(u) if sign else u
    O = polar(u, ns_coefficients, ns_steps, NS_EPS, ns_dtype or precision, whole)  # noqa: E741 - the paper's letter
    v = lerp(v, O * O, 1 - beta2)
    return p - lr * scaled(O / (sqrt(v) + eps), "rms_norm", whole), B, v


class AdaMuon(WithCompanion):
    """AdaMuon: the sign of the momentum, orthogonalized, then divided by the root of its own average square.

    Source:
        Si, Zhang and Shen 2025, "AdaMuon: adaptive Muon optimizer", arXiv:2507.11005.
    Differs:
        torch has none. As in the authors' code the sign is taken before the iteration, v has the momentum's decay and
        no correction, and a step has a root mean square of 0.2. timm's and NVIDIA's leave the sign out:
        ``sign=False``. timm's v has a rate of its own: ``beta2``. A correction of v's start, which timm has for some
        scales and pytorch_optimizer always, would cancel in the root mean square, but for ε. Convolutions are matrices
        with a row per output channel, also for the size of a step; timm's steps were up to 512 times too small there.
    Use:
        Choose it over `Muon` to reuse AdamW's learning rate and decay, with sizes that adapt to each element.
    Caveats:
        Users of the authors' code report no gain over AdamW at equal learning rates.
    """

    lr: fields.Rate = fields.lr(0.02, 1e-4, 5e-2)
    weight_decay: float = fields.weight_decay(0.01, fields.OF_WEIGHTS)
    momentum: float = fields.averaging_momentum(0.95, 0.01, 1.0)
    beta2: float | None = fields.hyper(
        None,
        "decay rate of the average of the orthogonalized matrix's squares; None: the momentum",
        low=0.0,
        high=1.0,
        is_decay=True,
        default_from="momentum",
    )
    nesterov: bool = nesterov()
    ns_coefficients: Any = ns_coefficients()
    ns_steps: int = ns_steps()
    eps: float = fields.eps(1e-8, exclusive_low=True)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    ns_dtype: str | None = ns_dtype()
    sign: bool = fields.hyper(True, "orthogonalize the sign of the momentum, and not the momentum")

    rule = Rule(
        adamuon,
        "matrix",
        (State("momentum_buffer"), State("second_momentum_buffer", nonnegative=True)),
        is_real=True,
        precision=torch.bfloat16,
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse a hundred iterations or more, and other numbers of steps than a preset has."""
        check_iteration(options)
