"""QHM and QHAdam: a mixture of the gradient and its average."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Search, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, sqrt


def qhm(p, g, m, *, lr, momentum, nu):
    """p, g, m: same shape. Returns new (p, m)."""
    m = lerp(m, g, 1 - momentum)
    return p - lr * ((1 - nu) * g + nu * m), m


def qhadam(p, g, m, v, *, t, lr, beta1, beta2, eps, nu1, nu2):
    """p, g, m, v: same shape. Returns new (p, m, v)."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    u = (1 - nu1) * g + nu1 / (1 - beta1**t) * m
    w = (1 - nu2) * g * g + nu2 / (1 - beta2**t) * v
    return p - lr * u / (sqrt(w) + eps), m, v


MIXED = Search(0.5, 1.0, "linear")


class QHM(Optimizer):
    """Quasi-hyperbolic momentum: ν of the average of g and 1 - ν of g itself; ν = 1 is momentum, ν = μ Nesterov's form.

    Source:
        Ma and Yarats 2018, "Quasi-hyperbolic momentum and Adam for deep learning", arXiv:1810.06801.
    Differs:
        torch has none. Same numbers as the authors' code; the defaults of μ and ν are those that they recommend, where
        pytorch_optimizer's are plain descent. m is an average, so η is 1/(1 - μ) times that of SGD with momentum. It is
        not corrected for its start at 0.
    Use:
        Choose it over SGD with momentum to tune how much the newest gradient counts. Search ν from 0.5 to 1 and μ from
        0.9 to 0.999.
    """

    lr: fields.Rate = fields.lr(1e-3, 1e-3, 30.0)
    momentum: float = fields.averaging_momentum(0.999, 1e-3, 0.1)
    nu: float = fields.hyper(0.7, "weight ν of the average; 1 - ν is that of g", low=0.0, search=MIXED)
    weight_decay: float = fields.weight_decay()
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(qhm, "pointwise", (State("momentum_buffer"),))


class QHAdam(Optimizer):
    """QHAdam: Adam whose averages are mixed with the newest g and g²; ν = (1, 1) is Adam.

    Source:
        Ma and Yarats 2018, "Quasi-hyperbolic momentum and Adam for deep learning", arXiv:1810.06801.
    Differs:
        torch has none. Same numbers as the authors' code, which keeps corrected averages in its state; here they are
        Adam's. The defaults are Adam; the authors recommend ν = (0.7, 1) with β1 = 0.995. Decay is coupled by default.
    Use:
        Choose it over Adam to tune how much the newest gradient counts. Search ν from 0.5 to 1 and β1 from 0.9 to
        0.999.
    """

    lr: fields.Rate = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    nus: tuple[float, float] = fields.hyper(
        (1.0, 1.0),
        "weights ν of the averages of g and of g²; 1 - ν are those of g and g²",
        low=0.0,
        high=1.0,
        inclusive_high=True,
        names=("nu1", "nu2"),
        search=MIXED,
    )
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(qhadam, "pointwise", (State("step", "step"), State("exp_avg"), State("exp_avg_sq", nonnegative=True)))
