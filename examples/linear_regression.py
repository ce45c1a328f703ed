"""Linear regression, y = 2x + 1 + noise, by Adam and RMSprop side by side: both reach the least-squares answer.

The whole data set is one batch and the learning rate decays, so nothing is left of either rule's wobble around the
minimum. Run it with ``python examples/linear_regression.py``; it exits with 1 if the tolerance is missed.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

import steepest

TOLERANCE = 1e-6
"""How far slope and intercept may end from the least-squares answer. The rate decays until the steps vanish, so both
end within rounding of it; the answer's own distance to the truth is about 0.02 with this noise."""


def make_data(points: int = 200, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """x uniform in [-1, 1] and y = 2x + 1 + noise; shape (points,)."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(points, generator=generator, dtype=torch.float64) - 1
    return x, 2 * x + 1 + noise * torch.randn(points, generator=generator, dtype=torch.float64)


def least_squares(x: Tensor, y: Tensor) -> Tensor:
    """The exact slope and intercept; shape (2,)."""
    return torch.linalg.lstsq(torch.stack([x, torch.ones_like(x)], 1), y[:, None]).solution[:, 0]


def fit(optimizer_class: type[steepest.Optimizer], x: Tensor, y: Tensor, steps: int = 1500) -> Tensor:
    """Slope and intercept after full-batch training with a decaying rate; shape (2,)."""
    w = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = optimizer_class([w], lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.995)
    for _ in range(steps):
        optimizer.zero_grad()
        ((w[0] * x + w[1] - y) ** 2).mean().backward()
        optimizer.step()
        schedule.step()
    return w.detach()


def main() -> int:
    """Fit with both rules, print the table, and return the exit status."""
    x, y = make_data()
    answer = least_squares(x, y)
    print(f"{'':14}{'slope':>10}{'intercept':>12}{'distance':>12}")
    print(f"{'truth':14}{2:10.5f}{1:12.5f}")
    print(f"{'least squares':14}{answer[0]:10.5f}{answer[1]:12.5f}")
    worst = 0.0
    for optimizer_class in (steepest.Adam, steepest.RMSprop):
        found = fit(optimizer_class, x, y)
        distance = float((found - answer).abs().max())
        worst = max(worst, distance)
        print(f"{optimizer_class.__name__:14}{found[0]:10.5f}{found[1]:12.5f}{distance:12.1e}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
