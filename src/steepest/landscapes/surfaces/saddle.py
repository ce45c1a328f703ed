"""The saddle."""

import math

from torch import Tensor

from steepest.landscapes.declaration import Surface, surface


def value(p: Tensor) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    square = y * y
    return x * x - square + square * square / 4


@surface()
def saddle() -> Surface:
    """Saddle: the gradient first leads to a point where it vanishes without a minimum."""
    return Surface(
        value=value,
        formula=r"f(x, y) = x^2 - y^2 + \frac{1}{4}\,y^4",
        source="Dauphin et al. 2014, Identifying and attacking the saddle point problem, arXiv:1406.2572",
        starts=((1.6, 0.001), (-1.6, 0.1), (1.2, -0.01)),
        minima=((0.0, math.sqrt(2)), (0.0, -math.sqrt(2))),
        window=((-2.0, 2.0), (-2.0, 2.0)),
        note="The saddle x² - y² has no lowest value; y⁴/4 gives it two minima and changes little near the saddle.",
    )
