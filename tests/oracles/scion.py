"""Scion (Pethick et al. 2025, "Training deep learning models with norm-constrained LMOs")."""

import math
from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, trace
from .orthogonal import COEFFICIENTS, polar


def scion(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 2**-12,
    momentum: float = 0.1,
    norm: str | None = None,
    scale: float = 50.0,
    unconstrained: bool = False,
    eps: float = 1e-8,
    ns_coefficients: tuple[float, float, float] | str = COEFFICIENTS,
    ns_steps: int = 5,
    maximize: bool = False,
) -> list[Result]:
    """b = (1 - a) b + a g; theta = (1 - lr) theta - lr rho lmo(b), without the shrinking if unconstrained.

    Vectors are matrices of one column: a linear map of one constant input.
    """

    def lmo(b: Array) -> Array:
        chosen = norm or ("spectral" if b.ndim > 1 else "bias_rms")
        x = b if b.ndim > 1 else b.reshape(-1, 1)
        rows, columns = x.shape
        if not x.size:
            return b
        if chosen == "spectral":
            point = math.sqrt(rows / columns) * polar(x, ns_coefficients, 1e-7, ns_steps)
        elif chosen == "sign":
            point = np.sign(x) / columns
        elif chosen == "bias_rms":
            point = x / (math.sqrt(float(np.mean(x * x))) + eps)
        elif chosen == "col_norm":
            point = x / (np.sqrt(np.mean(x * x, axis=0, keepdims=True)) + eps)
        else:
            point = x / (columns * np.sqrt(np.mean(x * x, axis=1, keepdims=True)) + eps)
        return np.asarray(point.reshape(b.shape))

    def one(theta: Array, steps: Steps) -> Result:
        b = np.zeros_like(theta)
        for rate, g in steps:
            b = (1.0 - momentum) * b + momentum * g
            theta = (theta if unconstrained else (1.0 - rate) * theta) - rate * scale * lmo(b)
        return {"param": theta, "step": len(steps), "momentum_buffer": b}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
