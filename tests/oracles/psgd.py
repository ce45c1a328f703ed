"""PSGD with Kronecker products (Li 2015, arXiv:1512.04202) and its form QUAD (Li 2024, arXiv:2402.11858).

Every Q is a whole matrix here. The group that it lives in is a projection of its steps: to the upper triangle, or to
the diagonal. A vector's other side is the number 1.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, trace
from .noise import normal


def psgd_kron(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 3e-4,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    preconditioner_update_probability: float | None = None,
    max_size_triangular: int = 8192,
    memory_save_mode: str | None = None,
    momentum_into_precond_update: bool = True,
    precond_lr: float = 0.1,
    precond_init_scale: float = 1.0,
    maximize: bool = False,
    seed: int = 0,
) -> list[Result]:
    """Q ← Q - μ/l triu(AA' - BB') Q with A = Q G Q' and B = Q^-T V Q^-1; the step is Q'Q m Q'Q."""

    def one(place: int, theta: Array, steps: Steps) -> Result:
        shape, is_matrix = theta.shape, theta.ndim > 1
        theta = theta if is_matrix else theta.reshape(-1, 1)
        longer = [theta.shape[0] > theta.shape[1], theta.shape[1] > theta.shape[0]]
        is_saved = {
            None: [False, False],
            "smart_one_diag": longer,
            "one_diag": [longer[0], not longer[0]],
            "all_diag": [True, True],
        }[memory_save_mode]
        diagonal = [
            saved or n > max_size_triangular or not is_matrix for saved, n in zip(is_saved, theta.shape, strict=True)
        ]
        scale = math.sqrt(precond_init_scale) if is_matrix else precond_init_scale
        Q = [scale * np.eye(theta.shape[0]), scale * np.eye(theta.shape[1]) if is_matrix else np.eye(1)]
        diagonal = diagonal if is_matrix else [True, None]
        m, since = np.zeros_like(theta), 0
        for t, (rate, g) in enumerate(steps, start=1):
            g = g.reshape(theta.shape)
            m = momentum * m + (1.0 - momentum) * g
            ahead = m / (1.0 - momentum**t)
            chance = min(1.0, max(0.03, math.exp(-0.001 * (t - 501))))
            since += 1
            if since >= 1.0 / (preconditioner_update_probability or chance):
                since = 0
                G = ahead if momentum_into_precond_update else g
                V = normal(seed, place, t, theta.size).reshape(theta.shape)
                Q = _fitted(_even(Q) if is_matrix else Q, G, V, diagonal, precond_lr) if G.any() else Q
            u = Q[0].T @ Q[0] @ ahead @ Q[1].T @ Q[1]
            u = u * min(1.0, 1.1 / max(_rms(u), 1e-300))
            theta = theta - rate * (u + (weight_decay if is_matrix else 0.0) * theta)
        state: Result = {"step": len(steps), "momentum_buffer": m.reshape(shape), "update_counter": float(since)}
        return {"param": theta.reshape(shape), **state, **_sides("Q", Q, diagonal)}

    return _each(one, theta0, grads, lr, maximize)


def quad(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    lr_style: str | None = "adam",
    momentum: float = 0.95,
    weight_decay: float = 0.1,
    max_size_dense: int = 8192,
    max_skew_dense: float = 1.0,
    preconditioner_lr: float = 0.7,
    noise_scale: float = 1e-9,
    maximize: bool = False,
) -> list[Result]:
    """Q ← (1 - μ/2l E) Q (1 - μ/2l E) with E = (PG)(PG)' - n I; the step is P m, for P = Q² on each side."""

    def one(place: int, theta: Array, steps: Steps) -> Result:
        shape, is_matrix = theta.shape, theta.ndim > 1
        theta = theta if is_matrix else theta.reshape(-1, 1)
        n, k = theta.shape
        there = [n != 1 or k == 1, k != 1]
        dense = [all(there) and a <= max_size_dense and a * a <= max_skew_dense * a * b for a, b in ((n, k), (k, n))]
        Q, bound = [np.eye(n), np.eye(k)], [0.0, 0.0]
        m = np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            g = g.reshape(theta.shape)
            m = momentum * m + (1.0 - momentum) * g if t > 1 else g
            if t == 1:
                first = ((g * g).sum() / max(g.size, 1) + noise_scale**2) ** (-1.0 / (4.0 * sum(there)))
                Q = [first * q if own else q for q, own in zip(Q, there, strict=True)]
            if theta.size:
                if t % 100 == 0 and all(there):
                    Q = _even(Q)
                P = [q @ q for q in Q]
                X = P[0] @ m @ P[1]
                noise = [noise_scale**2 * np.trace(P[1] @ P[1]) * P[0] @ P[0]]
                noise += [noise_scale**2 * np.trace(P[0] @ P[0]) * P[1] @ P[1]]
                length = max(0.3, preconditioner_lr / math.sqrt(1.0 + t / 10000.0))
                for i, (Y, size) in enumerate(((X @ X.T + noise[0], k), (X.T @ X + noise[1], n))):
                    if there[i]:
                        Q[i], bound[i] = _congruence(Q[i], bound[i], Y, size, dense[i], length)
            u = Q[0] @ Q[0] @ m @ Q[1] @ Q[1]
            u = u * (1.05 / max(_rms(u), 1.05))
            theta = theta * (1.0 - rate * weight_decay) - rate * (0.2 if lr_style == "adam" else 1.0) * u
        kinds = [not whole if own else None for whole, own in zip(dense, there, strict=True)]
        state: Result = {"step": len(steps), "momentum_buffer": m.reshape(shape), **_sides("Q", Q, kinds)}
        state |= {f"L_{i}": np.full((1, 1), bound[i]) for i in range(2) if there[i]}
        return {"param": theta.reshape(shape), **state}

    return _each(one, theta0, grads, lr, maximize)


def _each(
    one: Callable[..., Result], theta0: Sequence[Array], grads: Gradients, lr: Rate, maximize: bool
) -> list[Result]:
    """Run each tensor, which is told its place."""
    each = zip(theta0, zip(*grads, strict=True), strict=True)
    return [
        trace(partial(one, place), [theta], [[g] for g in own], lr=lr, maximize=maximize)[0]
        for place, (theta, own) in enumerate(each)
    ]


def _fitted(Q: list[Array], G: Array, V: Array, diagonal: Sequence[bool | None], rate: float) -> list[Array]:
    """Each (1 - rate / l E) Q with the part E of AA' - BB' in the group's algebra, and l the size of AA' + BB'."""
    A = Q[0] @ (G + math.sqrt(2.0**-23) * np.abs(G).mean() * V) @ Q[1].T
    B = np.linalg.inv(Q[0]).T @ V @ np.linalg.inv(Q[1])
    moved = list(Q)
    for i, (X, Y) in enumerate(((A, B), (A.T, B.T))):
        both, E = X @ X.T + Y @ Y.T, X @ X.T - Y @ Y.T
        if diagonal[i] is not None:
            size = np.diag(both).max() if diagonal[i] else _length(both)
            moved[i] = Q[i] - rate / size * (np.diag(np.diag(E)) if diagonal[i] else np.triu(E)) @ Q[i]
    return moved


def _congruence(Q: Array, bound: float, Y: Array, size: int, is_dense: bool, rate: float) -> tuple[Array, float]:
    """C Q C for C = 1 - rate / (2 l) (Y - size), or its diagonal, and the l of now."""
    Y = Y if is_dense else np.diag(np.diag(Y))
    found = (_length(Y) if is_dense else np.diag(Y).max()) + size
    bound = max(0.95 * bound + 0.05 * found, found)
    C = np.eye(len(Q)) - rate / (2.0 * bound) * (Y - size * np.eye(len(Q)))
    return np.asarray(C @ Q @ C), bound


def _length(A: Array) -> float:
    """A lower bound of the largest eigenvalue: A's longest row, multiplied by A once, is nearly its vector."""
    row = A[np.argmax((A * A).sum(axis=1))]
    x = A @ row
    return float(np.linalg.norm(A @ (x / np.linalg.norm(x))))


def _even(Q: list[Array]) -> list[Array]:
    """Both with the same largest element."""
    a, b = (np.abs(q).max() for q in Q)
    return [Q[0] * math.sqrt(b / a), Q[1] * math.sqrt(a / b)]


def _rms(x: Array) -> float:
    return math.sqrt((x * x).sum() / max(x.size, 1))


def _sides(name: str, Q: list[Array], diagonal: Sequence[bool | None]) -> Result:
    """Each side that there is, a diagonal one as a column for the rows and as a row for the columns."""
    shapes = ((-1, 1), (1, -1))
    return {
        f"{name}_{i}": np.diag(q).reshape(shapes[i]) if kind else q
        for i, (q, kind) in enumerate(zip(Q, diagonal, strict=True))
        if kind is not None
    }
