"""Momentum and Nesterov's accelerated gradient in their classical form: the learning rate inside the velocity."""

from __future__ import annotations

from dataclasses import KW_ONLY

from torch import Tensor

from .. import fields
from ..fields import Options, State
from ..optimizer import Optimizer
from ..rule import Rule


def classical_momentum(p, g, v, *, lr, momentum):
    """p, g, v: same shape. Returns new (p, v)."""
    v = momentum * v + lr * g
    return p - v, v


def nag(p, g, v, *, lr, momentum):
    """p, g, v: same shape; g is taken at the stored point p. Returns new (p, v)."""
    v = momentum * v + lr * g
    return p - (lr * g + momentum * v), v


def nag_lookahead(x, v, *, lr, momentum):
    """x, v: vectors. Asks for the gradient at the point ahead, x - momentum * v. Returns new (x, v)."""
    _, g = yield x - momentum * v
    v = momentum * v + lr * g
    return x - v, v


VELOCITY = State("momentum_buffer")


class Momentum(Optimizer):
    """Classical momentum: v ← μv + ηg, θ ← θ - v.

    Source:
        Polyak 1964, "Some methods of speeding up the convergence of iteration methods"; Sutskever et al. 2013, eq. 1-2.
    Differs:
        torch.optim.SGD(momentum=μ) keeps η outside the buffer: equal while η is constant, different after it changes.
        Keras's SGD has η inside, as here, and decouples its decay, ``decoupled_weight_decay=True``.
    """

    lr: fields.Rate = fields.lr(1e-2, 1e-4, 10.0)
    momentum: float = fields.momentum(0.9)
    weight_decay: float = fields.weight_decay()
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(classical_momentum, "pointwise", (VELOCITY,))


class NAG(Momentum):
    """Nesterov's accelerated gradient: rewritten at the stored point, or as true look-ahead (``step`` needs a closure).

    Rewritten: v ← μv + ηg, θ ← θ - (ηg + μv). Look-ahead: v ← μv + η∇J(θ - μv), θ ← θ - v. With constant μ the
    rewritten form's θ is the look-ahead form's point ahead, θ - μv. With ``true_lookahead=True`` weight decay and
    maximize act on the function whose gradient is taken ahead, and there is one parameter group.

    Source:
        Nesterov 1983; look-ahead form: Sutskever et al. 2013, eq. 3-4; rewritten form: Bengio et al. 2013, eq. 7.
    Differs:
        torch.optim.SGD(nesterov=True) is the rewritten form with η outside the buffer: equal while η is constant. Keras
        has η inside, as here. θ ← θ - (1 + μ)v, found in articles, is a different rule (it adds μ·v_old too much).
    """

    _: KW_ONLY
    true_lookahead: bool = fields.hyper(False, "take the gradient at the point ahead, θ - μv; step() needs a closure")

    aliases = fields.aliases(nesterov={})
    ahead = Rule(nag_lookahead, "driver", (VELOCITY,))
    rule = Rule(nag, "pointwise", (VELOCITY,))

    @classmethod
    def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
        """Return the rule of the look-ahead form, which asks for gradients, or that of the rewritten form."""
        return cls.ahead if options["true_lookahead"] else cls.rule

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse decoupled decay for the look-ahead form, which decays through the function that it evaluates."""
        super().check(options)
        if options["true_lookahead"] and options["decoupled_weight_decay"]:
            raise ValueError(
                "true_lookahead=True takes the decay's gradient at the point ahead; it has no decoupled decay"
            )
