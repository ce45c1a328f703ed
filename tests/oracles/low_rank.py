"""GaLore (Zhao et al. 2024, Algorithm 2), matrix by matrix."""

import math
from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, trace

SIDES = {"right": (False, True), "left": (True, False), "full": (True, True)}


def galore(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-2,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    rank: int | None = 128,
    update_proj_gap: int = 200,
    scale: float = 0.25,
    proj_type: str = "std",
    maximize: bool = False,
) -> list[Result]:
    """Adam on U'G, GV or U'GV; U and V from G's singular value decomposition, every few steps from the first."""

    def one(theta: Array, steps: Steps) -> Result:
        shape, is_projected = theta.shape, theta.ndim > 1 and rank is not None
        adam = Adam(betas, eps)
        if not is_projected:
            for rate, g in steps:
                u = adam.direction(g)
                theta = (theta - adam.rate(rate) * u) * (1.0 - rate * weight_decay)
            return {"param": theta, **adam.state}
        theta = theta.reshape(shape[0], -1)
        rows, columns = theta.shape
        r = min(rank or 0, rows, columns)
        usual, other = ("right", "left") if rows >= columns else ("left", "right")
        left, right = SIDES[{"std": usual, "reverse_std": other}.get(proj_type, proj_type)]
        U, V = np.eye(rows, r), np.eye(columns, r)
        for k, (rate, g) in enumerate(steps):
            g = g.reshape(theta.shape)
            if k % update_proj_gap == 0:
                found = np.linalg.svd(g, full_matrices=False)
                U, V = _along(found[0][:, :r], U), _along(found[2][:r].T, V)
            low = U.T @ g if left else g
            u = adam.direction(low @ V if right else low)
            u = U @ u if left else u
            u = u @ V.T if right else u
            theta = (theta - adam.rate(rate) * scale * u) * (1.0 - rate * weight_decay)
        state = {**adam.state, "failures": np.zeros((1, 1))}
        state |= {f"projector_{i}": P for i, (P, own) in enumerate(((U, left), (V, right))) if own}
        return {"param": theta.reshape(shape), **state}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def _along(new: Array, old: Array) -> Array:
    """Each vector or its negative, whichever does not point away from the old one."""
    return np.asarray(np.where((new * old).sum(axis=0) < 0, -new, new))


class Adam:
    """Averages of g and of its squares."""

    def __init__(self, betas: tuple[float, float], eps: float) -> None:
        self.betas, self.eps = betas, eps
        self.t = 0
        self.m: Array | float = 0.0
        self.v: Array | float = 0.0

    def direction(self, g: Array) -> Array:
        """m / (sqrt(v) + eps) after one more gradient; neither is corrected."""
        b1, b2 = self.betas
        self.t += 1
        self.m = b1 * self.m + (1.0 - b1) * g
        self.v = b2 * self.v + (1.0 - b2) * g * g
        return np.asarray(self.m / (np.sqrt(self.v) + self.eps))

    def rate(self, lr: float) -> float:
        """The rate of this step with both corrections."""
        b1, b2 = self.betas
        return lr * math.sqrt(1.0 - b2**self.t) / (1.0 - b1**self.t)

    @property
    def state(self) -> Result:
        """Its state."""
        return {"step": self.t, "exp_avg": self.m, "exp_avg_sq": self.v}
