"""Ackley's function."""

import math

import torch
from torch import Tensor

from steepest.landscapes.declaration import Surface, surface


def value(p: Tensor) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    square = x * x + y * y
    is_off = square > 0  # the root has no derivative at 0
    distance = torch.where(is_off, torch.where(is_off, square, 1.0).sqrt(), 0.0) / math.sqrt(2)
    waves = (torch.cos(2 * math.pi * x) + torch.cos(2 * math.pi * y)) / 2
    return -20 * torch.exp(-0.2 * distance) - torch.exp(waves) + 20 + math.e


@surface()
def ackley() -> Surface:
    """Ackley function: a nearly flat outside with small waves, and a funnel with a tip."""
    return Surface(
        value=value,
        formula=r"f(x, y) = 20 + e - 20\,e^{-0.2\sqrt{(x^2 + y^2)/2}} - e^{(\cos 2\pi x + \cos 2\pi y)/2}",
        source="Ackley 1987, A connectionist machine for genetic hillclimbing",
        starts=((-2.4, 1.7), (1.6, 1.3), (0.4, -2.3)),
        minima=((0.0, 0.0),),
        window=((-3.2, 3.2), (-2.6, 2.6)),
        note="The minimum is a tip: the gradient there is given as 0, and is about 2.8 long all around.",
    )
