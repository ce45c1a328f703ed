"""A linear network of two layers."""

from functools import partial

import torch
from torch import Tensor

from steepest.landscapes.declaration import Option, Surface, surface

WIDTH = 4
STRENGTHS = (3.0, 1.5, 0.75, 0.375)
"""Singular values of the map that is to be learned."""


def value(w1: Tensor, w2: Tensor, target: Tensor) -> Tensor:
    """w1, w2: (4, 4). Returns half the squared distance of w2 w1 from the target."""
    return (w2 @ w1 - target).square().sum() / 2


@surface(scale=Option(0.1, "standard deviation of the first weights", 1e-4, 10.0))
def linear_network(scale: float) -> Surface:
    """Linear network of two layers: it learns one singular value after the other, with a plateau before each."""
    generator = torch.Generator().manual_seed(1)
    left = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64, generator=generator)).Q
    target = left @ torch.diag(torch.tensor(STRENGTHS, dtype=torch.float64)) @ right.T
    starts = scale * torch.randn(3, 2 * WIDTH * WIDTH, dtype=torch.float64, generator=generator)
    return Surface(
        value=partial(value, target=target),
        formula=r"f(W_1, W_2) = \frac{1}{2}\,\| W_2 W_1 - B \|_F^2, \quad W_1, W_2 \in \mathbb{R}^{4 \times 4}",
        source="Saxe, McClelland and Ganguli 2014, Exact solutions to the nonlinear dynamics of learning in deep "
        "linear neural networks, arXiv:1312.6120",
        starts=tuple(tuple(start.tolist()) for start in starts),
        shapes=((WIDTH, WIDTH), (WIDTH, WIDTH)),
        lowest=0.0,
        is_elementwise=False,
    )
