"""Rastrigin's function."""

import math

import torch
from torch import Tensor

from steepest.landscapes.declaration import Surface, surface


def value(p: Tensor) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    return 20 + x * x + y * y - 10 * (torch.cos(2 * math.pi * x) + torch.cos(2 * math.pi * y))


@surface()
def rastrigin() -> Surface:
    """Rastrigin function: a bowl full of local minima, one for each pair of whole numbers."""
    return Surface(
        value=value,
        formula=r"f(x, y) = 20 + x^2 + y^2 - 10\cos 2\pi x - 10\cos 2\pi y",
        source="Rastrigin 1974, Systems of extremal control",
        starts=((-2.4, 1.7), (1.6, 1.3), (0.4, -2.3)),
        minima=((0.0, 0.0),),
        window=((-3.2, 3.2), (-2.6, 2.6)),
    )
