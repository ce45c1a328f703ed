"""Schedule-Free SGD, AdamW and RAdam (Defazio et al. 2024), by the paper's three sequences z, x and y.

The rate, the weights of the average and the step count are of the group: a tensor without a gradient sleeps through a
step, and finds the numbers further on.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, per_step

Direction = Callable[[int, Array, Array, Array], tuple[Array, Array]]
"""(k, g, y, v) -> (direction, new v), where k counts from 1."""


def averaged(
    theta0: Sequence[Array],
    grads: Gradients,
    direction: Direction,
    rates: Sequence[float],
    beta: float,
    r: float,
    power: float,
    maximize: bool,
    has_v: bool,
) -> list[Result]:
    """z goes down the direction at y = beta x + (1 - beta) z; x is the weighed average of all z. The result is y."""
    z = [np.array(theta) for theta in theta0]
    x = [np.array(theta) for theta in theta0]
    v = [np.zeros_like(theta) for theta in theta0]
    awake = [False] * len(theta0)
    total, largest = 0.0, -1.0
    sign = -1.0 if maximize else 1.0
    with np.errstate(all="ignore"):
        for k, (rate, of_step) in enumerate(zip(rates, grads, strict=True), start=1):
            largest = max(largest, rate)
            weight = k**r * largest**power
            total += weight
            c = weight / total if total else 0.0
            for i, g in enumerate(of_step):
                if g is None:
                    continue
                awake[i] = True
                d, v[i] = direction(k, sign * g, beta * x[i] + (1.0 - beta) * z[i], v[i])
                z[i] = z[i] - rate * d
                x[i] = (1.0 - c) * x[i] + c * z[i]
    results: list[Result] = []
    for i, theta in enumerate(theta0):
        if not awake[i]:
            results.append({"param": np.array(theta)})
            continue
        y = beta * x[i] + (1.0 - beta) * z[i]
        results.append({"param": y, "z": z[i], **({"exp_avg_sq": v[i]} if has_v else {})})
    return results


def warmed(lr: Rate, steps: int, warmup_steps: int) -> list[float]:
    """Rates that rise to lr over the first steps."""
    return [rate * min(1.0, (i + 1) / max(1, warmup_steps)) for i, rate in enumerate(per_step(lr, steps))]


def sgdschedulefree(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1.0,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    maximize: bool = False,
) -> list[Result]:
    """The gradient at y, and weight_decay y."""

    def direction(k: int, g: Array, y: Array, v: Array) -> tuple[Array, Array]:
        return g + weight_decay * y, v

    rates = warmed(lr, len(grads), warmup_steps)
    return averaged(theta0, grads, direction, rates, momentum, r, weight_lr_power, maximize, has_v=False)


def adamwschedulefree(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 0.0025,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    maximize: bool = False,
) -> list[Result]:
    """g / (sqrt(vhat) + eps), and weight_decay y."""
    b1, b2 = betas

    def direction(k: int, g: Array, y: Array, v: Array) -> tuple[Array, Array]:
        v = b2 * v + (1.0 - b2) * g * g
        return g / (np.sqrt(v / (1.0 - b2**k)) + eps) + weight_decay * y, v

    rates = warmed(lr, len(grads), warmup_steps)
    return averaged(theta0, grads, direction, rates, b1, r, weight_lr_power, maximize, has_v=True)


def radamschedulefree(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 0.0025,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    silent_sgd_phase: bool = True,
    maximize: bool = False,
) -> list[Result]:
    """As AdamW while rho > 4, with the rectified rate; before, the gradient itself, with a rate of 0 or of lr."""
    b1, b2 = betas
    most = 2.0 / (1.0 - b2) - 1.0

    def rho(k: int) -> float:
        return most - 2.0 * k * b2**k / (1.0 - b2**k)

    def rectification(k: int) -> float:
        if rho(k) <= 4:
            return 0.0 if silent_sgd_phase else 1.0
        above = (rho(k) - 4.0) * (rho(k) - 2.0) * most
        return float(np.sqrt(above / ((most - 4.0) * (most - 2.0) * rho(k))))

    def direction(k: int, g: Array, y: Array, v: Array) -> tuple[Array, Array]:
        v = b2 * v + (1.0 - b2) * g * g
        d = g / (np.sqrt(v / (1.0 - b2**k)) + eps) if rho(k) > 4 else g
        return d + weight_decay * y, v

    rates = [rate * rectification(k) for k, rate in enumerate(per_step(lr, len(grads)), start=1)]
    return averaged(theta0, grads, direction, rates, b1, r, weight_lr_power, maximize, has_v=True)
