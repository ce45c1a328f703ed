"""Himmelblau's function."""

from torch import Tensor

from steepest.landscapes.declaration import Surface, surface


def value(p: Tensor) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    return (x * x + y - 11) ** 2 + (x + y * y - 7) ** 2


@surface()
def himmelblau() -> Surface:
    """Himmelblau function: four minima of equal depth."""
    return Surface(
        value=value,
        formula="f(x, y) = (x^2 + y - 11)^2 + (x + y^2 - 7)^2",
        source="Himmelblau 1972, Applied nonlinear programming",
        starts=((-0.5, -1.0), (0.0, 4.5), (4.5, 0.5)),
        minima=(
            (3.0, 2.0),
            (-2.805118086952745, 3.131312518250573),
            (-3.779310253377747, -3.283185991286170),
            (3.584428340330492, -1.848126526964404),
        ),
        window=((-5.5, 5.5), (-5.0, 5.0)),
    )
