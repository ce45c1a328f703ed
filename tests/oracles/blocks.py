"""Numbers that blocks of weights share: Adam-mini (Zhang et al. 2024), SM3-II (Anil et al. 2019), AdamP and SGDP (Heo
et al. 2021).

A row of Adam-mini is all but the last dimension; SM3 has an accumulator for each dimension; AdamP's rows are those of
the first dimension. AdamP compares |cos|, and SGDP's buffer is not projected.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, trace


def block_means(x: Array, block: Any) -> Array:
    """The mean of each block, kept once per row (row, head), once (tensor), or for each element."""
    if block == "tensor":
        return np.asarray(x.mean() if x.size else math.nan)
    if block == "element" or x.ndim < 2:
        return x
    rows = x.mean(axis=-1)
    if block != "row":
        for head in np.split(rows, block[1], axis=-1):
            head[...] = head.mean(axis=-1, keepdims=True)
    return np.asarray(rows[..., None])


def adam_mini(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    block: Any = "row",
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """AdamW with v = b2 v + (1 - b2) mean(g^2) over each block."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v = np.zeros_like(theta), np.zeros_like(block_means(theta, block))
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * block_means(g * g, block)
            theta = theta - rate * (m / (1.0 - b1**t)) / (np.sqrt(v / (1.0 - b2**t)) + eps)
        is_by_element = block == "element" or (theta.ndim < 2 and block != "tensor")
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq" if is_by_element else "vmean": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def sm3(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 0.1,
    momentum: float = 0.0,
    beta: float = 0.0,
    eps: float = 1e-30,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """v = min_i a_i + g^2, or beta min_i a_i + (1 - beta) g^2; a_i = max(a_i, max of v over the other dimensions);
    u = g / sqrt(v + eps), m = mu m + (1 - mu) u; theta -= lr m.
    """

    def one(theta: Array, steps: Steps) -> Result:
        count = max(1, theta.ndim)
        others = [tuple(d for d in range(theta.ndim) if d != i) for i in range(count)]
        a = [np.zeros([n if d == i else 1 for d, n in enumerate(theta.shape)]) for i in range(count)]
        m = np.zeros_like(theta)
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            least = np.broadcast_to(a[0], g.shape)
            for each in a:
                least = np.minimum(least, each)
            v = beta * least + (1.0 - beta) * g * g if beta else least + g * g
            a = [np.maximum(each, v.max(axis=d, keepdims=True, initial=0.0)) for each, d in zip(a, others, strict=True)]
            m = momentum * m + (1.0 - momentum) * g / np.sqrt(v + eps)
            theta = theta - rate * m
        state = {"param": theta, "step": len(steps), **{f"accumulator_{i}": each for i, each in enumerate(a)}}
        return {**state, "momentum_buffer": m} if momentum else state

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def tangent(u: Array, theta: Array, g: Array, delta: float, wd_ratio: float, eps: float) -> tuple[Array, float]:
    """u without its part along theta, and wd_ratio, if every |cos(g, theta)| is below delta / sqrt(length): first of
    rows, then of the whole tensor; otherwise u and 1.
    """
    if theta.ndim < 2:
        return u, 1.0
    for rows in (theta.shape[0], 1):
        p, d, x = (a.reshape(rows, a.size // rows if rows else 0) for a in (theta, g, u))
        sizes = np.sqrt((p * p).sum(axis=1)) * np.sqrt((d * d).sum(axis=1))
        cosines = np.abs((p * d).sum(axis=1)) / np.maximum(sizes, eps)
        if cosines.size and cosines.max() < delta / math.sqrt(p.shape[1]):
            unit = p / (np.sqrt((p * p).sum(axis=1, keepdims=True)) + eps)
            return np.asarray((x - unit * (unit * x).sum(axis=1, keepdims=True)).reshape(theta.shape)), wd_ratio
    return u, 1.0


def adamp(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    delta: float = 0.1,
    wd_ratio: float = 0.1,
    nesterov: bool = False,
    maximize: bool = False,
) -> list[Result]:
    """u = m / (sqrt(v) / sqrt(1 - b2^t) + eps), projected; theta = (1 - lr lambda rho) theta - lr / (1 - b1^t) u."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            u = (b1 * m + (1.0 - b1) * g if nesterov else m) / (np.sqrt(v) / math.sqrt(1.0 - b2**t) + eps)
            u, rho = tangent(u, theta, g, delta, wd_ratio, eps)
            theta = theta * (1.0 - rate * weight_decay * rho) - rate / (1.0 - b1**t) * u
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def sgdp(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    eps: float = 1e-8,
    delta: float = 0.1,
    wd_ratio: float = 0.1,
    maximize: bool = False,
) -> list[Result]:
    """b = mu b + (1 - dampening) g; u = b, or g + mu b, projected; theta = (1 - lr lambda rho / (1 - mu)) theta - lr u.

    Without momentum u is g.
    """

    def one(theta: Array, steps: Steps) -> Result:
        b = np.zeros_like(theta)
        for rate, g in steps:
            b = momentum * b + (1.0 - dampening) * g
            u = (g + momentum * b if nesterov else b) if momentum else g
            u, rho = tangent(u, theta, g, delta, wd_ratio, eps)
            theta = theta * (1.0 - rate * weight_decay * rho / (1.0 - momentum)) - rate * u
        return {"param": theta, "step": len(steps), **({"momentum": b} if momentum else {})}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
