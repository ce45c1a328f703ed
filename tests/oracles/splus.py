"""SPlus (Frans, Levine and Abbeel 2025, Algorithm 1), matrix by matrix."""

from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, trace


def splus(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 0.1,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.01,
    ema_rate: float = 0.999,
    precondition_frequency: int = 100,
    nonstandard_constant: float = 1e-3,
    max_precond_dim: int = 10000,
    maximize: bool = False,
) -> list[Result]:
    """Signs of the momentum in bases that are found at the first step and then now and then."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        shape, is_matrix = theta.shape, theta.ndim > 1
        theta = theta.reshape(shape[0], -1) if is_matrix else theta.reshape(-1, 1)
        there = [is_matrix and n <= max_precond_dim for n in theta.shape]
        G = [np.zeros((n, n)) for n in theta.shape]
        Q = [np.eye(n) for n in theta.shape]
        m, average = np.zeros_like(theta), np.zeros_like(theta)
        factor = 2.0 / sum(theta.shape) if all(there) else nonstandard_constant
        for t, (rate, g) in enumerate(steps, start=1):
            g = g.reshape(theta.shape)
            m = b1 * m + (1.0 - b1) * g
            u = Q[0] @ np.sign(Q[0].T @ m @ Q[1]) @ Q[1].T
            G = [b2 * A + (1.0 - b2) * x @ x.T for A, x in zip(G, (g, g.T), strict=True)]
            if t == 1 or t % precondition_frequency == 0:
                Q = [_vectors(A) if own else q for A, q, own in zip(G, Q, there, strict=True)]
            theta = theta - rate * factor * u
            average = ema_rate * average + (1.0 - ema_rate) * theta
            theta = theta * (1.0 - rate * factor * weight_decay)
        state: Result = {"step": len(steps), "momentum": m.reshape(shape), "param_ema": average.reshape(shape)}
        if is_matrix:
            state |= {f"side_{i}": A for i, A in enumerate(G) if there[i]}
            state |= {f"Q_{i}": q for i, q in enumerate(Q) if there[i]}
            state["failures"] = np.zeros((1, 1))
        return {"param": theta.reshape(shape), **state}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def _vectors(A: Array) -> Array:
    return np.asarray(np.linalg.eigh(A + 1e-30 * np.eye(len(A)))[1][:, ::-1]) if len(A) else A
