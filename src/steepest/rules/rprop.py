"""Rprop: a step size for every weight, from the signs of its gradients only."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Options, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import maximum, minimum, sign, where


def rprop(p, g, last, s, *, eta_minus, eta_plus, least, most):
    """p, g, last, s: same shape. Returns new (p, last, s). Where the sign has turned, the weight rests for one step."""
    d = g * last
    turned = d < 0
    s = s * where(d > 0, eta_plus, where(turned, eta_minus, 1, like=d), like=d)
    s = minimum(maximum(s, least), most)
    g = where(turned, 0, g)
    return p - s * sign(g), g, s


class Rprop(Optimizer):
    """Rprop: steps grow while the gradient keeps its sign and shrink when it turns; its size does not matter.

    Source:
        Riedmiller and Braun 1993, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm",
        in the form without weight-backtracking that Igel and Hüsken 2000 call iRprop-.
    Differs:
        torch: same numbers; Riedmiller and Braun take the step back when the sign turns, torch and we do not. lr is
        where the step sizes start: it is read when a parameter's state is made, and a schedule has no effect. The sign
        of NaN is 0, so a weight with such a gradient rests. A product that underflows to 0 counts as no turn.
    """

    lr: fields.Rate = fields.lr(1e-2)
    etas: tuple[float, float] = fields.hyper(
        (0.5, 1.2),
        "factors of the step size where the sign turned, and where it did not",
        names=("eta_minus", "eta_plus"),
        candidates=((0.3, 1.1),),
    )
    step_sizes: tuple[float, float] = fields.hyper(
        (1e-6, 50), "least and largest step size", names=("least", "most"), candidates=((1e-4, 0.05),)
    )
    _: KW_ONLY
    capturable: bool = fields.capturable()
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()

    takes_schedule = False
    rule = Rule(
        rprop, "pointwise", (State("step", "step"), State("prev"), State("step_size", init="lr", nonnegative=True))
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """Require that steps shrink and grow: 0 < eta_minus < 1 < eta_plus."""
        minus, plus = options["etas"]
        if not 0 < minus < 1 < plus:
            raise ValueError(f"Invalid eta values: {minus}, {plus} (etas must be 0 < eta_minus < 1 < eta_plus)")
