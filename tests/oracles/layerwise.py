"""Steps whose length belongs to a whole tensor: LAMB, LARS, StableAdamW, MARS.

You et al. 2020 (LAMB, version 5); You, Gitman & Ginsburg 2017; Wortsman et al. 2023 (Algorithm 2); Yuan et al. 2024
(Algorithm 2, approximate). LAMB corrects both averages inside its ratio, LARS has the rate outside its buffer,
StableAdamW keeps corrected averages and decays by its lowered rate.
"""

import math
from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, trace


def length(x: Array) -> float:
    """The Euclidean norm of all elements."""
    return math.sqrt(float(np.sum(x * x)))


def lamb(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 1e-2,
    maximize: bool = False,
) -> list[Result]:
    """u = mhat / (sqrt(vhat) + eps) + lambda theta; theta -= lr ||theta|| / ||u|| u, or lr u where a norm is 0."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            u = m / (1.0 - b1**t) / (np.sqrt(v) / math.sqrt(1.0 - b2**t) + eps) + weight_decay * theta
            size, step = length(theta), length(u)
            theta = theta - rate * (size / step if size and step else 1.0) * u
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def lars(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1.0,
    momentum: float = 0.9,
    trust_coefficient: float = 1e-3,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> list[Result]:
    """d = r (g + lambda theta), r = eta ||theta|| / (||g|| + lambda ||theta|| + eps), or 1 where a norm is 0;
    b = mu b + d, at first d; theta -= lr b, or lr (d + mu b).
    """

    def one(theta: Array, steps: Steps) -> Result:
        b = np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            size, slope = length(theta), length(g)
            ratio = trust_coefficient * size / (slope + weight_decay * size + eps) if size and slope else 1.0
            d = ratio * (g + weight_decay * theta)
            b = d if t == 1 else momentum * b + d
            theta = theta - rate * (d + momentum * b if nesterov else b)
        return {"param": theta, "step": len(steps), **({"momentum_buffer": b} if momentum else {})}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def stable_adamw(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    maximize: bool = False,
) -> list[Result]:
    """With b' = (b - b^t) / (1 - b^t): m = b1' m + (1 - b1') g, v alike of g^2; RMS = sqrt(mean(g^2 / max(v, eps^2)));
    eta = lr / max(1, RMS); theta = (1 - eta lambda) theta - eta m / (sqrt(v) + eps).
    """
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            kept1, kept2 = (b1 - b1**t) / (1.0 - b1**t), (b2 - b2**t) / (1.0 - b2**t)
            m = kept1 * m + (1.0 - kept1) * g
            v = kept2 * v + (1.0 - kept2) * g * g
            rms = math.sqrt(float(np.mean(g * g / np.maximum(v, eps**2)))) if g.size else 0.0
            eta = rate / max(1.0, rms)
            theta = (1.0 - eta * weight_decay) * theta - eta * m / (np.sqrt(v) + eps)
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def mars(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 3e-3,
    betas: tuple[float, float] = (0.95, 0.99),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    gamma: float = 0.025,
    first: str = "zero",
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """c = g + gamma b1 / (1 - b1) (g - g_before), divided by its norm if that is over 1; AdamW on c."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v, before = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            if t == 1 and first == "gradient":
                before = g
            c = g + gamma * b1 / (1.0 - b1) * (g - before)
            if length(c) > 1.0:
                c = c / length(c)
            m = b1 * m + (1.0 - b1) * c
            v = b2 * v + (1.0 - b2) * c * c
            theta = theta - rate * (m / (1.0 - b1**t)) / (np.sqrt(v) / math.sqrt(1.0 - b2**t) + eps)
            before = g
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v, "last_grad": before}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
