"""GaLore: Adam on gradients that are projected to their leading singular vectors."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import cache

from torch import Tensor

from .. import fields
from ..fields import Options, View
from ..low_rank import LowRank, averages, bases, rank, shorter_side, update_proj_gap
from ..preconditioned import FAILURES
from ..rule import Rule
from ..spectral import leading
from ..vocabulary import lerp, sqrt
from .adam import MOMENTS
from .soap import back, rotated


def galore(p, g, m, v, PL, PR, failures, *, t, lr, beta1, beta2, eps, weight_decay, update_proj_gap, scale):
    """p, g: (..., n, m), PL: (..., n, r), PR: (..., m, r), m, v: like PL'g, gPR or PL'gPR. Returns new p and state.

    A side that is not projected has None.
    """
    if (t - 1) % update_proj_gap == 0:
        PL, failed = (PL, 0) if PL is None else leading(g, PL)
        PR, failed_too = (PR, 0) if PR is None else leading(g.mT, PR)
        failures = failures + failed + failed_too
    u, m, v = direction(rotated(g, PL, PR), m, v, beta1, beta2, eps)
    p = p - corrected(lr, t, beta1, beta2) * scale * back(u, PL, PR)
    return p * (1 - lr * weight_decay), m, v, PL, PR, failures


def direction(g, m, v, beta1, beta2, eps):
    """Return m / (√v + ε) and the new averages m and v of g; neither is corrected."""
    m, v = lerp(m, g, 1 - beta1), beta2 * v + (1 - beta2) * g * g
    return m / (sqrt(v) + eps), m, v


def corrected(lr, t, beta1, beta2):
    """Return the rate that corrects Adam's averages for their start at zero."""
    return lr * sqrt(1 - beta2**t) / (1 - beta1**t)


def adamw(p, g, m, v, *, t, lr, beta1, beta2, eps, weight_decay):
    """p, g, m, v: same shape. Returns new (p, m, v). ε is added before the correction, and decay comes last."""
    u, m, v = direction(g, m, v, beta1, beta2, eps)
    return (p - corrected(lr, t, beta1, beta2) * u) * (1 - lr * weight_decay), m, v


ADAMW = Rule(adamw, "pointwise", MOMENTS, is_real=True)


def sides(proj_type: str, seen: Tensor) -> tuple[bool, bool]:
    """Return whether the rows, and the columns, of a matrix are projected."""
    rows, columns = shorter_side(seen)
    chosen = {
        "std": (rows, columns),
        "reverse_std": (columns, rows),
        "right": (False, True),
        "left": (True, False),
        "full": (True, True),
    }
    return chosen[proj_type]


@cache
def matrix(rows: bool, columns: bool, rank: int, view: View | None) -> Rule:
    """Return the rule for matrices whose rows, columns, or both are projected; another one for each rank."""
    state = (*averages(rows, columns), *bases(rows, columns), FAILURES)
    return Rule(galore, "matrix", state, is_real=True, view=view, branches=True)


class GaLore(LowRank):
    """GaLore: AdamW in the memory of a projection, along the leading singular vectors of a gradient now and then.

    Parameters that are not matrices, and those of a group with ``rank=None``, are updated by AdamW.

    Source:
        Zhao et al. 2024, "GaLore: memory-efficient LLM training by gradient low-rank projection", arXiv:2403.03507,
        Algorithm 2.
    Differs:
        The authors' package, galore-torch: same numbers until the second projection. Then a singular vector has the
        sign that it had before, where theirs has any, so that averages do not turn. Its groups without ``rank`` are
        groups with ``rank=None`` here. pytorch_optimizer counts the steps to a refresh from 1, so that its first gap is
        one step shorter, and finds vectors in float32. ``reverse_std`` chooses the side by the gradient's shape; theirs
        reads the projected one. A rank above the shorter side is the full rank. The projection is two tensors in the
        state, where theirs is an object that a safe load refuses (ms-swift 10161). A projection that cannot be found
        keeps the old one, see `failures`. optax's projects the other side. Convolutions are matrices; theirs go to
        AdamW. ε is added before the correction, and decay comes after the step.
    Use:
        Choose it over AdamW where its averages do not fit: a matrix keeps two averages of r rows or columns, and r
        vectors. Its rate times ``scale`` compares with AdamW's. `APOLLO` needs no singular vectors.
    Caveats:
        Singular vectors of all matrices are found at the same step, every ``update_proj_gap`` steps; at 7 billion
        parameters that takes minutes. Averages are not turned into the new projection. Language models take rates of
        3e-3 to 2e-2; the search range goes further, since small models need more.
    """

    lr: fields.Rate = fields.lr(1e-2, 3e-3, 0.2)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-6)
    weight_decay: float = fields.weight_decay(0, "decay λ of the weights, θ ← θ - ηλθ after the step")
    rank: int | None = rank()
    update_proj_gap: int = update_proj_gap()
    scale: float = fields.hyper(0.25, "factor α of the step of projected matrices", low=0.0)
    proj_type: str = fields.hyper(
        "std",
        "side that is projected: the shorter ('std'), the longer ('reverse_std'), the columns ('right'), the rows "
        "('left'), or both ('full')",
        choices=("std", "reverse_std", "right", "left", "full"),
    )
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()

    rule = matrix(rows=False, columns=True, rank=128, view=None)

    @classmethod
    def matrix_rule(cls, options: Options, seen: Tensor, view: View | None) -> Rule:
        """Return the rule of matrices."""
        return matrix(*sides(options["proj_type"], seen), options["rank"], view)

    @classmethod
    def vector_rule(cls, options: Options, p: Tensor | None) -> Rule:
        """Return AdamW's rule."""
        return ADAMW
