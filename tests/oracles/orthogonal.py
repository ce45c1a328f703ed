"""Muon (Jordan et al. 2024; Liu et al. 2025, "Muon is scalable for LLM training")."""

import math
from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, trace

COEFFICIENTS = (3.4445, -4.775, 2.0315)

POLAR5 = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""The five steps of the Polar Express, from 1 / 1.02 of the norm."""


def muon(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] | str = COEFFICIENTS,
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
    maximize: bool = False,
) -> list[Result]:
    """B = mu B + (1 - mu) g; theta = (1 - lr lambda) theta - lr' O.

    O has the singular vectors of B (or of mu B + (1 - mu) g), and polynomials of its singular values. In float64, where
    the library iterates in bfloat16.
    """

    def one(theta: Array, steps: Steps) -> Result:
        B = np.zeros_like(theta)
        for rate, g in steps:
            B = momentum * B + (1.0 - momentum) * g
            seen = momentum * B + (1.0 - momentum) * g if nesterov else B
            step = polar(seen, ns_coefficients, eps, ns_steps)
            if adjust_lr_fn == "rms_norm" and step.any():
                step = step / np.sqrt(np.mean(step * step))
            theta = (1.0 - rate * weight_decay) * theta - rate * adjustment(theta.shape, adjust_lr_fn) * step
        return {"param": theta, "step": len(steps), "momentum_buffer": B}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def adjustment(shape: tuple[int, ...], name: str | None) -> float:
    """The factor of the rate for a matrix of this shape."""
    rows, columns = shape
    if name == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    if name == "rms_norm":
        return 0.2
    if name == "spectral":
        return math.sqrt(rows / max(columns, 1))
    return math.sqrt(max(1.0, rows / max(columns, 1)))


def polar(x: Array, coefficients: tuple[float, float, float] | str, eps: float, steps: int) -> Array:
    """The iteration by its coefficients, or by its name, of which this module knows one."""
    if isinstance(coefficients, tuple):
        return spectral(x, coefficients, eps, steps)
    assert coefficients == "polar5"
    left, s, right = np.linalg.svd(x, full_matrices=False)
    s = s / (1.02 * max(float(np.sqrt(np.sum(s * s))), eps))
    for a, b, c in POLAR5:
        s = a * s + b * s**3 + c * s**5
    return np.asarray(left * s @ right)


def spectral(x: Array, coefficients: tuple[float, float, float], eps: float, steps: int) -> Array:
    """The iteration on singular values alone: s becomes a s + b s^3 + c s^5, and the singular vectors stay."""
    a, b, c = coefficients
    if not x.size:
        return x
    left, s, right = np.linalg.svd(x, full_matrices=False)
    s = s / max(float(np.sqrt(np.sum(s * s))), eps)
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return np.asarray(left * s @ right)
