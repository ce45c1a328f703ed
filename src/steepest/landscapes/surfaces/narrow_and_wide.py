"""A narrow and a wide minimum side by side."""

from functools import partial

import torch
from torch import Tensor

from steepest.landscapes.declaration import Option, Surface, surface


def value(p: Tensor, sharpness: float) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    narrow = sharpness * ((x + 1) ** 2 + y * y) / 2
    wide = ((x - 1) ** 2 + y * y) / 2
    return torch.minimum(narrow, wide)


@surface(sharpness=Option(25.0, "curvature s of the narrow minimum; the wide one has 1", 1.0, 1e6))
def narrow_and_wide(sharpness: float) -> Surface:
    """Narrow and wide minimum: both equally low, so that only their sharpness tells them apart."""
    return Surface(
        value=partial(value, sharpness=sharpness),
        formula=r"f(x, y) = \min\left(\frac{s}{2}\,((x + 1)^2 + y^2),\; \frac{1}{2}\,((x - 1)^2 + y^2)\right)",
        source="Hochreiter and Schmidhuber 1997, Flat minima, for the idea; the form is ours",
        starts=((-1.15, 0.2), (-2.2, -1.0), (0.2, 1.3)),
        minima=((-1.0, 0.0), (1.0, 0.0)),
        window=((-2.6, 2.6), (-2.0, 2.0)),
        note="The narrow minimum is the one on the left. SAM with a radius beyond it does not settle there; it comes "
        "to rest at that distance from it, where its gradient vanishes.",
    )
