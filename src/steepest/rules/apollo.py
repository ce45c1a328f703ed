"""APOLLO: the gradient, scaled by how Adam would scale it in a random projection."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import cache
from math import sqrt

import torch
from torch import Tensor

from .. import fields
from ..fields import Options, State, View
from ..low_rank import LowRank, averages, rank, shorter_side, update_proj_gap
from ..noise import normal
from ..rule import Rule
from .galore import ADAMW, corrected, direction
from .soap import rotated

GROWTH = 1.01
"""Largest growth of a step's norm from one step to the next."""


def apollo(
    p, g, m, v, size, *, t, stream, lr, beta1, beta2, eps, weight_decay, update_proj_gap, scale, scale_type, scale_front
):
    """p, g: (..., n, m), m, v: like P'g for n < m, else gP, size: (..., 1, 1). Returns new (p, m, v, size).

    P has r columns of normal numbers as long as the shorter side; size is the norm of the last step, before its rate.
    """
    on_rows, _ = shorter_side(g)
    r = m.shape[-2] if on_rows else m.shape[-1]
    P = normal(stream, int((t - 1) // update_proj_gap), (*g.shape[:-2], min(g.shape[-2:]), r), device=g.device)
    P = (P / sqrt(max(1, r))).to(g.dtype)
    low = rotated(g, P if on_rows else None, None if on_rows else P)
    h, m, v = direction(low, m, v, beta1, beta2, eps)
    along = (-2, -1) if scale_type == "tensor" else -2 if on_rows else -1
    u = g * (length(h, along) / (length(low, along) + 1e-8))
    u = u * sqrt(scale) if scale_front else u
    new_size = length(u, (-2, -1))
    growth = torch.where(size > 0, (new_size / (size + 1e-8)).clamp(min=GROWTH) / GROWTH, 1)
    u = u / growth if scale_front else u / growth * sqrt(scale)
    p = p - corrected(lr, t, beta1, beta2) * u
    return p * (1 - lr * weight_decay), m, v, new_size / growth


def length(x: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """Return the norm along dimensions."""
    found: Tensor = torch.linalg.vector_norm(x, dim=dims, keepdim=True)
    return found


@cache
def matrix(rows: bool, rank: int, view: View | None) -> Rule:
    """Return the rule for matrices whose rows, or columns, are projected; another one for each rank."""
    state = (*averages(rows, not rows), State("scaled_grad", "matrix_scalar", nonnegative=True))
    return Rule(apollo, "matrix", state, is_real=True, view=view, branches=True)


class APOLLO(LowRank):
    """APOLLO: a step along the gradient, in the lengths that Adam has in a random projection of it.

    Parameters that are not matrices, and those of a group with ``rank=None``, are updated by AdamW. APOLLO-mini is
    ``rank=1, scale=128, scale_type="tensor"``.

    Source:
        Zhu et al. 2024, "APOLLO: SGD-like memory, AdamW-level performance", arXiv:2412.05270, Algorithm 1.
    Differs:
        The authors' package, apollo-torch: same numbers but for the random ones. Theirs are torch's, which differ
        between devices; ours are hashes of ``seed``, the parameter's place, the refresh and the element. The projection
        is made anew at each step and not kept. Its groups without ``rank`` are groups with ``rank=None`` here.
        pytorch_optimizer's APOLLO scales the projected gradient and not the gradient, and by ``scale`` twice. A step
        may grow by 1% of its norm from one step to the next; after a step of zero it may grow at will, where theirs
        must start from 1e-8. ``proj`` and ``proj_type`` are not there: the shorter side is projected at random.
        Convolutions are matrices; theirs go to AdamW.
    Use:
        Choose it over `GaLore` where singular vectors cost too much, and over AdamW where its averages do not fit. A
        rank of a quarter of the shorter side is the authors' choice.
    Caveats:
        A parameter's random numbers depend on its place among all parameters; keep their order when a run resumes.
        Language models take rates of 3e-3 to 2e-2; the search range goes further, since small models need more.
    """

    lr: fields.Rate = fields.lr(1e-2, 3e-3, 0.5)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-6)
    weight_decay: float = fields.weight_decay(0, "decay λ of the weights, θ ← θ - ηλθ after the step")
    rank: int | None = rank()
    update_proj_gap: int = update_proj_gap()
    scale: float = fields.hyper(1.0, "factor α of the step of projected matrices, which is scaled by √α", low=0.0)
    scale_type: str = fields.hyper(
        "channel",
        "scale each row or column of the longer side by its own number, or the tensor by one",
        choices=("channel", "tensor"),
    )
    scale_front: bool = fields.hyper(False, "scale by √α before the growth of a step is limited, and not after it")
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()

    aliases = fields.aliases(apollomini={"rank": 1, "scale": 128, "scale_type": "tensor"})
    rule = matrix(rows=False, rank=128, view=None)

    @classmethod
    def matrix_rule(cls, options: Options, seen: Tensor, view: View | None) -> Rule:
        """Return the rule of matrices."""
        return matrix(shorter_side(seen)[0], options["rank"], view)

    @classmethod
    def vector_rule(cls, options: Options, p: Tensor | None) -> Rule:
        """Return AdamW's rule."""
        return ADAMW
