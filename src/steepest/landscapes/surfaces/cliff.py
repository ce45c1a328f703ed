"""The plateau with a cliff."""

from functools import partial

import torch
from torch import Tensor

from steepest.landscapes.declaration import Option, Surface, surface

HEIGHT = 4.0


def value(p: Tensor, steepness: float) -> Tensor:
    """p: (2, ...). Returns (...)."""
    x, y = p.unbind()
    return ((x + 1) ** 2 + y * y) / 10 + HEIGHT * torch.sigmoid(steepness * x)


@surface(steepness=Option(30.0, "steepness k of the cliff", 30.0, 1e4))
def cliff(steepness: float) -> Surface:
    """Cliff: a gentle slope ends at a wall, whose gradient throws far what is not clipped."""
    return Surface(
        value=partial(value, steepness=steepness),
        formula=rf"f(x, y) = \frac{{1}}{{10}}\,((x + 1)^2 + y^2) + {HEIGHT:g}\,\sigma(kx)",
        source="Pascanu, Mikolov and Bengio 2013, On the difficulty of training recurrent neural networks, "
        "arXiv:1211.5063, section 2.3, for the cliff; the form is ours",
        starts=((2.2, 1.2), (1.0, -1.3), (-2.5, 1.0)),
        minima=((-1.0, 0.0),),
        window=((-3.5, 3.0), (-2.2, 2.2)),
    )
