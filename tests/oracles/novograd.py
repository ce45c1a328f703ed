"""NovoGrad (Ginsburg et al. 2019, "Stochastic gradient methods with layer-wise adaptive moments", Algorithm 1)."""

import math
from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, trace


def novograd(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate,
    betas: tuple[float, float],
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
    grad_averaging: bool = False,
) -> list[Result]:
    """v = b2 v + (1 - b2) ||g||^2 per tensor; m = b1 m + (g / (sqrt(v) + eps) + lambda theta); theta -= lr m.

    The first time v = ||g||^2 and m is the bracket alone. The bracket is not multiplied by 1 - b1, but with
    `grad_averaging` (NVIDIA Apex, Jasper). eps is there at the first step too, so that a first gradient of zero is no
    division by zero.
    """
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v = np.zeros_like(theta), 0.0
        for t, (rate, g) in enumerate(steps, start=1):
            square = float(np.sum(g * g))
            v = square if t == 1 else b2 * v + (1.0 - b2) * square
            bracket = g / np.float64(math.sqrt(v) + eps) + weight_decay * theta
            m = b1 * m + (1.0 - b1 if grad_averaging else 1.0) * bracket
            theta = theta - rate * m
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
