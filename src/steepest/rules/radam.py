"""RAdam: Adam that waits until the variance of its rates is under control."""

from __future__ import annotations

from dataclasses import KW_ONLY, replace

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..transforms.lookahead import LOOKAHEAD
from ..transforms.units import CENTRALIZE
from ..vocabulary import lerp, maximum, sqrt, where


def radam(p, g, m, v, *, t, lr, beta1, beta2, eps, eps_hat, threshold):
    """p, g, m, v: same shape. Returns new (p, m, v)."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    mhat = m / (1 - beta1**t)
    rho, rho_inf = sample_sizes(t, beta2)
    # r is used where rho_inf > rho > threshold >= 4 only; elsewhere 5 stands in so that no denominator is 0.
    a = where(rho > threshold, rho, 5)
    b = maximum(rho_inf, a)
    r = rectification(a, b)
    c = sqrt(1 - beta2**t)
    l = c / (sqrt(v) + (eps if eps_hat else c * eps))  # noqa: E741 - the paper's letter
    return p - lr * where(rho > threshold, r * mhat * l, mhat), m, v


def sample_sizes(t, beta2):
    """Return ρ_t and ρ∞: the number of gradients that the average of g² rests on, so far and in the end."""
    rho_inf = 2 / (1 - beta2) - 1
    return rho_inf - 2 * t * beta2**t / (1 - beta2**t), rho_inf


def rectification(a, b):
    """Return r, for a sample size of a so far and b in the end, both above 4."""
    return sqrt((a - 4) * (a - 2) * b / ((b - 4) * (b - 2) * a))


class RAdam(Optimizer):
    """RAdam: only momentum while the second moment rests on few gradients, then Adam's step, rectified by r.

    Source:
        Liu et al. 2020, "On the variance of the adaptive learning rate and beyond", arXiv:1908.03265, Algorithm 2.
    Differs:
        torch: same numbers. As in torch and optax the rectified step begins at ρ > 5; in the paper at ρ > 4,
        ``threshold=4``. The paper has no ε; torch adds it to the root of the uncorrected v, as here; optax to that of
        the corrected v, ``eps_hat=False``.
    Use:
        Choose it over Adam to do without a warm-up of η: it takes Adam's step only once v can be trusted.
    """

    lr: fields.Rate = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    eps_hat: bool = fields.eps_hat(True)
    threshold: float = fields.hyper(5, "the rectified step begins at ρ above it (paper: 4)", low=4.0)
    lr_in_decay: bool = fields.lr_in_decay()

    aliases = fields.aliases(radamw={"decoupled_weight_decay": True})
    rule = Rule(radam, "pointwise", (State("step", "step"), State("exp_avg"), State("exp_avg_sq", nonnegative=True)))


class Ranger(RAdam):
    """Ranger: RAdam on centralised gradients, with slow weights that its own return to every six steps.

    Source:
        Wright 2019, "Ranger, a synergistic optimizer" (repository); gradient centralisation: Yong et al. 2020,
        arXiv:2004.01461; Lookahead: Zhang et al. 2019, arXiv:1907.08610.
    Differs:
        torch has none. It is a composition: RAdam(centralize=True, lookahead=(6, 0.5)) with other defaults, and any of
        them can be turned off. pytorch_optimizer makes no step while ρ ≤ 5, unless degenerated_to_sgd=True; here
        momentum moves then, as in the author's code. optimi's Ranger centralises nothing and has β = (0.9, 0.99).
    Use:
        Choose it over RAdam for an old recipe in one name. In a new one, add its parts to the optimizer that you have:
        ``centralize``, ``lookahead``.
    """

    betas: tuple[float, float] = fields.betas((0.95, 0.999))
    eps: float = fields.eps(1e-5)
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    _: KW_ONLY
    centralize: bool = replace(CENTRALIZE.options["centralize"], default=True)
    lookahead: tuple[int, float] | None = replace(LOOKAHEAD.options["lookahead"], default=(6, 0.5), candidates=(None,))
