"""Two formulas as a published study prints them, next to the right ones: how far does a slip move a row of its table?

    steepest study fashion-mnist -o nag -o examples/formula_slips.py:SlippedNAG \\
        -o "nadam[momentum_schedule=constant]" -o examples/formula_slips.py:SlippedNAdam

docs/formula-slips.md shows what comes out.
"""

from dataclasses import KW_ONLY

from steepest import Optimizer, Rule, State, fields
from steepest.vocabulary import lerp, sqrt


def slipped_nag(p, g, v, *, lr, momentum):
    """p, g, v: same shape. Returns new (p, v)."""
    v = momentum * v + lr * g
    return p - (v + momentum * v), v  # right: lr * g + momentum * v


class SlippedNAG(Optimizer):
    """Nesterov's gradient with a slip: v ← μv + ηg, θ ← θ - (1 + μ)v.

    Source:
        Li, "关于深度学习优化算法的分析与实现", in the text on Nesterov's method. The first step agrees with the
        right rule, all later ones go too far: where gradients are constant, by a factor of 1 + μ.
    """

    lr: float = fields.lr(1e-2, 1e-4, 10.0)
    momentum: float = fields.momentum(0.9)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()

    rule = Rule(slipped_nag, "pointwise", (State("momentum_buffer"),))


def slipped_nadam(p, g, m, v, *, t, lr, beta1, beta2, eps):
    """p, g, m, v: same shape. Returns new (p, m, v)."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    corrected = m / (1 - beta1**t)
    ahead = (beta1 * corrected + (1 - beta1) * g) / (1 - beta1**t)  # right: only g is divided here
    return p - lr * ahead / (sqrt(v / (1 - beta2**t)) + eps), m, v


class SlippedNAdam(Optimizer):
    """NAdam with a slip: the momentum that is corrected already is divided by 1 - β1^t a second time.

    Source:
        Li, "关于深度学习优化算法的分析与实现", in the text on NAdam. The first step goes five times too far; after
        some forty steps the second division divides by 1.
    """

    lr: float = fields.lr(2e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()

    rule = Rule(slipped_nadam, "pointwise", (State("step", "step"), State("exp_avg"), State("exp_avg_sq")))
