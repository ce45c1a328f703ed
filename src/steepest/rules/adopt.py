"""ADOPT: Adam that normalises each gradient by the second moment of those before it."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Search, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, maximum, minimum, sqrt


def adopt(p, g, m, v, *, t, lr, beta1, beta2, eps, clip_exp, first):
    """p, g, m, v: same shape. Returns new (p, m, v). The first step fills v and moves nothing."""
    if first:
        return p, m, g * g
    n = g / maximum(sqrt(v), eps)
    if clip_exp is not None:
        c = (t - 1) ** clip_exp
        n = minimum(maximum(n, -c), c)
    m = lerp(m, n, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    return p - lr * m, m, v


class ADOPT(Optimizer):
    """ADOPT: the gradient over the root of the old v, clipped, then averaged; converges with any β2.

    Source:
        Taniguchi et al. 2024, "ADOPT: modified Adam can converge with any β2 with the optimal rate",
        arXiv:2411.02853v3, with the clipping of its third version.
    Differs:
        torch has none. Same numbers as the authors' code since its release with a clip; ``clip_exp=None`` is the one
        before, timm has 1/3. The first step sets v to g² and neither moves nor decays the weights; pytorch_optimizer
        decays them, and its clip counts one step too many. The root is bounded by ε and not increased by it. Nothing
        is corrected for the start. Decay is coupled by default, as in the authors' code, and is then part of v.
    Use:
        Choose it over Adam where β2 is hard to choose: it converges with any (arXiv:2411.02853). Rates are AdamW's; try
        β2 = 0.99, 0.999 and 0.9999.
    Caveats:
        Without the clip, ``clip_exp=None``, it is sensitive to layers that start at zero.
    """

    lr: fields.Rate = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas(
        (0.9, 0.9999),
        "decay rates of the averages of the normalised g and of g²",
        search=Search(1e-4, 0.3, complement=True),
    )
    eps: float = fields.eps(1e-6)
    weight_decay: float = fields.weight_decay()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    clip_exp: float | None = fields.hyper(
        0.25,
        "the normalised g is clipped at this power of the steps before it; None: no clip",
        low=0.0,
        candidates=(None, 0.5),
    )
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(adopt, "pointwise", (State("step", "step"), State("exp_avg"), State("exp_avg_sq", nonnegative=True)))
