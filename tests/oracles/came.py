"""CAME (Luo et al. 2023, Algorithm 2), matrix by matrix."""

from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, trace
from .factored import rms


def came(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 2e-4,
    betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
    eps: tuple[float, float] = (1e-30, 1e-16),
    clip_threshold: float = 1.0,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
    maximize: bool = False,
) -> list[Result]:
    """u = g / sqrt(V), clipped; m its average; S the factored average of (u - m)^2; theta -= lr m / sqrt(S)."""
    b1, b2, b3 = betas

    def one(theta: Array, steps: Steps) -> Result:
        is_matrix = theta.ndim > 1
        V, S = (Means(theta) if is_matrix else Each(theta) for _ in range(2))
        m = np.zeros_like(theta)
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            u = g * V.inverse_root(g * g + eps[0], b2)
            u = u / max(1.0, rms(u) / clip_threshold)
            m = b1 * m + (1.0 - b1) * u
            step = m * S.inverse_root((u - m) ** 2 + eps[1], b3) if is_matrix else m
            theta = theta - rate * step
        state = {"exp_avg": m, **V.named("exp_avg_sq"), **(S.named("exp_avg_res") if is_matrix else {})}
        return {"param": theta, **state}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


class Each:
    """An average for each element."""

    def __init__(self, theta: Array) -> None:
        self.v = np.zeros_like(theta)

    def inverse_root(self, x: Array, beta: float) -> Array:
        """One over the root of the new average."""
        self.v = beta * self.v + (1.0 - beta) * x
        return np.asarray(self.v**-0.5)

    def named(self, name: str) -> Result:
        """Its state."""
        return {name: self.v}


class Means:
    """An average for each row and each column, of every matrix in a stack."""

    def __init__(self, theta: Array) -> None:
        self.rows = np.zeros((*theta.shape[:-1], 1))
        self.columns = np.zeros((*theta.shape[:-2], 1, theta.shape[-1]))

    def inverse_root(self, x: Array, beta: float) -> Array:
        """One over the root of rows times columns over the mean of the rows."""
        self.rows = beta * self.rows + (1.0 - beta) * x.mean(axis=-1, keepdims=True)
        self.columns = beta * self.columns + (1.0 - beta) * x.mean(axis=-2, keepdims=True)
        return np.asarray((self.rows / self.rows.mean(axis=-2, keepdims=True)) ** -0.5 * self.columns**-0.5)

    def named(self, name: str) -> Result:
        """Its state."""
        return {f"{name}_row": self.rows, f"{name}_col": self.columns}
