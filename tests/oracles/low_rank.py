"""GaLore (Zhao et al. 2024, Algorithm 2) and APOLLO (Zhu et al. 2024, Algorithm 1), matrix by matrix."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, trace
from .noise import normal

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


def apollo(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-2,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    rank: int | None = 128,
    update_proj_gap: int = 200,
    scale: float = 1.0,
    scale_type: str = "channel",
    scale_front: bool = False,
    maximize: bool = False,
    seed: int = 0,
) -> list[Result]:
    """G times the lengths of Adam's direction over those of the gradient, both in a random projection.

    The projection's numbers are hashes of seed, place, refresh and element.
    """

    def one(place: int, theta: Array, steps: Steps) -> Result:
        shape, is_projected = theta.shape, theta.ndim > 1 and rank is not None
        adam = Adam(betas, eps)
        theta = theta.reshape(shape[0], -1) if is_projected else theta
        short, wide = min(theta.shape, default=1), is_projected and theta.shape[0] < theta.shape[1]
        r = min(rank or 0, short)
        previous = 0.0
        for k, (rate, g) in enumerate(steps):
            if not is_projected:
                step = adam.direction(g)
            else:
                g = g.reshape(theta.shape)
                P = normal(seed, place, k // update_proj_gap, short * r).reshape(short, r) / math.sqrt(max(r, 1))
                low = P.T @ g if wide else g @ P
                h = adam.direction(low)
                axis = (0, 1) if scale_type == "tensor" else (0,) if wide else (1,)
                lengths = [np.sqrt((x * x).sum(axis=axis, keepdims=True)) for x in (h, low)]
                step = g * lengths[0] / (lengths[1] + 1e-8) * (math.sqrt(scale) if scale_front else 1.0)
                size = math.sqrt(float((step * step).sum()))
                limit = max(size / (previous + 1e-8), 1.01) / 1.01 if previous else 1.0
                step, previous = step / limit, size / limit
                step = step if scale_front else step * math.sqrt(scale)
            theta = (theta - adam.rate(rate) * step) * (1.0 - rate * weight_decay)
        limited = {"scaled_grad": np.full((1, 1), previous)} if is_projected else {}
        return {"param": theta.reshape(shape), **adam.state, **limited}

    each = zip(theta0, zip(*grads, strict=True), strict=True)
    return [
        trace(partial(one, place), [theta], [[g] for g in own], lr=lr, maximize=maximize)[0]
        for place, (theta, own) in enumerate(each)
    ]


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
