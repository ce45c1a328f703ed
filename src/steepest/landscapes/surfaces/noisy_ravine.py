"""The ravine, seen through gradients with noise."""

from functools import partial

import torch
from torch import Tensor

from steepest.landscapes.declaration import Draw, Option, Surface, surface
from steepest.landscapes.surfaces.ravine import CONDITION, FORMULA, ROTATION, value


def seen(draw: Draw, p: Tensor, condition: float, rotation: float, noise: float) -> Tensor:
    """Return the value at p, (2,), plus a linear function, whose slope is the noise of the gradient."""
    slope = torch.randn(2, dtype=p.dtype, generator=draw.generator)
    return value(p, condition, rotation) + noise * (slope * p).sum()


@surface(
    condition=Option(30.0, CONDITION.meaning, CONDITION.low, CONDITION.high),
    rotation=ROTATION,
    noise=Option(1.0, "standard deviation of each number of the gradient", 0.0, 1e3),
)
def noisy_ravine(condition: float, rotation: float, noise: float) -> Surface:
    """Noisy ravine: a quadratic bowl, much steeper across than along, whose gradients are drawn with noise."""
    return Surface(
        value=partial(value, condition=condition, rotation=rotation),
        seen=partial(seen, condition=condition, rotation=rotation, noise=noise),
        formula=FORMULA + r", \quad g = \nabla f + \sigma\,\xi",
        source="Robbins and Monro 1951, A stochastic approximation method",
        starts=((-1.7, 0.4), (1.2, -0.9), (-0.6, -1.3)),
        minima=((0.0, 0.0),),
        window=((-2.0, 2.0), (-1.6, 1.6)),
        note="The gradients are drawn with noise, the same for every optimizer; the values are without it.",
    )
