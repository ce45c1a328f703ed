"""The ravine: a quadratic bowl that is much steeper across than along."""

import math
from functools import partial

from torch import Tensor

from steepest.landscapes.declaration import Option, Surface, surface

FORMULA = (
    r"f(x, y) = \frac{1}{2}\,(u^2 + \kappa\,v^2), \quad "
    r"u = x\cos\varphi + y\sin\varphi, \quad v = y\cos\varphi - x\sin\varphi"
)
CONDITION = Option(100.0, "ratio κ of the two curvatures", 1.0, 1e8)
ROTATION = Option(30.0, "angle φ between the ravine and the x axis, in degrees", -180.0, 180.0)


def value(p: Tensor, condition: float, rotation: float) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    c, s = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    u, v = c * x + s * y, c * y - s * x
    return (u * u + condition * (v * v)) / 2


@surface(condition=CONDITION, rotation=ROTATION)
def ravine(condition: float, rotation: float) -> Surface:
    """Ravine: a quadratic bowl, much steeper across than along, and not parallel to the axes."""
    return Surface(
        value=partial(value, condition=condition, rotation=rotation),
        formula=FORMULA,
        source="Polyak 1964, Some methods of speeding up the convergence of iteration methods",
        starts=((-1.7, 0.4), (1.2, -0.9), (-0.6, -1.3)),
        minima=((0.0, 0.0),),
        window=((-2.0, 2.0), (-1.6, 1.6)),
    )
