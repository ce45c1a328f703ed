"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Options, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, sqrt


def nadam(p, g, M, m, v, *, t, lr, beta1, beta2, eps, momentum_decay, momentum_schedule):
    """p, g, m, v: same shape; M: the product of the momenta so far, a number or None. Returns new (p, M, m, v)."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    d = sqrt(v / (1 - beta2**t)) + eps
    if M is not None:
        mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
        next_mu = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
        M = M * mu
        a, b = (1 - mu) / (1 - M), next_mu / (1 - M * next_mu)
    else:
        ahead = t + 1 if momentum_schedule == "dozat" else t
        a, b = (1 - beta1) / (1 - beta1**t), beta1 / (1 - beta1**ahead)
    return p - lr * a * g / d - lr * b * m / d, M, m, v


class NAdam(Optimizer):
    """NAdam: the momentum of the next step, and the gradient of this one, in Adam's place for the corrected average.

    Source:
        Dozat 2016, "Incorporating Nesterov momentum into Adam", Algorithm 2 and its momentum schedule.
    Differs:
        torch: same numbers with ``momentum_schedule="torch"``, μ_t = β1(1 - ½·0.96^(t·momentum_decay)), its running
        product kept in the state. ``"constant"`` is the simple form of the literature and of timm's NAdamW, β1·mhat +
        (1 - β1)·g/(1 - β1^t); ``"dozat"`` divides m by 1 - β1^(t+1), as Dozat's constant-momentum form and optax do.
        momentum_decay = 0 gives μ = β1/2, not β1. Keras's schedule, 0.96^t, is ``momentum_decay=1``; it decouples its
        decay, torch does not.
    Use:
        Choose it over Adam for Nesterov's look-ahead in its momentum.
    """

    lr: fields.Rate = fields.lr(2e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    momentum_decay: float = fields.hyper(
        4e-3, "how fast the momentum rises from β1/2 to β1 (schedule 'torch')", low=0.0
    )
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    momentum_schedule: str = fields.hyper(
        "torch", "how the momentum runs over the steps", choices=("torch", "constant", "dozat")
    )
    lr_in_decay: bool = fields.lr_in_decay()

    aliases = fields.aliases(nadamw={"decoupled_weight_decay": True})
    rule = Rule(
        nadam,
        "pointwise",
        (
            State("step", "step"),
            State("mu_product", "scalar", init=1.0, when=lambda o: o["momentum_schedule"] == "torch"),
            State("exp_avg"),
            State("exp_avg_sq", nonnegative=True),
        ),
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse ``momentum_decay`` for the constant forms, because it shapes only torch's schedule."""
        super().check(options)
        untouched = options["momentum_decay"] == cls.fields["momentum_decay"].default
        if options["momentum_schedule"] != "torch" and not untouched:
            raise ValueError("momentum_decay belongs to momentum_schedule='torch'; leave it out with the others")
