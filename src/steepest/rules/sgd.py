"""Gradient descent, with torch's momentum, dampening and Nesterov's rewritten form."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

from .. import fields
from ..fields import Options, State
from ..optimizer import Optimizer
from ..rule import Rule


def sgd(p, g, b, *, lr, momentum, dampening, nesterov, first):
    """p, g, b: same shape; b is None without momentum. Returns new (p, b). The buffer starts at g, undampened."""
    if b is None:
        return p - lr * g, None
    b = g if first else momentum * b + (1 - dampening) * g
    u = g + momentum * b if nesterov else b
    return p - lr * u, b


class SGD(Optimizer):
    """Gradient descent, on any batch; with momentum the heavy ball, with Nesterov's form looking ahead.

    Source:
        Robbins and Monro 1951; Polyak 1964 (momentum); Nesterov 1983, in the form of Sutskever et al. 2013.
    Differs:
        torch: same numbers. Like torch, and unlike Keras and the papers, the learning rate stays outside the buffer,
        which matters once it changes; `Momentum` and `NAG` have it inside. The buffer's first value is g (dampening is
        skipped once), as in torch and optax. Decay is coupled, as in torch; Keras decouples it. A sparse gradient costs
        what its elements cost; its momentum buffer is sparse and grows to all elements that any gradient has had, as in
        torch. Where torch fails, a sparse buffer becomes dense with the first dense gradient, and a dense one takes
        sparse gradients with Nesterov's form too.
    Use:
        Choose it for convolutional networks with batch normalisation, where you can afford to tune η. Nesterov's
        momentum of 0.9 with η = 0.1 for batches of 256 is a start.
    Caveats:
        Without momentum the option ``cautious`` is pointless: update and gradient always agree.
    """

    lr: fields.Rate = fields.lr(1e-3, 1e-4, 10.0)
    momentum: float = fields.momentum(0)
    dampening: float = fields.hyper(0, "how much less than the whole gradient enters the buffer")
    weight_decay: float = fields.weight_decay()
    nesterov: bool = fields.hyper(False, "step along g + μb, the gradient seen ahead, and not along b")
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        sgd,
        "pointwise",
        (State("momentum_buffer", when=lambda o: o["momentum"] != 0, sparse=True),),
        sparse="exact",
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse Nesterov's form without momentum or with dampening."""
        super().check(options)
        momentum: Any = options["momentum"]
        if options["nesterov"] and (momentum <= 0 or options["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
