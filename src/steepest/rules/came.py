"""CAME: Adafactor's normalised update, averaged, and divided by how far it strays from its average."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Search, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import column_mean, lerp, maximum, rms, row_mean, sqrt
from .adafactor import has_rows


def came(p, g, m, R, C, Ru, Cu, v, *, lr, beta1, beta2, beta3, eps1, eps2, clip_threshold):
    """p, g, m: (..., n, m), R, Ru: (..., n, 1), C, Cu: (..., 1, m), v: None; for a vector v is like p, they are None.

    Returns new p and state. Nothing is corrected for its start at zero.
    """
    square = g * g + eps1
    if R is not None:
        R, C = lerp(R, row_mean(square), 1 - beta2), lerp(C, column_mean(square), 1 - beta2)
        u = g / root(R, C)
    else:
        v = lerp(v, square, 1 - beta2)
        u = g / sqrt(v)
    u = u / maximum(1, rms(u) / clip_threshold)
    m = lerp(m, u, 1 - beta1)
    if R is None:
        return p - lr * m, m, R, C, Ru, Cu, v
    unsteady = (u - m) * (u - m) + eps2
    Ru, Cu = lerp(Ru, row_mean(unsteady), 1 - beta3), lerp(Cu, column_mean(unsteady), 1 - beta3)
    return p - lr * m / root(Ru, Cu), m, R, C, Ru, Cu, v


def root(R, C):
    """Return the root of the matrix with these means of rows and columns; R's and C's own roots, since RC may be 0."""
    return sqrt(R / column_mean(R)) * sqrt(C)


def is_vector(p):
    """Return whether a parameter has one second moment for each element."""
    return not has_rows(p)


class CAME(Optimizer):
    """CAME: Adafactor's memory for the second moment, and a confidence in the average of its updates.

    Source:
        Luo et al. 2023, "CAME: confidence-guided adaptive memory efficient optimization", arXiv:2307.02047, Algorithm
        2.
    Differs:
        torch has none. Same numbers as came-pytorch and pytorch_optimizer. ``eps`` is a pair as in came-pytorch.
        Neither average is corrected for its start at zero, as in the authors' code. Vectors step by the average of
        their normalised updates, without a confidence. Tensors of more than two dimensions are stacks of matrices.
        Means of half-precision squares are computed in float32, so ε1 is never lost.
    Use:
        Choose it over `Adafactor` where one average of the size of the model fits in memory: it trains large language
        models as well as AdamW in the paper. Its rate is a third to a tenth of AdamW's: 5e-5 to 3e-4 there. The search
        range goes further, since small models need more (see docs/convergence.md).
    Caveats:
        The first step is about eleven times η in root mean square, because no average is corrected: warm the rate up.
    """

    lr: fields.Rate = fields.lr(2e-4, 5e-5, 1e-2)
    betas: tuple[float, float, float] = fields.betas(
        (0.9, 0.999, 0.9999),
        "decay rates of the averages of updates, of g² and of the updates' squared distance to their average",
        search=Search(1e-4, 0.3, complement=True),
    )
    eps: tuple[float, float] = fields.hyper(
        (1e-30, 1e-16),
        "small constants: ε1 added to g², ε2 added to the squared distance",
        low=0.0,
        names=("eps1", "eps2"),
        candidates=((1e-8, 1e-6),),
    )
    clip_threshold: float = fields.hyper(1.0, "largest root mean square of a normalised update", low=0.0)
    weight_decay: float = fields.weight_decay(0, fields.OF_WEIGHTS)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        came,
        "per_tensor",
        (
            State("exp_avg"),
            State("exp_avg_sq_row", "row", where=has_rows, nonnegative=True),
            State("exp_avg_sq_col", "column", where=has_rows, nonnegative=True),
            State("exp_avg_res_row", "row", where=has_rows, nonnegative=True),
            State("exp_avg_res_col", "column", where=has_rows, nonnegative=True),
            State("exp_avg_sq", where=is_vector, nonnegative=True),
        ),
        is_real=True,
    )
