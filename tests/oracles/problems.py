"""Deterministic starting points and gradients to drive an optimizer and its oracle with."""

from collections.abc import Collection, Sequence

import numpy as np

from .common import Array, Gradients


def problem(seed: int, shapes: Sequence[tuple[int, ...]], steps: int) -> tuple[list[Array], list[list[Array]]]:
    """(theta0, grads): parameters of size about 1 and, for each step and tensor, a gradient.

    Each gradient's elements have sizes from 1e-3 to 1e2, about one in eight is exactly zero, and every third step the
    gradient of one tensor is zero throughout.
    """
    rng = np.random.default_rng(seed)
    theta0 = [np.asarray(rng.standard_normal(shape), dtype=np.float64) for shape in shapes]
    grads = [[_gradient(rng, shape) for shape in shapes] for _ in range(steps)]
    for k in range(2, steps, 3):
        which = k % max(len(shapes), 1)
        grads[k][which] = np.zeros_like(grads[k][which])
    return theta0, grads


def without(grads: Gradients, tensor: int, steps: Collection[int]) -> list[list[Array | None]]:
    """The same gradients, but `tensor` has none (None) at the given steps (counted from 0)."""
    return [
        [None if i == tensor and k in steps else g for i, g in enumerate(of_step)] for k, of_step in enumerate(grads)
    ]


def _gradient(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    size = 10.0 ** rng.uniform(-3.0, 2.0, shape)
    return np.asarray(rng.standard_normal(shape) * size * (rng.uniform(size=shape) > 0.125), dtype=np.float64)
