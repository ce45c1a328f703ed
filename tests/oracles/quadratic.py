"""Steepest descent with the exact step on a quadratic (Cauchy 1847)."""

import numpy as np

from .common import Array


def steepest_descent(A: Array, b: Array, theta0: Array, *, steps: int) -> tuple[list[Array], list[float]]:
    """Minimise J = theta.A theta / 2 - b.theta (A symmetric, positive definite); (points after each step, step sizes).

    g = A theta - b and the minimum of J along -g is at eta = g.g / g.A g. Where g = 0 nothing moves and eta is 0.
    """
    theta = np.array(theta0, dtype=np.float64)
    points, sizes = [], []
    for _ in range(steps):
        g = A @ theta - b
        curvature = float(g @ (A @ g))
        eta = float(g @ g) / curvature if curvature else 0.0
        theta = theta - eta * g
        points.append(theta)
        sizes.append(eta)
    return points, sizes
