"""Rules that find their step size: sums over all tensors of a step, and numbers that all tensors share."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from .common import Array, Gradients, Rate, Result, Steps, per_step, trace


class Walk:
    """All tensors at once. A tensor joins with its first gradient, and rests in steps without one."""

    def __init__(self, theta0: Sequence[Array], grads: Gradients, lr: Rate, maximize: bool) -> None:
        self.theta = [np.array(x, dtype=np.float64) for x in theta0]
        self.state: list[dict[str, Array]] = [{} for _ in theta0]
        self.grads, self.rates = grads, per_step(lr, len(grads))
        self.sign = -1.0 if maximize else 1.0

    def steps(self, zeros: Sequence[str], start: str) -> Iterator[tuple[float, list[tuple[int, Array]]]]:
        """Each step's rate and (tensor, gradient) pairs; first state is made: ``zeros``, and ``start``, a copy."""
        for rate, of_step in zip(self.rates, self.grads, strict=True):
            active = [(i, self.sign * g) for i, g in enumerate(of_step) if g is not None]
            for i, _ in active:
                if not self.state[i]:
                    self.state[i] = {name: np.zeros_like(self.theta[i]) for name in zeros}
                    self.state[i] |= {start: self.theta[i].copy()} if start else {}
            yield rate, active

    def results(self) -> list[Result]:
        """The final parameters and state."""
        return [{"param": theta, **held} for theta, held in zip(self.theta, self.state, strict=True)]


def prodigy(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    beta3: float | None = None,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decouple: bool = True,
    use_bias_correction: bool = False,
    safeguard_warmup: bool = False,
    d0: float = 1e-6,
    d_coef: float = 1.0,
    growth_rate: float | None = None,
    maximize: bool = False,
) -> list[Result]:
    """Mishchenko and Defazio 2024, Algorithm 4, with the authors' rules for d0 and growth. delta = d lr B.

    num = b3 num + (d / d0) delta sum <g, p0 - p>; s = b3 s + (d / d0) delta g; d_hat = d_coef num / sum |s|;
    p = p - delta m / (sqrt(v) + d_new eps), with the old delta.
    """
    b1, b2 = betas
    b3 = math.sqrt(b2) if beta3 is None else beta3
    walk = Walk(theta0, grads, lr, maximize)
    d = d_max = d0
    num, k = 0.0, 0
    for rate, active in walk.steps(["s", "exp_avg", "exp_avg_sq"], "p0"):
        bias = math.sqrt(1 - b2 ** (k + 1)) / (1 - b1 ** (k + 1)) if use_bias_correction else 1.0
        delta = d * rate * bias
        along = length = 0.0
        old = {}
        for i, g in active:
            p, held = walk.theta[i], walk.state[i]
            g = g if decouple else g + weight_decay * p
            old[i] = dict(held)
            along += float(np.sum(g * (held["p0"] - p)))
            held["exp_avg"] = b1 * held["exp_avg"] + (1 - b1) * d * g
            held["exp_avg_sq"] = b2 * held["exp_avg_sq"] + (1 - b2) * d * d * g * g
            held["s"] = b3 * held["s"] + d / d0 * (d if safeguard_warmup else delta) * g
            length += float(np.sum(np.abs(held["s"])))
        if length == 0:
            for i, held in old.items():
                walk.state[i] = held
            continue
        num = b3 * num + d / d0 * delta * along
        d_hat = d_coef * num / length
        d_grown = max(d, d_hat) if d == d0 else d
        d_max = max(d_max, d_hat)
        d = d_max if growth_rate is None else min(d_max, d_grown * growth_rate)
        k += 1
        for i, _ in active:
            held = walk.state[i]
            p = walk.theta[i] * (1 - delta * weight_decay) if decouple else walk.theta[i]
            walk.theta[i] = p - delta * held["exp_avg"] / (np.sqrt(held["exp_avg_sq"]) + d * eps)
    return walk.results()


def dadaptadam(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decouple: bool = False,
    use_bias_correction: bool = False,
    d0: float = 1e-6,
    growth_rate: float | None = None,
    maximize: bool = False,
) -> list[Result]:
    """Defazio and Mishchenko 2023: num = r num + (1 - r) delta sum <g, s / (sqrt(v_old) + eps)> with r = sqrt(b2)."""
    b1, b2 = betas
    r = math.sqrt(b2)
    walk = Walk(theta0, grads, lr, maximize)
    d, num, k = d0, 0.0, 0
    for rate, active in walk.steps(["s", "exp_avg", "exp_avg_sq"], ""):
        bias = math.sqrt(1 - b2 ** (k + 1)) / (1 - b1 ** (k + 1)) if use_bias_correction else 1.0
        delta = d * rate * bias
        along = length = 0.0
        for i, g in active:
            held = walk.state[i]
            g = g if decouple else g + weight_decay * walk.theta[i]
            along += float(np.sum(g * held["s"] / (np.sqrt(held["exp_avg_sq"]) + eps)))
            held["exp_avg"] = b1 * held["exp_avg"] + (1 - b1) * delta * g
            held["exp_avg_sq"] = b2 * held["exp_avg_sq"] + (1 - b2) * g * g
            held["s"] = r * held["s"] + (1 - r) * delta * g
            length += float(np.sum(np.abs(held["s"])))
        if length == 0:
            continue
        num = r * num + (1 - r) * delta * along
        d_hat = num / ((1 - r) * length)
        d = max(d, d_hat if growth_rate is None else min(d_hat, d * growth_rate))
        k += 1
        for i, _ in active:
            held = walk.state[i]
            p = walk.theta[i] * (1 - delta * weight_decay) if decouple else walk.theta[i]
            walk.theta[i] = p - held["exp_avg"] / (np.sqrt(held["exp_avg_sq"]) + eps)
    return walk.results()


def dadaptsgd(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1.0,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    d0: float = 1e-6,
    growth_rate: float | None = None,
    maximize: bool = False,
) -> list[Result]:
    """Defazio and Mishchenko 2023: s = s + (d lr / |g0|) g; d_hat = 2 num / |s|; p = mu p + (1 - mu) (x0 - s)."""
    walk = Walk(theta0, grads, lr, maximize)
    d, num, first_norm = d0, 0.0, 0.0
    for rate, active in walk.steps(["s"], "x0"):
        decayed = [(i, g + weight_decay * walk.theta[i]) for i, g in active]
        first_norm = first_norm or math.sqrt(sum(float(np.sum(g * g)) for _, g in decayed))
        if not first_norm:
            continue
        delta = d * rate / first_norm
        square = 0.0
        for i, g in decayed:
            held = walk.state[i]
            num += delta * float(np.sum(g * held["s"]))
            held["s"] = held["s"] + delta * g
            square += float(np.sum(held["s"] * held["s"]))
        d_hat = 2 * num / math.sqrt(square)
        d = max(d, d_hat if growth_rate is None else min(d_hat, d * growth_rate))
        for i, _ in active:
            held = walk.state[i]
            walk.theta[i] = momentum * walk.theta[i] + (1 - momentum) * (held["x0"] - held["s"])
    return walk.results()


def dog(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1.0,
    reps_rel: float = 1e-6,
    weight_decay: float = 0.0,
    eps: float = 1e-8,
    maximize: bool = False,
) -> list[Result]:
    """Ivgi et al. 2023: eta = max |p - x0| / sqrt(eps + sum |g|^2) over one long vector, at first reps (1 + |x0|).

    A vector that grows by tensors that join starts from the reps of what it then is, if that is larger.
    """

    def distance(held: list[tuple[Array, Array]]) -> float:
        return math.sqrt(sum(float(np.sum((a - b) ** 2)) for a, b in held))

    walk = Walk(theta0, grads, lr, maximize)
    rbar, total = 0.0, eps
    for rate, active in walk.steps([], "x0"):
        pairs = [(walk.theta[i], walk.state[i]["x0"]) for i, _ in active]
        first = reps_rel * (1 + distance([(x0, 0 * x0) for _, x0 in pairs]))
        rbar = max(rbar, first, distance(pairs))
        decayed = [(i, g + weight_decay * walk.theta[i]) for i, g in active]
        total += sum(float(np.sum(g * g)) for _, g in decayed)
        for i, g in decayed:
            walk.theta[i] = walk.theta[i] - rate * rbar / math.sqrt(total) * g
    return walk.results()


def ldog(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1.0,
    reps_rel: float = 1e-6,
    weight_decay: float = 0.0,
    eps: float = 1e-8,
    maximize: bool = False,
) -> list[Result]:
    """The same for every tensor by itself."""

    def one(theta: Array, steps: Steps) -> Result:
        x0, total = theta.copy(), eps
        rbar = reps_rel * (1 + float(np.linalg.norm(x0)))
        for rate, g in steps:
            g = g + weight_decay * theta
            rbar = max(rbar, float(np.linalg.norm(theta - x0)))
            total += float(np.sum(g * g))
            theta = theta - rate * rbar / math.sqrt(total) * g
        return {"param": theta, "x0": x0, "rbar": rbar, "G": total}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def dowg(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1.0,
    init_estim_sq_dist: float = 1e-4,
    eps: float = 1e-4,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[Result]:
    """Khaled et al. 2023, Algorithm 1: r2 = max |p - x0|^2, v += r2 |g|^2, p -= r2 / (sqrt(v) + eps) g."""
    walk = Walk(theta0, grads, lr, maximize)
    square, v = init_estim_sq_dist, 0.0
    for rate, active in walk.steps([], "x0"):
        square = max(square, sum(float(np.sum((walk.theta[i] - walk.state[i]["x0"]) ** 2)) for i, _ in active))
        decayed = [(i, g + weight_decay * walk.theta[i]) for i, g in active]
        v += square * sum(float(np.sum(g * g)) for _, g in decayed)
        for i, g in decayed:
            walk.theta[i] = walk.theta[i] - rate * square / (math.sqrt(v) + eps) * g
    return walk.results()


def cocob(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1.0,
    alpha: float = 100.0,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[Result]:
    """Orabona and Tommasi 2017, Algorithm 2; the way from the start is scaled by lr."""

    def one(theta: Array, steps: Steps) -> Result:
        x0 = theta.copy()
        bound, reward, absolute, dual = eps + 0 * theta, 0 * theta, 0 * theta, 0 * theta
        for rate, g in steps:
            g = g + weight_decay * theta
            bound = np.maximum(bound, np.abs(g))
            absolute = absolute + np.abs(g)
            reward = np.maximum(reward - g * (theta - x0), 0.0)
            dual = dual - g
            theta = x0 + rate * dual / (bound * np.maximum(absolute + bound, alpha * bound)) * (bound + reward)
        held = {"sum_negative_gradients": dual, "grad_norm_sum": absolute, "L": bound, "reward": reward, "x0": x0}
        return {"param": theta, **held}

    return trace(one, theta0, grads, lr=lr, maximize=maximize)


def momo(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 1.0,
    loss: Rate = 1.0,
    beta: float = 0.9,
    lower_bound: float = 0.0,
    weight_decay: float = 0.0,
    adapt_lower_bound: bool = False,
    maximize: bool = False,
) -> list[Result]:
    """Schaipp et al. 2024, Algorithm 1, with decay and an adapted bound; ``loss`` has one number for each step.

    m, f, gamma are averages of g, loss and <g, p> that start at their first values;
    tau = min(lr, ((1 + lr l)(f - lb - gamma) + <m, p>)+ / |m|^2); p = p / (1 + lr l) - tau m.
    """
    walk = Walk(theta0, grads, lr, maximize)
    f = gamma = 0.0
    lb = lower_bound
    losses = per_step(loss, len(grads))
    for t, (rate, active) in enumerate(walk.steps(["exp_avg"], "")):
        b = beta if t else 0.0
        w = 1 + rate * weight_decay
        along = square = product = 0.0
        for i, g in active:
            m = b * walk.state[i]["exp_avg"] + (1 - b) * g
            walk.state[i]["exp_avg"] = m
            along += float(np.sum(m * walk.theta[i]))
            square += float(np.sum(m * m))
            product += float(np.sum(g * walk.theta[i]))
        f, gamma = b * f + (1 - b) * walk.sign * losses[t], b * gamma + (1 - b) * product
        if adapt_lower_bound and w * (f - gamma) + along < w * lb:
            lb = max((w * (f - gamma) + along) / (2 * w), lower_bound)
        tau = min(rate, max(w * (f - lb - gamma) + along, 0.0) / square)
        if adapt_lower_bound:
            lb = max(f + along - gamma - tau * square / 2, lower_bound)
        for i, _ in active:
            walk.theta[i] = walk.theta[i] / w - tau * walk.state[i]["exp_avg"]
    return walk.results()


def momo_adam(
    theta0: Sequence[Array],
    grads: Gradients,
    *,
    lr: Rate = 0.01,
    loss: Rate = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    lower_bound: float = 0.0,
    weight_decay: float = 0.0,
    adapt_lower_bound: bool = False,
    maximize: bool = False,
) -> list[Result]:
    """Schaipp et al. 2024, Algorithm 3, with decay and an adapted bound; ``loss`` has one number for each step.

    The sums of all earlier steps are written out: with weights w_j = (1 - b1) b1^(k-j), f = sum w_j f_j,
    gamma = sum w_j <g_j, p_j>, rho = sum w_j; the model at y is f + <m, y> - gamma, and
    y = (p - tau m / D) / (1 + lr l) brings it down to rho lb, for tau at most lr / rho.
    """
    walk = Walk(theta0, grads, lr, maximize)
    b1, b2 = betas
    heights: list[float] = []
    lb = lower_bound
    losses = per_step(loss, len(grads))
    for k, (rate, active) in enumerate(walk.steps(["exp_avg", "exp_avg_sq"], "")):
        along = square = product = 0.0
        metrics = {}
        for i, g in active:
            held = walk.state[i]
            held["exp_avg"] = m = b1 * held["exp_avg"] + (1 - b1) * g
            held["exp_avg_sq"] = v = b2 * held["exp_avg_sq"] + (1 - b2) * g**2
            metrics[i] = np.sqrt(v / (1 - b2 ** (k + 1))) + eps
            along += float(np.sum(m * walk.theta[i]))
            square += float(np.sum(m**2 / metrics[i]))
            product += float(np.sum(g * walk.theta[i]))
        heights.append(walk.sign * losses[k] - product)
        weights = [(1 - b1) * b1 ** (k - j) for j in range(k + 1)]
        height, rho = sum(w * h for w, h in zip(weights, heights, strict=True)), sum(weights)
        w = 1 + rate * weight_decay
        if adapt_lower_bound and w * height + along < w * rho * lb:
            lb = max((w * height + along) / (2 * w * rho), lower_bound)
        tau = min(rate / rho, max(w * (height - rho * lb) + along, 0.0) / square)
        if adapt_lower_bound:
            lb = max((height + along - tau * square / 2) / rho, lower_bound)
        for i, _ in active:
            walk.theta[i] = (walk.theta[i] - tau * walk.state[i]["exp_avg"] / metrics[i]) / w
    return walk.results()
