"""Lion (Chen et al. 2023, Algorithm 2) and Signum (Bernstein et al. 2018, Algorithms 1 and 2)."""

from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, trace


def lion(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-4,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """theta -= lr sign(b1 m + (1 - b1) g), with the m from before the step; then m = b2 m + (1 - b2) g."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m = np.zeros_like(theta)
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            theta = theta - rate * np.sign(b1 * m + (1.0 - b1) * g)
            m = b2 * m + (1.0 - b2) * g
        return {"param": theta, "step": len(steps), "exp_avg": m}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def signum(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
) -> list[Result]:
    """m = mu m + (1 - mu) g; theta -= lr sign(m), or with nesterov lr sign(mu m + (1 - mu) g). SignSGD at mu = 0."""

    def one(theta: Array, steps: Steps) -> Result:
        m = np.zeros_like(theta)
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = momentum * m + (1.0 - momentum) * g
            theta = theta - rate * np.sign(momentum * m + (1.0 - momentum) * g if nesterov else m)
        state = {"param": theta, "step": len(steps)}
        return {**state, "momentum_buffer": m} if momentum else state

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
