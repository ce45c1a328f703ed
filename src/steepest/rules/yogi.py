"""Yogi: Adam whose second moment moves by no more than g² at a step."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, sign, sqrt


def yogi(p, g, m, v, *, t, lr, beta1, beta2, eps):
    """p, g, m, v: same shape. Returns new (p, m, v)."""
    m = lerp(m, g, 1 - beta1)
    v = v - (1 - beta2) * sign(v - g * g) * g * g
    mhat = m / (1 - beta1**t)
    vhat = v / (1 - beta2**t)
    return p - lr * mhat / (sqrt(vhat) + eps), m, v


class Yogi(Optimizer):
    """Yogi: v goes towards g² by a part of g², so that it falls slowly where gradients become sparse.

    Source:
        Zaheer et al. 2018, "Adaptive methods for nonconvex optimization", NeurIPS 2018, Algorithm 2.
    Differs:
        torch has none. Same numbers as torch_optimizer, pytorch_optimizer and optax: m and v both start at 1e-6, and
        both are corrected as if they had started at 0. The paper starts v at a square of first gradients and corrects
        nothing. Decay is coupled by default, as in torch_optimizer; pytorch_optimizer decouples it.
    Use:
        Choose it over Adam in federated learning, as in FedYogi. Search η from 1e-3 to 3e-2, with ε = 1e-3 and 1e-8.
    """

    lr: fields.Rate = fields.lr(1e-2, 1e-3, 1e-1)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-3, 1e-8, 1e-3)
    weight_decay: float = fields.weight_decay()
    initial_accumulator_value: float = fields.hyper(1e-6, "value that the averages of g and of g² start at", low=0.0)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        yogi,
        "pointwise",
        (
            State("step", "step"),
            State("exp_avg", init="initial_accumulator_value"),
            State("exp_avg_sq", init="initial_accumulator_value", nonnegative=True),
        ),
    )
