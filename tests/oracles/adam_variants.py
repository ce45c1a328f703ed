"""NAdam (Dozat 2016, "Incorporating Nesterov momentum into Adam") and RAdam (Liu et al. 2020, Algorithm 2)."""

import math
from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, trace


def nadam(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
    maximize: bool = False,
    momentum_schedule: str = "torch",
) -> list[Result]:
    """theta -= lr (a m + c g) / (sqrt(vhat) + eps); a and c by `momentum_schedule` (see `nadam_weights`).

    "mu_product" is state of torch's schedule only: the other two need nothing but the step.
    """
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v, product = np.zeros_like(theta), np.zeros_like(theta), 1.0
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            product *= torch_mu(t, b1, momentum_decay)
            a, c = nadam_weights(momentum_schedule, t, b1, momentum_decay, product)
            theta = theta - rate * (a * m + c * g) / (np.sqrt(v / (1.0 - b2**t)) + eps)
        counters = {"step": len(steps), "mu_product": product} if momentum_schedule == "torch" else {"step": len(steps)}
        return {"param": theta, **counters, "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def torch_mu(t: int, b1: float, momentum_decay: float) -> float:
    """mu_t = b1 (1 - 0.96^(t psi) / 2): Dozat's warm-up of the momentum, as torch has it."""
    return float(b1 * (1.0 - 0.5 * 0.96 ** (t * momentum_decay)))


def nadam_weights(schedule: str, t: int, b1: float, momentum_decay: float, product: float) -> tuple[float, float]:
    """The factors of m and g; `product` is mu_1 ... mu_t of torch's schedule."""
    if schedule == "torch":
        mu, following = torch_mu(t, b1, momentum_decay), torch_mu(t + 1, b1, momentum_decay)
        return following / (1.0 - product * following), (1.0 - mu) / (1.0 - product)
    correction = {"constant": 1.0 - b1**t, "dozat": 1.0 - b1 ** (t + 1)}[schedule]
    return b1 / correction, (1.0 - b1) / (1.0 - b1**t)


def radam(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
    maximize: bool = False,
    eps_hat: bool = True,
    threshold: float = 5.0,
) -> list[Result]:
    """theta -= lr r mhat l once rho_t > threshold (paper: 4), and lr mhat before.

    As in torch l is sqrt(1 - b2^t) / (sqrt(v) + eps), so eps is not bias-corrected; without eps_hat, as in optax, it is
    1 / (sqrt(v / (1 - b2^t)) + eps).
    """
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            correction = math.sqrt(1.0 - b2**t)
            d = (np.sqrt(v) + eps) / correction if eps_hat else np.sqrt(v) / correction + eps
            r = rectification(t, b2, threshold)
            theta = theta - rate * m / (1.0 - b1**t) * (1.0 if r is None else r / d)
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def ranger(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.95, 0.999),
    eps: float = 1e-5,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = True,
    lr_in_decay: bool = True,
    maximize: bool = False,
    eps_hat: bool = True,
    threshold: float = 5.0,
) -> list[Result]:
    """RAdam on gradients without their mean over all dimensions but the first; every six steps half-way to slow."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v, slow, age = np.zeros_like(theta), np.zeros_like(theta), theta.copy(), 0
        for t, (rate, gradient) in enumerate(steps, start=1):
            g = gradient - gradient.mean(tuple(range(1, theta.ndim)), keepdims=True) if theta.ndim > 1 else gradient
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            correction = math.sqrt(1.0 - b2**t)
            d = (np.sqrt(v) + eps) / correction if eps_hat else np.sqrt(v) / correction + eps
            r = rectification(t, b2, threshold)
            theta = theta - rate * m / (1.0 - b1**t) * (1.0 if r is None else r / d)
            age = age + 1
            if age == 6:
                theta = slow = slow + 0.5 * (theta - slow)
                age = 0
        return {
            "param": theta,
            "step": len(steps),
            "exp_avg": m,
            "exp_avg_sq": v,
            "slow": slow,
            "slow_age": age,
        }

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def rectification(t: int, b2: float, threshold: float) -> float | None:
    """The variance rectification r_t, or None while the variance of v is not tractable (rho_t <= threshold)."""
    rho_inf = 2.0 / (1.0 - b2) - 1.0
    rho = rho_inf - 2.0 * t * b2**t / (1.0 - b2**t)
    if rho <= threshold:
        return None
    return math.sqrt((rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho))
