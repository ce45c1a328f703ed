"""Booth's function."""

from torch import Tensor

from steepest.landscapes.declaration import Surface, surface


def value(p: Tensor) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    return (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2


@surface()
def booth() -> Surface:
    """Booth function: a bowl with a condition of 9, tilted by 45 degrees."""
    return Surface(
        value=value,
        formula="f(x, y) = (x + 2y - 7)^2 + (2x + y - 5)^2",
        source="Jamil and Yang 2013, A literature survey of benchmark functions, arXiv:1308.4008, function 17",
        starts=((-4.0, 0.0), (5.0, 5.5), (-3.0, 5.5)),
        minima=((1.0, 3.0),),
        window=((-6.0, 7.0), (-3.0, 7.0)),
    )
