"""Adam's relatives since 2018.

ADOPT (Taniguchi et al. 2024), Adan (Xie et al. 2022), Adam-atan2 (Everett et al. 2024), LaProp (Ziyin et al. 2020),
AdaBelief (Zhuang et al. 2020), Yogi (Zaheer et al. 2018), each as its authors' code has it.
"""

import math
from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, trace


def adopt(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.9999),
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    clip_exp: float | None = 0.25,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """The first step makes v = g^2 and no more. Then n = g / max(sqrt(v), eps) with the v from before the step, clipped
    at the (t - 1)^clip_exp; m = b1 m + (1 - b1) n; theta -= lr m; v = b2 v + (1 - b2) g^2.
    """
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            shrunk, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            if t == 1:
                v = g * g
                continue
            n = g / np.maximum(np.sqrt(v), eps)
            if clip_exp is not None:
                n = np.clip(n, -((t - 1) ** clip_exp), (t - 1) ** clip_exp)
            m = b1 * m + (1.0 - b1) * n
            theta = shrunk - rate * m
            v = b2 * v + (1.0 - b2) * g * g
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def adan(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    prox: bool = True,
    maximize: bool = False,
) -> list[Result]:
    """m, v, n: averages of g, d, (g + b2 d)^2, where d = g - g_before, 0 at first; u = (mhat + b2 vhat) / (sqrt(nhat) +
    eps); theta = (theta - lr u) / (1 + lr lambda), or (1 - lr lambda) theta - lr u.
    """
    b1, b2, b3 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v, n = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
        before = steps[0][1] if steps else np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            d = g - before
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * d
            n = b3 * n + (1.0 - b3) * (g + b2 * d) ** 2
            root = np.sqrt(n) / math.sqrt(1.0 - b3**t) + eps
            u = (m / (1.0 - b1**t) + b2 * v / (1.0 - b2**t)) / root
            theta = (
                (theta - rate * u) / (1.0 + rate * weight_decay)
                if prox
                else theta * (1.0 - rate * weight_decay) - rate * u
            )
            before = g
        state = {"exp_avg": m, "exp_avg_sq": n, "exp_avg_diff": v, "neg_pre_grad": -before}
        return {"param": theta, "step": len(steps), **state}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def adam_atan2(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-4,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    a: float = 1.27,
    b: float = 1.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """theta -= lr a atan2(mhat, b sqrt(vhat))."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            theta = theta - rate * a * np.arctan2(m / (1.0 - b1**t), b * np.sqrt(v / (1.0 - b2**t)))
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def laprop(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 4e-4,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-15,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """m = b1 m + (1 - b1) lr g / (sqrt(vhat) + eps), a = b1 a + (1 - b1) lr; theta -= lr m / a."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v, a = np.zeros_like(theta), np.zeros_like(theta), 0.0
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            v = b2 * v + (1.0 - b2) * g * g
            m = b1 * m + (1.0 - b1) * rate * g / (np.sqrt(v / (1.0 - b2**t)) + eps)
            a = b1 * a + (1.0 - b1) * rate
            theta = theta - (rate / a if a else 0.0) * m
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v, "exp_avg_lr_1": a}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def adabelief(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-16,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    rectify: bool = True,
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """s = b2 s + (1 - b2) (g - m)^2 + eps with the new m; theta -= lr mhat / (sqrt(s / (1 - b2^t)) + eps). Rectified:
    while rho < 5 theta -= lr mhat, then lr r sqrt(1 - b2^t) mhat / (sqrt(s) + eps).
    """
    b1, b2 = betas
    limit = 2.0 / (1.0 - b2) - 1.0

    def one(theta: Array, steps: Steps) -> Result:
        m, s, largest = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            s = b2 * s + (1.0 - b2) * (g - m) ** 2 + eps
            largest = np.maximum(largest, s)
            mhat = m / (1.0 - b1**t)
            rho = limit - 2.0 * t * b2**t / (1.0 - b2**t)
            if not rectify:
                theta = theta - rate * mhat / (np.sqrt((largest if amsgrad else s) / (1.0 - b2**t)) + eps)
            elif rho >= 5.0:
                square = (rho - 4.0) * (rho - 2.0) * limit / ((limit - 4.0) * (limit - 2.0) * rho)
                theta = theta - rate * math.sqrt(square * (1.0 - b2**t)) * mhat / (np.sqrt(s) + eps)
            else:
                theta = theta - rate * mhat
        state = {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_var": s}
        return {**state, "max_exp_avg_var": largest} if amsgrad else state

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def yogi(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-2,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-3,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 1e-6,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """v -= (1 - b2) sign(v - g^2) g^2; theta -= lr mhat / (sqrt(vhat) + eps); m and v start at a small number."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v = (np.full_like(theta, initial_accumulator_value) for _ in range(2))
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = v - (1.0 - b2) * np.sign(v - g * g) * g * g
            theta = theta - rate / (1.0 - b1**t) * m / (np.sqrt(v) / math.sqrt(1.0 - b2**t) + eps)
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
