"""What simulated studies share: laws to draw from, and the band in which a share of successes must lie."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import binom

from steepest.study.statistics.vectors import Vector

Law = Callable[[np.random.Generator, tuple[int, int]], Vector]

SYMMETRIC: dict[str, Law] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "heavy tails": lambda random, shape: random.standard_t(3, size=shape),
    "two humps": lambda random, shape: random.choice([-1.0, 1.0], size=shape) + random.normal(scale=0.1, size=shape),
}


def skewed(random: np.random.Generator, shape: tuple[int, int]) -> Vector:
    """Exponential about its mean, 0."""
    return random.exponential(size=shape) - 1.0


def in_band(successes: int, tries: int, probability: float) -> bool:
    """Whether a count is one that a binomial law gives in 999 of 1,000 simulations."""
    low, high = binom.interval(0.999, tries, probability)
    return bool(low <= successes <= high)
