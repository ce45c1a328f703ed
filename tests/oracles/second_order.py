"""Sophia (Liu et al. 2023, Algorithm 3, in the form of the authors' code)."""

from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, trace


def sophia(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-4,
    betas: tuple[float, float] = (0.965, 0.99),
    rho: float = 0.04,
    batch_size: float = 1.0,
    weight_decay: float = 0.1,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
    hessian_interval: int = 10,
    maximize: bool = False,
    estimates: Sequence[Array | None] = (),
) -> list[Result]:
    """theta *= 1 - lr lambda; theta -= lr sign(m) min(|m| / (rho batch_size h + 1e-15), 1).

    `estimates[t]` is averaged into h before step t, for one tensor; None leaves h.
    `hessian_interval` is only a reminder.
    """
    del hessian_interval
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, h = np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps):
            if t < len(estimates) and estimates[t] is not None:
                h = b2 * h + (1.0 - b2) * np.asarray(estimates[t])
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            ratio = np.minimum(np.abs(m) / (rho * batch_size * np.maximum(h, 0.0) + 1e-15), 1.0)
            theta = theta - rate * np.sign(m) * ratio
        return {"param": theta, "exp_avg": m, "hessian": h}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
