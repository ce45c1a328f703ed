"""SOAP (Vyas et al. 2024, Algorithm 3, as in the authors' code), matrix by matrix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, trace


@dataclass
class Side:
    """One side of a matrix: the average G of the gradients' products, a basis Q of its eigenvectors, and for the
    Kullback-Leibler form an average of eigenvalues.
    """

    size: int
    G: Array = field(init=False)
    Q: Array = field(init=False)
    spectrum: Array = field(init=False)

    def __post_init__(self) -> None:
        self.G = np.zeros((self.size, self.size))
        self.Q = np.eye(self.size)
        self.spectrum = np.full(self.size, 0.1)

    def see(self, x: Array, beta: float, *, has_basis: bool) -> None:
        self.G = beta * self.G + (1.0 - beta) * x @ x.T
        if has_basis:
            self.spectrum = beta * self.spectrum + (1.0 - beta) * self.eigenvalues()

    def eigenvalues(self) -> Array:
        return np.asarray(np.einsum("ij,ik,kj->j", self.Q, self.G, self.Q))

    def whitening(self) -> Array:
        return np.minimum(1.0 / np.sqrt(self.spectrum), 4000.0)

    def begin(self) -> None:
        self.Q = np.linalg.eigh(self.G + 1e-30 * np.eye(self.size))[1][:, ::-1]

    def refresh(self) -> Array:
        """One power iteration; the new order of the columns."""
        order = np.argsort(-self.eigenvalues(), kind="stable")
        self.Q = np.linalg.qr(self.G @ self.Q[:, order])[0]
        self.spectrum = self.spectrum[order]
        return order


Sides = list[Side | None]


def turned(x: Array, sides: Sides, *, forth: bool) -> Array:
    """Into the bases, or out of them."""
    for axis, side in enumerate(sides):
        if side is not None:
            x = np.moveaxis(np.tensordot(side.Q, x, axes=([0 if forth else 1], [axis])), 0, axis)
    return x


def seen(g: Array, sides: Sides, *, kl: bool, is_first: bool) -> tuple[Array, Array]:
    """What the averages of rows and columns are of."""
    left, right = sides
    if not kl or left is None or right is None:
        return g, g.T
    rows, columns = map(math.sqrt, g.shape)
    if is_first:
        return g / columns, g.T / rows
    return (g @ right.Q) * right.whitening() / columns, ((left.Q.T @ g) * left.whitening()[:, None]).T / rows


def observe(g: Array, v: Array, sides: Sides, k: int, beta: float, every: int, *, kl: bool) -> Array:
    """Average, and now and then refresh the bases; v in the new order."""
    for x, side in zip(seen(g, sides, kl=kl, is_first=k == 0), sides, strict=True):
        if side is not None:
            side.see(x, beta, has_basis=k > 0)
    for axis, side in enumerate(sides):
        if side is not None and k == 0:
            side.begin()
        elif side is not None and k % every == 0:
            v = np.take(v, side.refresh(), axis=axis)
    return v


def kept(sides: Sides, *, kl: bool) -> Result:
    """The state of all sides."""
    found: Result = {f"GG_{i}": side.G for i, side in enumerate(sides) if side is not None}
    found |= {f"Q_{i}": side.Q for i, side in enumerate(sides) if side is not None}
    if kl and all(side is not None for side in sides):
        found |= {f"eigenvalues_{i}": np.expand_dims(s.spectrum, 1 - i) for i, s in enumerate(sides) if s is not None}
    return {**found, "failures": np.zeros((1, 1))}


def soap(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 3e-3,
    betas: tuple[float, float] = (0.95, 0.95),
    shampoo_beta: float | None = None,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    precondition_frequency: int = 10,
    max_precond_dim: int = 10000,
    normalize_grads: bool = False,
    correct_bias: bool = True,
    kl: bool = False,
    maximize: bool = False,
) -> list[Result]:
    """The first step makes the bases only. A side that is too long has the identity for its basis."""
    b1, b2 = betas
    beta = b2 if shampoo_beta is None else shampoo_beta

    def one(theta: Array, steps: Steps) -> Result:
        shape = theta.shape
        if theta.ndim > 2:  # a convolution is a matrix with a row per output channel
            result = one(theta.reshape(shape[0], -1), [(rate, g.reshape(shape[0], -1)) for rate, g in steps])
            return {n: x.reshape(shape) if n in ("param", "exp_avg", "exp_avg_sq") else x for n, x in result.items()}
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        sides: Sides = [Side(n) if n <= max_precond_dim else None for n in theta.shape] if theta.ndim > 1 else []
        for k, (rate, g) in enumerate(steps):
            if k > 0:
                m = b1 * m + (1.0 - b1) * g
                v = b2 * v + (1.0 - b2) * turned(g, sides, forth=True) ** 2
                u = turned(turned(m, sides, forth=True) / (np.sqrt(v) + eps), sides, forth=False)
                u = u / np.sqrt(np.mean(u * u)) if normalize_grads else u
                corrected = math.sqrt(1.0 - b2**k) / (1.0 - b1**k) if correct_bias else 1.0
                theta = (theta - rate * corrected * u) * (1.0 - rate * weight_decay)
            if sides:
                v = observe(g, v, sides, k, beta, precondition_frequency, kl=kl)
        state = {"step": len(steps), "exp_avg": m, "exp_avg_sq": v}
        return {"param": theta, **state, **(kept(sides, kl=kl) if sides else {})}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
