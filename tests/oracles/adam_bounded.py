"""Adam with other lengths of step: Grams, AdamS, AdaBound, Padam, AdaMod, DiffGrad; and MADGRAD.

Cao et al. 2024; Zhang et al. 2025; Luo et al. 2019; Chen et al. 2018; Ding et al. 2019; Dubey et al. 2020; Defazio &
Jelassi 2022. The four from 2018 to 2020 multiply the rate by sqrt(1 - b2^t) / (1 - b1^t) and add eps to sqrt(v).
"""

import math
from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, per_step, trace


def grams(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """theta -= lr sign(g) |mhat| / (sqrt(vhat) + eps)."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            u = np.abs(m / (1.0 - b1**t)) / (np.sqrt(v) / math.sqrt(1.0 - b2**t) + eps)
            theta = theta - rate * np.sign(g) * u
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def adams(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """d = sqrt(b2 m^2 + (1 - b2) g^2) + eps with the old m; m = b1 m + (1 - b1) g; theta -= lr m / d."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m = np.zeros_like(theta)
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            d = np.sqrt(b2 * m**2 + (1.0 - b2) * g**2) + eps
            m = b1 * m + (1.0 - b1) * g
            theta = theta - rate * m / d
        return {"param": theta, "step": len(steps), "exp_avg": m}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def adabound(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    final_lr: float = 0.1,
    gamma: float = 1e-3,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsbound: bool = False,
    base_lr: float | None = None,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """k = clip(lr sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(v) + eps), f (1 - 1 / (gamma t + 1)), f (1 + 1 / (gamma t))),
    f = final_lr lr / base_lr; theta -= k m.
    """
    b1, b2 = betas
    base = per_step(lr, len(grads))[0] if base_lr is None else base_lr

    def one(theta: Array, steps: Steps) -> Result:
        m, v, largest = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            largest = np.maximum(largest, v)
            k = rate * math.sqrt(1.0 - b2**t) / (1.0 - b1**t) / (np.sqrt(largest if amsbound else v) + eps)
            f = final_lr * rate / base
            k = np.clip(k, f * (1.0 - 1.0 / (gamma * t + 1.0)), f * (1.0 + 1.0 / (gamma * t)))
            theta = theta - k * m
        state = {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}
        return {**state, "max_exp_avg_sq": largest} if amsbound else state

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def padam(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 0.1,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = True,
    partial: float = 0.25,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """theta -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)^(2 q), v its largest so far with `amsgrad`."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v, largest = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            largest = np.maximum(largest, v)
            d = np.power(np.sqrt(largest if amsgrad else v) + eps, 2.0 * partial)
            theta = theta - rate * math.sqrt(1.0 - b2**t) / (1.0 - b1**t) * m / d
        state = {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}
        return {**state, "max_exp_avg_sq": largest} if amsgrad else state

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def adamod(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    beta3: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """k = lr sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(v) + eps); a = b3 a + (1 - b3) k; theta -= min(k, a) m."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v, a = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            k = rate * math.sqrt(1.0 - b2**t) / (1.0 - b1**t) / (np.sqrt(v) + eps)
            a = beta3 * a + (1.0 - beta3) * k
            theta = theta - np.minimum(k, a) * m
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v, "exp_avg_lr": a}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def diffgrad(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """theta -= lr sqrt(1 - b2^t) / (1 - b1^t) xi m / (sqrt(v) + eps), xi = 1 / (1 + exp(-|g_before - g|))."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v, before = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            xi = 1.0 / (1.0 + np.exp(-np.abs(before - g)))
            theta = theta - rate * math.sqrt(1.0 - b2**t) / (1.0 - b1**t) * xi * m / (np.sqrt(v) + eps)
            before = g
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v, "previous_grad": before}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def madgrad(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-2,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    eps: float = 1e-6,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """a = (lr + eps) sqrt(t), 0 if lr is; s += a g; n += a g^2; z = x0 - s / (cbrt(n) + eps);
    theta = mu theta + (1 - mu) z. Without momentum x0 is not kept: it is theta + s / (cbrt(n) + eps) before the step.
    """

    def one(theta: Array, steps: Steps) -> Result:
        start, n, s = theta, np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            x0 = start if momentum else theta + s / (np.cbrt(n) + eps)
            a = (rate + eps) * math.sqrt(t) if rate else 0.0
            s = s + a * g
            n = n + a * g * g
            theta = momentum * theta + (1.0 - momentum) * (x0 - s / (np.cbrt(n) + eps))
        state = {"param": theta, "step": len(steps), "grad_sum_sq": n, "s": s}
        return {**state, "x0": start} if momentum else state

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
