"""Rprop without weight-backtracking (Riedmiller & Braun 1993), and averaged descent (Polyak & Juditsky 1992)."""

from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, trace


def rprop(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
    maximize: bool = False,
) -> list[Result]:
    """Element by element: the step size is multiplied by eta+ or eta- as the sign of g stays or turns, and bounded;
    where it has turned the gradient is forgotten; theta -= step size * sign(g). lr is the first step size alone. NaN
    has no sign: neither stays nor turns.
    """
    shrink, grow = etas
    least, most = step_sizes

    def one(theta: Array, steps: Steps) -> Result:
        flat, shape = theta.copy().ravel(), theta.shape
        before, size = np.zeros_like(flat), np.full_like(flat, steps[0][0] if steps else 0.0)
        for _, g in steps:
            for i, slope in enumerate(g.ravel()):
                product = slope * before[i]
                factor = grow if product > 0 else shrink if product < 0 else 1.0
                size[i] = min(max(size[i] * factor, least), most)
                before[i] = 0.0 if product < 0 else slope
                flat[i] -= size[i] * (float(before[i] > 0) - float(before[i] < 0))
        state = {"prev": before.reshape(shape), "step_size": size.reshape(shape)}
        return {"param": flat.reshape(shape), "step": len(steps), **state}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def asgd(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
    maximize: bool = False,
) -> list[Result]:
    """theta = (1 - lambda eta) theta - eta g; ax += mu (theta - ax).

    eta and mu are those of the step before: eta starts at lr and becomes lr / (1 + lambda lr t)^alpha, mu starts at 1
    and becomes 1 / max(1, t - t0).
    """

    def one(theta: Array, steps: Steps) -> Result:
        ax, eta, mu = np.zeros_like(theta), steps[0][0] if steps else 0.0, 1.0
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            theta = (1.0 - lambd * eta) * theta - eta * g
            ax = theta if mu == 1.0 else ax + mu * (theta - ax)
            eta, mu = rate / (1.0 + lambd * rate * t) ** alpha, 1.0 / max(1.0, t - t0)
        return {"param": theta, "step": len(steps), "eta": eta, "mu": mu, "ax": ax}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
