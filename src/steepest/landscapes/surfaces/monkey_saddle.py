"""The monkey saddle."""

import math

from torch import Tensor

from steepest.landscapes.declaration import Surface, surface


def value(p: Tensor) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    square = x * x + y * y
    return x * (x * x - 3 * (y * y)) + square * square / 4


@surface()
def monkey_saddle() -> Surface:
    """Monkey saddle: three ways down from a point where gradient and curvature vanish."""
    height = 1.5 * math.sqrt(3)
    return Surface(
        value=value,
        formula=r"f(x, y) = x^3 - 3xy^2 + \frac{1}{4}\,(x^2 + y^2)^2",
        source="Hilbert and Cohn-Vossen 1932, Anschauliche Geometrie, section 29",
        starts=((2.4, 0.05), (1.0, -0.01), (-0.8, 1.6)),
        minima=((-3.0, 0.0), (1.5, height), (1.5, -height)),
        window=((-4.0, 4.0), (-3.6, 3.6)),
        note="The monkey saddle x³ - 3xy² has no lowest value; the last term gives it three minima.",
    )
