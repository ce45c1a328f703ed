"""Signum and SignSGD: the sign of the momentum, or of the gradient."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

from .. import fields
from ..fields import Options, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, sign


def signum(p, g, m, *, lr, momentum, nesterov):
    """p, g, m: same shape; m is None without momentum. Returns new (p, m)."""
    if m is None:
        return p - lr * sign(g), None
    m = lerp(m, g, 1 - momentum)
    u = lerp(m, g, 1 - momentum) if nesterov else m
    return p - lr * sign(u), m


class Signum(Optimizer):
    """Signum: every coordinate moves by η, along the sign of the average of g; without momentum SignSGD.

    Source:
        Bernstein et al. 2018, "signSGD: compressed optimisation for non-convex problems", arXiv:1802.04434, Alg. 1-2.
    Differs:
        torch has none. m is an average that starts at 0; a sum, as in SGD, has the same sign. Nesterov's form takes the
        sign of μ·m + (1 - μ)·g, and there the two differ. Some implementations start m at the weights, which then decay
        for the first 1/(1 - μ) steps. sign(0) is 0. A complex parameter takes the sign of both its parts. MXNet has a
        decay that is independent of η, ``lr_in_decay=False``.
    Use:
        Choose it over Lion to tune one decay rate and not two; half of Adam's state. Its rates are Lion's, and 0.95 is
        a tuned value of μ.
    Caveats:
        It falls behind in long runs of language models (arXiv:2509.01440).
    """

    lr: fields.Rate = fields.lr(1e-3, 1e-5, 1e-2)
    momentum: float = fields.averaging_momentum(0.9, 0.01, 0.1)
    weight_decay: float = fields.weight_decay(0, fields.OF_WEIGHTS, 0.03, 3.0)
    nesterov: bool = fields.hyper(False, "step along the sign of μm + (1 - μ)g, and not of m")
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    aliases = fields.aliases(signsgd={"momentum": 0}, tiger={"momentum": 0.965})
    rule = Rule(signum, "pointwise", (State("momentum_buffer", when=lambda o: o["momentum"] != 0),))

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse Nesterov's form without momentum."""
        super().check(options)
        momentum: Any = options["momentum"]
        if options["nesterov"] and momentum == 0:
            raise ValueError("nesterov=True looks ahead along the momentum; give momentum > 0 too")
