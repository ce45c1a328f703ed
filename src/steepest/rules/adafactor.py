"""Adafactor: second moments of a matrix from one number per row and one per column."""

from __future__ import annotations

from dataclasses import KW_ONLY

from torch import Tensor

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import column_mean, lerp, maximum, minimum, rms, row_mean, sqrt


def adafactor(p, g, R, C, V, *, t, lr, beta2_decay, eps1, eps2, d, weight_decay, machine_eps):
    """p, g: (..., n, m), R: (..., n, 1), C: (..., 1, m), V: None; for a vector V is like p, and R and C are None.

    Returns new (p, R, C, V). Vhat is the outer product of R and C over the mean of R.
    """
    eps1 = machine_eps if eps1 is None else eps1
    rho = minimum(lr, 1 / sqrt(t))
    alpha = maximum(eps2, rms(p)) * rho
    p = p * (1 - lr * weight_decay)
    w = t**beta2_decay  # 1 - β̂2 of the paper
    if R is not None:
        R = lerp(R, row_mean(g * g), w)
        C = lerp(C, column_mean(g * g), w)
        vhat = R * C / maximum(column_mean(R), eps1)
    else:
        vhat = V = lerp(V, g * g, w)
    u = g / sqrt(maximum(vhat, eps1 * eps1))
    return p - alpha * u / maximum(1, rms(u) / d), R, C, V


def has_rows(p: Tensor) -> bool:
    """Return whether a parameter's second moments are factored, because its last two dimensions are a matrix."""
    return p.dim() > 1


class Adafactor(Optimizer):
    """Adafactor: Adam's second moment in the memory of one row and one column, steps relative to the parameter's size.

    Source:
        Shazeer and Stern 2018, "Adafactor: adaptive learning rates with sublinear memory cost", arXiv:1804.04235,
        Algorithms 4 (matrices) and 5 (vectors), with the schedules of Algorithm 6 and without momentum.
    Differs:
        torch: same numbers. As in torch: lr is the largest relative step ρ (the paper: 0.01) and the factor of the
        weight decay (the paper has none), which acts after RMS(θ) is taken and before the step; R and C hold means of
        g², not sums; ε1 bounds the mean of R and the root from below, where the paper adds it to g². eps1=None is the
        machine epsilon of each parameter's dtype; torch's own class takes that of the first parameter it meets for all
        of a group. NaN in θ makes the whole step NaN; torch takes ε2 for its RMS. Empty parameters rest; torch divides
        by 0. Tensors of more than two dimensions are stacks of matrices. torch's default is a loop, for memory; ours is
        one kernel on a CPU, without temporaries as large as a tensor, and elsewhere foreach, with temporaries of all
        tensors: foreach=False is the loop.
    Use:
        Choose it over AdamW where memory is scarce: a matrix keeps one number per row and one per column.
    """

    lr: fields.Rate = fields.lr(1e-2, invalid="Learning rate should be >= 0 but is: {value}")
    beta2_decay: float = fields.hyper(
        -0.8,
        "power with which the average of g² slows down: it keeps 1 - t^beta2_decay of itself",
        high=0.0,
        inclusive_high=True,
        candidates=(-0.5,),
        invalid="beta2_decay should be <= 0 but is: {value}",
    )
    eps: tuple[float | None, float] = fields.hyper(
        (None, 1e-3),
        "lower bounds: ε1 of the root of the second moment (None: the dtype's machine epsilon), ε2 of RMS(θ)",
        low=0.0,
        names=("eps1", "eps2"),
        candidates=((1e-3, 1.0),),
        invalid="epsilon{number} should be >= 0 but is: {value}",
    )
    d: float = fields.hyper(
        1.0,
        "largest root mean square of an update, relative to the learning rate",
        low=1.0,
        invalid="Clipping threshold d should be >= 1 but is: {value}",
    )
    weight_decay: float = fields.weight_decay(
        0.0,
        "decay λ of the weights themselves, θ ← θ - ηλθ before the step",
        invalid="weight_decay should be >= 0 but is: {value}",
    )
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()

    rule = Rule(
        adafactor,
        "per_tensor",
        (
            State("step", "step"),
            State("row_var", "row", where=has_rows, nonnegative=True),
            State("col_var", "column", where=has_rows, nonnegative=True),
            State("variance", where=lambda p: not has_rows(p), nonnegative=True),
        ),
        is_real=True,
    )
