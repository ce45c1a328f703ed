"""NAdam, RAdam and NovoGrad: a scalar product, a counter alone, and one number per tensor."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

from steepest import Optimizer, Rule, State, fields


def nadam(p: Any, g: Any, M: Any, m: Any, v: Any, *, lr: Any, t: Any) -> Any:
    return p, M, m, v


class NAdam(Optimizer):
    """A scalar that starts at 1, between the step and the moments."""

    lr: float = fields.lr(2e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    momentum_decay: float = fields.hyper(4e-3, "momentum schedule", low=0.0)
    decoupled_weight_decay: bool = fields.hyper(False, "as AdamW")
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()

    rule = Rule(
        nadam,
        "pointwise",
        (State("step", "step"), State("mu_product", "scalar", init=1.0), State("exp_avg"), State("exp_avg_sq")),
    )


def radam(p: Any, g: Any, m: Any, v: Any, *, lr: Any, t: Any) -> Any:
    return p, m, v


class RAdam(Optimizer):
    """Adam's state."""

    lr: float = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    decoupled_weight_decay: bool = fields.hyper(False, "as AdamW")
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()

    rule = Rule(radam, "pointwise", (State("step", "step"), State("exp_avg"), State("exp_avg_sq")))


def novograd(p: Any, g: Any, m: Any, v: Any, *, lr: Any) -> Any:
    return p, m, v


class NovoGrad(Optimizer):
    """One second moment per tensor. torch has no such class."""

    lr: float = fields.lr(1e-2)
    betas: tuple[float, float] = fields.betas((0.95, 0.98))
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()

    rule = Rule(novograd, "per_tensor", (State("exp_avg"), State("exp_avg_sq", "tensor_scalar")))
