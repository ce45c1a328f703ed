"""SGD, ASGD, Rprop and Adagrad: no state at all, scalars that are no counter, first values that are not zero."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

from steepest import Optimizer, Rule, State, fields


def sgd(p: Any, g: Any, b: Any, *, lr: Any) -> Any:
    return p, b


class SGD(Optimizer):
    """State only with momentum, and no step count."""

    lr: float = fields.lr(1e-3)
    momentum: float = fields.hyper(0, "momentum", low=0.0)
    dampening: float = fields.hyper(0, "dampening")
    weight_decay: float = fields.weight_decay()
    nesterov: bool = fields.hyper(False, "Nesterov's form")
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()

    rule = Rule(sgd, "pointwise", (State("momentum_buffer", when=lambda o: o["momentum"] != 0),))


def asgd(p: Any, g: Any, eta: Any, mu: Any, ax: Any, *, lr: Any, t: Any) -> Any:
    return p, eta, mu, ax


class ASGD(Optimizer):
    """Two scalars beside the step, one of which starts at lr."""

    lr: float = fields.lr(1e-2)
    lambd: float = fields.hyper(1e-4, "decay term")
    alpha: float = fields.hyper(0.75, "power of the rate")
    t0: float = fields.hyper(1e6, "where averaging begins")
    weight_decay: float = fields.weight_decay()
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    differentiable: bool = fields.differentiable()
    capturable: bool = fields.capturable()

    rule = Rule(
        asgd,
        "pointwise",
        (State("step", "step"), State("eta", "scalar", init="lr"), State("mu", "scalar", init=1.0), State("ax")),
    )


def rprop(p: Any, g: Any, prev: Any, step_size: Any, *, lr: Any) -> Any:
    return p, prev, step_size


class Rprop(Optimizer):
    """A state tensor that starts at lr."""

    lr: float = fields.lr(1e-2)
    etas: tuple[float, float] = fields.hyper((0.5, 1.2), "factors of the step size", names=("eta_minus", "eta_plus"))
    step_sizes: tuple[float, float] = fields.hyper((1e-6, 50), "bounds of the step size", names=("least", "most"))
    _: KW_ONLY
    capturable: bool = fields.capturable()
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    differentiable: bool = fields.differentiable()

    rule = Rule(rprop, "pointwise", (State("step", "step"), State("prev"), State("step_size", init="lr")))


def adagrad(p: Any, g: Any, total: Any, *, lr: Any, t: Any) -> Any:
    return p, total


class Adagrad(Optimizer):
    """State that exists at construction."""

    lr: float = fields.lr(1e-2)
    lr_decay: float = fields.hyper(0, "decay of the rate", low=0.0)
    weight_decay: float = fields.weight_decay()
    initial_accumulator_value: float = fields.hyper(0, "first value of the sum", low=0.0)
    eps: float = fields.eps(1e-10)
    foreach: bool | None = fields.foreach()
    _: KW_ONLY
    maximize: bool = fields.maximize()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()

    rule = Rule(
        adagrad,
        "pointwise",
        (
            State("step", "step", at_construction=True),
            State("sum", init="initial_accumulator_value", at_construction=True),
        ),
    )
