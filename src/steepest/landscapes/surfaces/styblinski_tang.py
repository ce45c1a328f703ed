"""The function of Styblinski and Tang."""

from torch import Tensor

from steepest.landscapes.declaration import Surface, surface

LOWEST = -2.903534027771177
"""The root of 4t³ - 32t + 5 that is the minimum of each coordinate."""


def value(p: Tensor) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    return (_one(x) + _one(y)) / 2


def _one(t: Tensor) -> Tensor:
    square = t * t
    return square * square - 16 * square + 5 * t


@surface()
def styblinski_tang() -> Surface:
    """Function of Styblinski and Tang: four minima, of which one is the lowest."""
    return Surface(
        value=value,
        formula=r"f(x, y) = \frac{1}{2}\,(x^4 - 16x^2 + 5x + y^4 - 16y^2 + 5y)",
        source="Styblinski and Tang 1990, Experiments in nonconvex optimization",
        starts=((-0.5, 1.0), (4.0, -0.5), (0.5, 4.0)),
        minima=((LOWEST, LOWEST),),
        window=((-4.6, 4.6), (-4.2, 4.2)),
    )
