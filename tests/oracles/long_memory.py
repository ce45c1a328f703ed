"""Rules with more than one memory of g.

AdEMAMix (Pagliardini et al. 2024, Algorithm 1), its simplification (Morwani et al. 2025), QHM and QHAdam
(Ma and Yarats 2018), aggregated momentum (Lucas et al. 2018).
"""

import math
from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, trace


def half_life_between(a: float, start: float, end: float) -> float:
    """The decay rate whose half-life, -ln 2 / ln beta, is the part `a` of the way from that of `start` to `end`'s."""
    if a >= 1.0:
        return end
    lives = [0.0 if beta == 0.0 else -1.0 / math.log(beta) for beta in (start, end)]
    life = (1.0 - a) * lives[0] + a * lives[1]
    return math.exp(-1.0 / life) if life else 0.0


def ademamix(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    alpha: float = 5.0,
    total_steps: int | None = None,
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """theta -= lr (m1 / (1 - b1^t) + alpha m2) / (sqrt(v / (1 - b2^t)) + eps); m2 is not corrected."""
    b1, b2, b3 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m1, m2, v = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            part = 1.0 if total_steps is None else min(t / total_steps, 1.0)
            slow = half_life_between(part, b1, b3)
            m1 = b1 * m1 + (1.0 - b1) * g
            m2 = slow * m2 + (1.0 - slow) * g
            v = b2 * v + (1.0 - b2) * g * g
            root = np.sqrt(v) / math.sqrt(1.0 - b2**t) + eps
            theta = theta - rate * (m1 / (1.0 - b1**t) + part * alpha * m2) / root
        state = {"param": theta, "step": len(steps), "exp_avg_slow": m2, "exp_avg_sq": v}
        return {**state, "exp_avg_fast": m1} if b1 else state

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def simplified_ademamix(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-4,
    betas: tuple[float, float] = (0.99, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    alpha: float = 0.0,
    beta_min: float = 0.9,
    total_steps: int | None = None,
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """m = b1(t) m + g, a sum; theta -= lr (m + alpha g) / (sqrt(v / (1 - b2^t)) + eps)."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = half_life_between(1.0 if total_steps is None else t / total_steps, beta_min, b1) * m + g
            v = b2 * v + (1.0 - b2) * g * g
            theta = theta - rate * (m + alpha * g) / (np.sqrt(v / (1.0 - b2**t)) + eps)
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def qhm(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    momentum: float = 0.999,
    nu: float = 0.7,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """m = mu m + (1 - mu) g; theta -= lr ((1 - nu) g + nu m)."""

    def one(theta: Array, steps: Steps) -> Result:
        m = np.zeros_like(theta)
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = momentum * m + (1.0 - momentum) * g
            theta = theta - rate * ((1.0 - nu) * g + nu * m)
        return {"param": theta, "step": len(steps), "momentum_buffer": m}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def qhadam(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    nus: tuple[float, float] = (1.0, 1.0),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """theta -= lr ((1 - nu1) g + nu1 mhat) / (sqrt((1 - nu2) g^2 + nu2 vhat) + eps)."""
    b1, b2 = betas
    nu1, nu2 = nus

    def one(theta: Array, steps: Steps) -> Result:
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            above = (1.0 - nu1) * g + nu1 * m / (1.0 - b1**t)
            below = np.sqrt((1.0 - nu2) * g * g + nu2 * v / (1.0 - b2**t)) + eps
            theta = theta - rate * above / below
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def aggmo(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float, float] = (0.0, 0.9, 0.99),
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """v_i = b_i v_i + g for each b_i; theta -= lr / K sum_i v_i."""

    def one(theta: Array, steps: Steps) -> Result:
        buffers = [np.zeros_like(theta) for _ in betas]
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            buffers = [beta * v + g for beta, v in zip(betas, buffers, strict=True)]
            for v in buffers:
                theta = theta - rate / len(betas) * v
        named = {f"momentum_buffer_{i}": v for i, v in enumerate(buffers, start=1)}
        return {"param": theta, "step": len(steps), **named}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
