"""Shampoo (Gupta, Koren and Singer 2018; Shi et al. 2023), matrix by matrix."""

import math
from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, trace


def inverse_root(A: Array, power: float, eps: float) -> Array:
    """(A + eps I)^-power, with eigenvalues of at least eps."""
    if not len(A):
        return A
    values, vectors = np.linalg.eigh(A + eps * np.eye(len(A)))
    values = values + max(0.0, eps - float(values[0]))
    return np.asarray((vectors * values**-power) @ vectors.T)


def graft_direction(name: str | None, x: Array, second: Array, t: int, beta2: float, eps: float) -> Array:
    """The step of the rule that gives the length."""
    if name in (None, "sgd"):
        return x
    return x / (np.sqrt(second / (1.0 - beta2**t) if name == "adam" else second) + eps)


def shampoo(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-2,
    betas: tuple[float, float] = (0.9, 1.0),
    beta3: float | None = None,
    eps: float = 1e-12,
    weight_decay: float = 0.0,
    precondition_frequency: int = 1,
    start_preconditioning_step: int | None = None,
    max_precond_dim: int = 1024,
    exponent: float | None = None,
    correct_bias: bool = True,
    graft: str | None = None,
    graft_beta2: float = 0.999,
    graft_eps: float = 1e-8,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
    maximize: bool = False,
) -> list[Result]:
    """A vector is a matrix of one column, of which only the rows are preconditioned."""
    b1, b2 = betas
    b3 = b1 if beta3 is None else beta3
    start = precondition_frequency if start_preconditioning_step is None else start_preconditioning_step

    def one(theta: Array, steps: Steps) -> Result:
        shape = theta.shape
        theta = theta.reshape(shape[0], -1) if theta.ndim > 1 else theta.reshape(-1, 1)
        sides = (
            [n <= max_precond_dim for n in theta.shape] if len(shape) > 1 else [theta.size <= max_precond_dim, False]
        )
        factors = [np.zeros((n, n)) for n in theta.shape]
        roots = [np.eye(n) for n in theta.shape]
        m, second = np.zeros_like(theta), np.zeros_like(theta)
        power = exponent if exponent is not None else 1.0 / (2.0 * max(1, sum(sides)))
        for t, (rate, g) in enumerate(steps, start=1):
            g = g.reshape(theta.shape)
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            x = (b3 * m + (1.0 - b3) * g) / (1.0 - b3 * b1 ** (t - 1) if correct_bias else 1.0)
            m = b1 * m + (1.0 - b1) * g
            second = second + g * g if graft == "adagrad" else graft_beta2 * second + (1.0 - graft_beta2) * g * g
            direction = graft_direction(graft, x, second, t, graft_beta2, graft_eps)
            for side, seen in enumerate((g, g.T)):
                factors[side] = b2 * factors[side] + (1.0 - b2 if b2 < 1 else 1.0) * seen @ seen.T
            if t == start or (t > start and t % precondition_frequency == 0):
                scale = 1.0 - b2**t if correct_bias and b2 < 1 else 1.0
                roots = [
                    inverse_root(A / scale, power, eps) if there else root
                    for A, there, root in zip(factors, sides, roots, strict=True)
                ]
            u = direction
            if t >= start:
                u = roots[0] @ x @ roots[1]
                if graft is not None:
                    u = u * (math.sqrt(np.sum(direction**2)) / (math.sqrt(np.sum(u**2)) + 1e-16))
            theta = theta - rate * u
        return {"param": theta.reshape(shape), **_state(len(steps), m, second, graft, sides, factors, roots, shape)}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def _state(
    steps: int,
    m: Array,
    second: Array,
    graft: str | None,
    sides: list[bool],
    factors: list[Array],
    roots: list[Array],
    shape: tuple[int, ...],
) -> Result:
    found: Result = {"step": steps, "filtered_grad": m.reshape(shape)}
    if graft not in (None, "sgd"):
        found["graft_sq"] = second.reshape(shape)
    found |= {f"factor_{i}": x for i, x in enumerate(factors) if sides[i]}
    found |= {f"inverse_root_{i}": x for i, x in enumerate(roots) if sides[i]}
    return {**found, "failures": np.zeros((1, 1))}
