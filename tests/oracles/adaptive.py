"""One rate per weight from the squares of its gradients: Adagrad, RMSprop, Adadelta.

Duchi, Hazan & Singer 2011; Tieleman & Hinton 2012 (lecture 6.5), centered: Graves 2013; Zeiler 2012.
eps is outside the root as in torch; `eps_in_sqrt` puts it inside. Adadelta has it inside both roots in paper and torch.
"""

from collections.abc import Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, decayed, trace


def root(v: Array, eps: float, eps_in_sqrt: bool) -> Array:
    """The denominator: sqrt(v + eps) or sqrt(v) + eps."""
    return np.asarray(np.sqrt(v + eps) if eps_in_sqrt else np.sqrt(v) + eps)


def adagrad(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
    eps_in_sqrt: bool = False,
) -> list[Result]:
    """G += g^2; theta -= lr / (1 + (t - 1) lr_decay) g / sqrt(G)."""

    def one(theta: Array, steps: Steps) -> Result:
        G = np.full_like(theta, initial_accumulator_value)
        for t, (rate, g) in enumerate(steps, start=1):
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            G = G + g * g
            theta = theta - rate / (1.0 + (t - 1) * lr_decay) * g / root(G, eps, eps_in_sqrt)
        return {"param": theta, "step": len(steps), "sum": G}

    return trace(one, theta0, grads, lr=lr, maximize=maximize, eager_state=True)


def rmsprop(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
    eps_in_sqrt: bool = False,
    lr_in_momentum: bool = False,
    initial_accumulator_value: float = 0.0,
) -> list[Result]:
    """E = alpha E + (1 - alpha) g^2; d = g / sqrt(E), centered g / sqrt(E - mean(g)^2); b = mu b + d; theta -= lr b.

    With `lr_in_momentum` b = mu b + lr d and theta -= b. E starts at `initial_accumulator_value`.
    """

    def one(theta: Array, steps: Steps) -> Result:
        E = np.full_like(theta, initial_accumulator_value)
        mean, b = np.zeros_like(theta), np.zeros_like(theta)
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            E = alpha * E + (1.0 - alpha) * g * g
            mean = alpha * mean + (1.0 - alpha) * g
            d = g / root(E - mean * mean if centered else E, eps, eps_in_sqrt)
            b = momentum * b + (rate * d if lr_in_momentum else d)
            theta = theta - (b if lr_in_momentum else rate * b)
        state = {"param": theta, "step": len(steps), "square_avg": E}
        if momentum > 0:
            state["momentum_buffer"] = b
        if centered:
            state["grad_avg"] = mean
        return state

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def adadelta(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    lr_in_decay: bool = True,
) -> list[Result]:
    """E from g^2; d = sqrt(D + eps) / sqrt(E + eps) g with the old D; then D from d^2; theta -= lr d."""

    def one(theta: Array, steps: Steps) -> Result:
        E, D = np.zeros_like(theta), np.zeros_like(theta)
        for rate, g in steps:
            theta, g = decayed(theta, g, rate, weight_decay, decoupled_weight_decay, lr_in_decay)
            E = rho * E + (1.0 - rho) * g * g
            d = np.sqrt(D + eps) / np.sqrt(E + eps) * g
            D = rho * D + (1.0 - rho) * d * d
            theta = theta - rate * d
        return {"param": theta, "step": len(steps), "square_avg": E, "acc_delta": D}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)
