"""Lion: the sign of a momentum that leans towards the new gradient."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, sign


def lion(p, g, m, *, lr, beta1, beta2):
    """p, g, m: same shape. Returns new (p, m). The direction is of the old m."""
    u = sign(beta1 * m + (1 - beta1) * g)
    m = lerp(m, g, 1 - beta2)
    return p - lr * u, m


class Lion(Optimizer):
    """Lion: every coordinate moves by η, along the sign of β1·m + (1 - β1)·g; half the memory of Adam.

    Source:
        Chen et al. 2023, "Symbolic discovery of optimization algorithms", arXiv:2302.06675, Algorithm 2.
    Differs:
        torch has none. Same numbers as the authors' code, timm and optax; Keras has η = 1e-3. The direction is taken
        before m is updated. sign(0) is 0, so a gradient that underflowed to 0 in half precision moves nothing once m is
        0. A complex parameter takes the sign of both its parts; lion-pytorch takes the unit of its size. λ is scaled by
        the present η; lion-pytorch's ``decoupled_weight_decay`` divides it by the first one. Rates are 3 to 10 times
        smaller than AdamW's, and λ is as much larger.
    Use:
        Choose it over AdamW for half of its state, mostly at batches of 64 and more. A language-model benchmark used η
        = 1e-3 for 124 million parameters, 5e-4 for 210 and 2e-4 for 720.
    Caveats:
        It falls behind in long runs of language models (arXiv:2509.01440). Reports of NaN in long runs came from too
        high a rate: lower η by 3 to 10 times (lion-pytorch #33, llm-foundry #317). β = (0.95, 0.98) is more stable.
    """

    lr: fields.Rate = fields.lr(1e-4, 1e-5, 1e-2)
    betas: tuple[float, float] = fields.betas((0.9, 0.99), "decay rates of the direction and of the average of g")
    weight_decay: float = fields.weight_decay(0, fields.OF_WEIGHTS, 0.03, 3.0)
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    aliases = fields.aliases(clion={"cautious": True})

    rule = Rule(lion, "pointwise", (State("exp_avg"),))
