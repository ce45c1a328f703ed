"""The smallest network of two layers: one weight in each."""

from torch import Tensor

from steepest.landscapes.declaration import Surface, surface


def value(p: Tensor) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    return (x * y - 1) ** 2 / 2


@surface()
def scalar_network() -> Surface:
    """Network of two weights: a curve of minima, the flattest where the weights are equal."""
    return Surface(
        value=value,
        formula=r"f(x, y) = \frac{1}{2}\,(xy - 1)^2",
        source="Wang et al. 2022, Large learning rate tames homogeneity, arXiv:2110.03677, with scalars",
        starts=((0.3, 2.6), (2.4, 1.2), (-0.4, 1.5)),
        window=((-1.0, 3.2), (-0.6, 3.0)),
        lowest=0.0,
        note="On the curve xy = 1 the larger curvature is x² + y². SAM moves along it to x = y = 1, SGD does not.",
    )
