"""Least squares with a rare feature."""

from functools import partial

import torch
from torch import Tensor

from steepest.landscapes.declaration import Draw, Option, Surface, surface

TRUE = (1.0, 1.0)
"""The weights that the labels are made with."""


def value(p: Tensor, rarity: float) -> Tensor:
    """p: (2, ...). Returns (...): half the mean squared error beyond that of the noise."""
    x, y = p.unbind()
    return ((1 - rarity) * (x - TRUE[0]) ** 2 + rarity * (y - TRUE[1]) ** 2) / 2


def seen(draw: Draw, p: Tensor, rarity: float, noise: float) -> Tensor:
    """Return half the squared error of the weights p, (2,), on one example, which has one of the two features."""
    generator = draw.generator
    is_rare = bool(torch.rand((), dtype=torch.float64, generator=generator) < rarity)
    label = TRUE[is_rare] + noise * float(torch.randn((), dtype=torch.float64, generator=generator))
    return (p[int(is_rare)] - label) ** 2 / 2


@surface(
    rarity=Option(0.05, "share r of the examples that have the rare feature", 1e-4, 0.5),
    noise=Option(0.5, "standard deviation σ of the labels", 0.0, 1e3),
)
def rare_feature(rarity: float, noise: float) -> Surface:
    """Rare feature: least squares on single examples, of which few tell anything about the second weight."""
    return Surface(
        value=partial(value, rarity=rarity),
        seen=partial(seen, rarity=rarity, noise=noise),
        formula=r"f(x, y) = \frac{1}{2}\,\mathrm{E}\,(a^{\top} w - b)^2 = "
        r"\frac{1 - r}{2}\,(x - 1)^2 + \frac{r}{2}\,(y - 1)^2",
        source="Duchi, Hazan and Singer 2011, Adaptive subgradient methods, section 1, for the idea; the form is ours",
        starts=((-1.0, -1.0), (2.5, -0.5), (-0.5, 2.5)),
        minima=(TRUE,),
        window=((-2.0, 3.0), (-1.6, 2.6)),
        note="Each step sees one example with noise; the value is the mean over all examples.",
    )
