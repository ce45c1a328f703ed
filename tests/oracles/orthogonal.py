"""Muon (Jordan et al. 2024; Liu et al. 2025, "Muon is scalable for LLM training") and its relatives."""

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
    lr_in_decay: bool = True,
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
            theta = (1.0 - (rate if lr_in_decay else 1.0) * weight_decay) * theta - rate * sized(step, adjust_lr_fn)
        return {"param": theta, "step": len(steps), "momentum_buffer": B}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def adjustment(shape: tuple[int, ...], name: str | None) -> float:
    """The factor of the rate for a matrix of this shape."""
    rows, columns = shape
    if name == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    if name == "rms_norm":
        return 0.2
    if name == "spectral_unclamped":
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


def normuon(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 0.02,
    weight_decay: float = 0.0,
    lr_in_decay: bool = True,
    momentum: float = 0.95,
    beta2: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] | str = COEFFICIENTS,
    ns_steps: int = 5,
    eps: float = 1e-10,
    adjust_lr_fn: str | None = None,
    maximize: bool = False,
) -> list[Result]:
    """Muon's O has its rows divided by the root of a running mean of their squares, and then the norm that it had."""

    def one(theta: Array, steps: Steps) -> Result:
        B, v = np.zeros_like(theta), np.zeros((theta.shape[0], 1))
        for rate, g in steps:
            B = momentum * B + (1.0 - momentum) * g
            seen = momentum * B + (1.0 - momentum) * g if nesterov else B
            step = polar(seen, ns_coefficients, 1e-7, ns_steps)
            v = beta2 * v + (1.0 - beta2) * np.sum(step * step, axis=1, keepdims=True) / step.shape[1]
            even = step / (np.sqrt(v) + eps)
            even = even * (np.linalg.norm(step) / np.linalg.norm(even)) if step.any() else even
            theta = (1.0 - (rate if lr_in_decay else 1.0) * weight_decay) * theta - rate * sized(even, adjust_lr_fn)
        return {"param": theta, "step": len(steps), "momentum_buffer": B, "second_momentum_buffer": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def adamuon(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 0.02,
    weight_decay: float = 0.01,
    lr_in_decay: bool = True,
    momentum: float = 0.95,
    beta2: float | None = None,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] | str = COEFFICIENTS,
    ns_steps: int = 5,
    eps: float = 1e-8,
    sign: bool = True,
    maximize: bool = False,
) -> list[Result]:
    """The orthogonalized sign of the momentum, over the root of its running square, in steps of RMS 0.2."""

    def one(theta: Array, steps: Steps) -> Result:
        decay = momentum if beta2 is None else beta2
        B, v = np.zeros_like(theta), np.zeros_like(theta)
        for rate, g in steps:
            B = momentum * B + (1.0 - momentum) * g
            seen = momentum * B + (1.0 - momentum) * g if nesterov else B
            step = polar(np.sign(seen) if sign else seen, ns_coefficients, 1e-7, ns_steps)
            v = decay * v + (1.0 - decay) * step * step
            theta = (1.0 - (rate if lr_in_decay else 1.0) * weight_decay) * theta - rate * sized(
                step / (np.sqrt(v) + eps), "rms_norm"
            )
        return {"param": theta, "step": len(steps), "momentum_buffer": B, "second_momentum_buffer": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def muon2(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 0.1,
    weight_decay: float = 0.0,
    lr_in_decay: bool = True,
    momentum: float = 0.95,
    beta2: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] | str = COEFFICIENTS,
    ns_steps: int = 5,
    eps: float = 1e-10,
    adjust_lr_fn: str | None = None,
    maximize: bool = False,
) -> list[Result]:
    """Muon of the momentum over the root of the running mean of g^2."""

    def one(theta: Array, steps: Steps) -> Result:
        B, v = np.zeros_like(theta), np.zeros_like(theta)
        for rate, g in steps:
            B = momentum * B + (1.0 - momentum) * g
            v = beta2 * v + (1.0 - beta2) * g * g
            seen = momentum * B + (1.0 - momentum) * g if nesterov else B
            step = polar(seen / (np.sqrt(v) + eps), ns_coefficients, 1e-7, ns_steps)
            theta = (1.0 - (rate if lr_in_decay else 1.0) * weight_decay) * theta - rate * sized(step, adjust_lr_fn)
        return {"param": theta, "step": len(steps), "momentum_buffer": B, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def sized(step: Array, name: str | None) -> Array:
    """The step under a convention of the rate."""
    if name == "rms_norm" and step.any():
        step = step / np.sqrt(np.mean(step * step))
    return adjustment(step.shape, name) * step
