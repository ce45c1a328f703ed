"""The round bowl."""

from torch import Tensor

from steepest.landscapes.declaration import Surface, surface


def value(p: Tensor) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    return (x * x + y * y) / 2


@surface()
def bowl() -> Surface:
    """Round bowl: every gradient points at the minimum, and a rate of 1 is there in one step."""
    return Surface(
        value=value,
        formula=r"f(x, y) = \frac{1}{2}\,(x^2 + y^2)",
        source="Cauchy 1847, Méthode générale pour la résolution des systèmes d'équations simultanées",
        starts=((-1.6, 1.1), (1.5, 1.3), (0.5, -1.5)),
        minima=((0.0, 0.0),),
        window=((-2.0, 2.0), (-1.6, 1.6)),
    )
