"""Gradient descent and its momentum forms.

Polyak 1964; Nesterov 1983; Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".
torch's SGD keeps the learning rate outside the buffer, the classical forms (`momentum`, `nag`) keep it inside.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, per_step, trace


def sgd(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """b = mu b + (1 - tau) g, but b = g the first time; theta -= lr (g + mu b if nesterov else b)."""

    def one(theta: Array, steps: Steps) -> Result:
        b = None
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            b = g if b is None else momentum * b + (1.0 - dampening) * g
            theta = theta - rate * (g + momentum * b if nesterov else b)
        return {"param": theta, "momentum_buffer": b}

    def plain(theta: Array, steps: Steps) -> Result:
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            theta = theta - rate * g
        return {"param": theta}

    return trace(one if momentum else plain, theta0, grads, lr=lr, maximize=maximize)


def momentum(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate,
    momentum: float,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """v = mu v + lr g; theta -= v."""

    def one(theta: Array, steps: Steps) -> Result:
        v = np.zeros_like(theta)
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            v = momentum * v + rate * g
            theta = theta - v
        return {"param": theta, "momentum_buffer": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def nag(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate,
    momentum: float,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """Nesterov's rule with the gradient at the stored point: v = mu v + lr g; theta -= lr g + mu v."""

    def one(theta: Array, steps: Steps) -> Result:
        v = np.zeros_like(theta)
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            v = momentum * v + rate * g
            theta = theta - (rate * g + momentum * v)
        return {"param": theta, "momentum_buffer": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def nag_lookahead(
    theta0: Sequence[Array],
    gradient: Callable[[list[Array]], Sequence[Array]],
    *,
    steps: int,
    lr: Rate,
    momentum: float,
) -> list[Result]:
    """Nesterov's rule as he states it: v = mu v + lr grad(theta - mu v); theta -= v."""
    theta = [np.array(p, dtype=np.float64) for p in theta0]
    v = [np.zeros_like(p) for p in theta]
    for rate in per_step(lr, steps):
        g = gradient([p - momentum * u for p, u in zip(theta, v, strict=True)])
        v = [momentum * u + rate * d for u, d in zip(v, g, strict=True)]
        theta = [p - u for p, u in zip(theta, v, strict=True)]
    return [{"param": np.asarray(p), "momentum_buffer": np.asarray(u)} for p, u in zip(theta, v, strict=True)]
