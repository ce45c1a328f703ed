"""Adagrad: every coordinate has its own rate, which falls with the squares that it has seen."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import sqrt


def adagrad(p, g, G, *, t, lr, lr_decay, eps, eps_in_sqrt):
    """p, g, G: same shape. Returns new (p, G)."""
    eta = lr / (1 + (t - 1) * lr_decay)
    G = G + g * g
    d = sqrt(G + eps) if eps_in_sqrt else sqrt(G) + eps
    return p - eta * g / d, G


class Adagrad(Optimizer):
    """Adagrad: θ ← θ - η g / (√G + ε), where G sums the squares of all gradients.

    Source:
        Duchi, Hazan and Singer 2011, "Adaptive subgradient methods for online learning and stochastic optimization".
    Differs:
        torch: same numbers. ε is added to the root, as in torch; under it with ``eps_in_sqrt=True``, as in many
        articles, Keras and optax (which also start the sum at 0.1, ``initial_accumulator_value=0.1``, and use ε =
        1e-7). Decay is coupled, as in torch; Keras decouples it, ``decoupled_weight_decay=True``. A sparse gradient
        costs what its elements cost, as in torch; complex ones are two real ones there too, where torch squares them as
        complex.
    """

    lr: fields.Rate = fields.lr(1e-2)
    lr_decay: float = fields.hyper(0, "η falls as η / (1 + (t - 1)·lr_decay)", low=0.0)
    weight_decay: float = fields.weight_decay()
    initial_accumulator_value: float = fields.hyper(0, "the value that the sum starts at", low=0.0)
    eps: float = fields.eps(1e-10)
    foreach: bool | None = fields.foreach()
    _: KW_ONLY
    maximize: bool = fields.maximize()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    eps_in_sqrt: bool = fields.eps_in_sqrt()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        adagrad,
        "pointwise",
        (
            State("step", "step", at_construction=True),
            State("sum", init="initial_accumulator_value", at_construction=True, nonnegative=True),
        ),
        sparse="exact",
    )
