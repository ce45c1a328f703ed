"""Beale's function."""

from torch import Tensor

from steepest.landscapes.declaration import Surface, surface


def value(p: Tensor) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    square = y * y
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * square) ** 2 + (2.625 - x + x * (square * y)) ** 2


@surface()
def beale() -> Surface:
    """Beale function: a flat valley between steep corners."""
    return Surface(
        value=value,
        formula="f(x, y) = (1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2",
        source="Beale 1958, On an iterative method for finding a local minimum of a function of more than one variable",
        starts=((1.0, 1.5), (-1.0, 1.0), (4.0, -1.0)),
        minima=((3.0, 0.5),),
        window=((-1.5, 4.5), (-2.0, 2.0)),
    )
