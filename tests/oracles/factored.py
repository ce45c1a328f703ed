"""Adafactor (Shazeer & Stern 2018, "Adafactor: adaptive learning rates with sublinear memory cost", Algorithms 4-6)."""

import math
from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, trace


def adafactor(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-2,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[Result]:
    """U = G / sqrt(V); theta -= max(eps2, RMS(theta)) rho U / max(1, RMS(U) / d), rho = min(lr, 1 / sqrt(t)).

    V of a matrix is the rank-one matrix with the rows' and columns' running means; of a vector it is the running mean
    of G^2 itself. As in torch eps1 is a floor, of the mean of the rows and of sqrt(V); decay comes after RMS(theta).
    """
    floor = float(np.finfo(np.float64).eps) if eps[0] is None else eps[0]

    def one(theta: Array, steps: Steps) -> Result:
        moments = Factored(theta) if theta.ndim > 1 else Whole(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            relative = max(eps[1], rms(theta)) * min(rate, 1.0 / math.sqrt(t))
            theta = theta - rate * weight_decay * theta
            v = moments.updated(g * g, 1.0 - t**beta2_decay, floor)
            u = g / np.sqrt(np.maximum(v, floor**2))
            theta = theta - relative * u / max(1.0, rms(u) / d)
        return {"param": theta, "step": len(steps), **moments.state}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def rms(x: Array) -> float:
    """The root mean square; of nothing it is 0."""
    return math.sqrt(float(np.mean(x * x))) if x.size else 0.0


class Whole:
    """A second moment for each element."""

    def __init__(self, theta: Array) -> None:
        self.v = np.zeros_like(theta)

    def updated(self, square: Array, kept: float, floor: float) -> Array:
        """The new estimate of the mean of ``square``."""
        self.v = kept * self.v + (1.0 - kept) * square
        return self.v

    @property
    def state(self) -> Result:
        """Under torch's name."""
        return {"variance": self.v}


class Factored:
    """A second moment for each row and each column of every matrix in a stack."""

    def __init__(self, theta: Array) -> None:
        self.rows = np.zeros(theta.shape[:-1])
        self.columns = np.zeros((*theta.shape[:-2], theta.shape[-1]))

    def updated(self, square: Array, kept: float, floor: float) -> Array:
        """The outer product of rows and columns, with the mean that they share divided out."""
        if square.size:
            self.rows = kept * self.rows + (1.0 - kept) * square.mean(axis=-1)
            self.columns = kept * self.columns + (1.0 - kept) * square.mean(axis=-2)
        shared = np.maximum(self.rows.mean(axis=-1), floor) if self.rows.size else np.ones(square.shape[:-2])
        return np.asarray(np.einsum("...i,...j->...ij", self.rows, self.columns) / shared[..., None, None])

    @property
    def state(self) -> Result:
        """Under torch's names, with the dimensions that were averaged away kept."""
        return {"row_var": self.rows[..., :, None], "col_var": self.columns[..., None, :]}
