"""Rosenbrock's valley."""

from functools import partial

from torch import Tensor

from steepest.landscapes.declaration import Option, Surface, surface


def value(p: Tensor, b: float) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    return (1 - x) ** 2 + b * (y - x * x) ** 2


@surface(b=Option(100.0, "steepness of the walls", 1.0, 1e6))
def rosenbrock(b: float) -> Surface:
    """Rosenbrock function: a curved valley, easy to find and slow to follow."""
    return Surface(
        value=partial(value, b=b),
        formula=rf"f(x, y) = (1 - x)^2 + {b:g}\,(y - x^2)^2",
        source="Rosenbrock 1960, An automatic method for finding the greatest or least value of a function",
        starts=((-1.2, 1.0), (-0.5, 2.5), (1.5, -0.5)),
        minima=((1.0, 1.0),),
        window=((-2.0, 2.0), (-1.0, 3.0)),
    )
