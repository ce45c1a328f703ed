"""Least squares over a small matrix."""

import math
from functools import partial

import torch
from torch import Tensor

from steepest.landscapes.declaration import Option, Surface, surface

ROWS, COLUMNS = 4, 3


def value(w: Tensor, a: Tensor, target: Tensor) -> Tensor:
    """w: (4, 3). Returns half the squared distance of aw from the target."""
    return (a @ w - target).square().sum() / 2


@surface(condition=Option(30.0, "condition κ of the matrix A", 1.0, 1e6))
def least_squares(condition: float) -> Surface:
    """Least squares over a matrix of 4 x 3 numbers, for rules that update matrices."""
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(ROWS, ROWS, dtype=torch.float64, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(ROWS, ROWS, dtype=torch.float64, generator=generator)).Q
    singular = torch.logspace(0, -math.log10(condition), ROWS, dtype=torch.float64)
    a = left @ torch.diag(singular) @ right.T
    true = torch.randn(ROWS, COLUMNS, dtype=torch.float64, generator=generator)
    starts = 2 * torch.randn(2, ROWS * COLUMNS, dtype=torch.float64, generator=generator)
    return Surface(
        value=partial(value, a=a, target=a @ true),
        formula=r"f(W) = \frac{1}{2}\,\| A W - B \|_F^2, \quad W \in \mathbb{R}^{4 \times 3}",
        source="Golub and Van Loan 2013, Matrix computations, section 5.3",
        starts=((0.0,) * (ROWS * COLUMNS), *(tuple(start.tolist()) for start in starts)),
        minima=(tuple(true.flatten().tolist()),),
        shapes=((ROWS, COLUMNS),),
        is_elementwise=False,
    )
