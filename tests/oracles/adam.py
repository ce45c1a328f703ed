"""Adam, AdamW, Adamax, SparseAdam.

Kingma & Ba 2015 (Algorithms 1 and 2); AMSGrad: Reddi, Kale & Kumar 2018; AdamW: Loshchilov & Hutter 2019.
As in torch: AMSGrad keeps the maximum of the uncorrected v and corrects it afterwards (optax, `amsgrad_corrected`: it
corrects v and keeps the maximum of that); AdamW shrinks theta by 1 - lr lambda before the update; Adamax adds eps to
|g| before the maximum (Keras, without `eps_in_max`: to u at the division). `eps_hat`: Kingma & Ba, end of section 2.
"""

import math
from collections.abc import Sequence

import numpy as np

from .adaptive import root
from .common import Array, Gradients, Rate, Result, Steps, decayed, trace


def adam(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
    eps_in_sqrt: bool = False,
    eps_hat: bool = False,
    amsgrad_corrected: bool = False,
) -> list[Result]:
    """m, v: moving averages of g, g^2; theta -= lr mhat / (sqrt(vhat) + eps), or with eps_hat
    theta -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps).
    """
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, v, largest = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            largest = np.maximum(largest, v / (1.0 - b2**t) if amsgrad_corrected else v)
            second = largest if amsgrad else v
            if eps_hat:
                alpha = rate * math.sqrt(1.0 - b2**t) / (1.0 - b1**t)
                theta = theta - alpha * m / (np.sqrt(second) + eps)
            else:
                vhat = second if amsgrad_corrected else second / (1.0 - b2**t)
                theta = theta - rate * (m / (1.0 - b1**t)) / root(vhat, eps, eps_in_sqrt)
        state = {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}
        return {**state, "max_exp_avg_sq": largest} if amsgrad else state

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def adamw(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    maximize: bool = False,
    lr_in_decay: bool = True,
    eps_in_sqrt: bool = False,
    eps_hat: bool = False,
    amsgrad_corrected: bool = False,
) -> list[Result]:
    """Adam whose weight decay shrinks theta and stays out of m and v."""
    return adam(
        theta0,
        grads,
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        amsgrad=amsgrad,
        maximize=maximize,
        decoupled_weight_decay=True,
        lr_in_decay=lr_in_decay,
        eps_in_sqrt=eps_in_sqrt,
        eps_hat=eps_hat,
        amsgrad_corrected=amsgrad_corrected,
    )


def adamax(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
    eps_in_max: bool = True,
) -> list[Result]:
    """u = max(b2 u, |g| + eps), theta -= lr mhat / u; or eps joins u there: theta -= lr mhat / (u + eps)."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        m, u = np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            m = b1 * m + (1.0 - b1) * g
            u = np.maximum(b2 * u, np.abs(g) + (eps if eps_in_max else 0.0))
            theta = theta - rate / (1.0 - b1**t) * m / (u + (0.0 if eps_in_max else eps))
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_inf": u}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def sparse_adam(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    maximize: bool = False,
) -> list[Result]:
    """Where g is 0 nothing moves; elsewhere theta -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)."""
    b1, b2 = betas

    def one(theta: Array, steps: Steps) -> Result:
        theta, m, v = theta.copy(), np.zeros_like(theta), np.zeros_like(theta)
        for t, (rate, g) in enumerate(steps, start=1):
            for at in np.argwhere(g != 0.0):
                i = tuple(at)
                m[i] = b1 * m[i] + (1.0 - b1) * g[i]
                v[i] = b2 * v[i] + (1.0 - b2) * g[i] ** 2
                theta[i] -= rate * np.sqrt(1.0 - b2**t) / (1.0 - b1**t) * m[i] / (np.sqrt(v[i]) + eps)
        return {"param": theta, "step": len(steps), "exp_avg": m, "exp_avg_sq": v}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
