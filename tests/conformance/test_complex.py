"""A complex parameter is two real ones: as a view with a last dimension of two, and as two tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from .support import Configuration, assert_close, every_configuration, every_input, source, state_of, takes, values


def supports_complex(configuration: Configuration) -> bool:
    return bool(configuration.info.supports_complex)


Objective = Callable[[list[Tensor]], Tensor]


def recorded(
    configuration: Configuration, starts: list[Tensor], loss: Objective, steps: int
) -> tuple[list[list[Tensor]], torch.optim.Optimizer]:
    """Every point at which gradients were asked for, a closure optimizer's trial points among them; then the end."""
    params = configuration.leaves([x.clone() for x in starts])
    optimizer = configuration.build(params)
    points: list[list[Tensor]] = []

    @torch.enable_grad()
    def closure() -> Tensor:
        points.append(values(params))
        leaves = [p.detach().requires_grad_() for p in params]
        result = loss(leaves)
        for p, g in zip(params, torch.autograd.grad(result, leaves), strict=True):
            p.grad = g
        return result.detach()

    for _ in range(steps):
        if configuration.info.step_requires_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    return [*points, values(params)], optimizer


def starts_of(configuration: Configuration) -> list[Tensor]:
    draw = source(7)
    shapes = [shape for shape in ((4, 3), (3,), ()) if takes(configuration.cls, shape)]
    return [torch.randn(shape, generator=draw, dtype=torch.complex128) for shape in shapes]


def bowl(params: list[Tensor]) -> Tensor:
    """Curved differently along real and imaginary parts; complex tensors or their real views."""
    total = torch.zeros((), dtype=torch.float64)
    for p in params:
        x = torch.view_as_real(p) if p.is_complex() else p
        total = total + (x * torch.tensor([1.0, 2.0], dtype=torch.float64) - 0.4).square().square().sum()
    return total


def real(tree: Any) -> Any:
    """Complex tensors as their real views."""
    return torch.utils._pytree.tree_map_only(Tensor, lambda x: torch.view_as_real(x) if x.is_complex() else x, tree)


@pytest.mark.thin("info", "way")
@every_configuration(supports_complex)
def test_it_is_its_real_view(configuration: Configuration) -> None:
    """Bit by bit, parameters and state, but for a factor of 16 eps where sums are taken in another order."""
    starts = starts_of(configuration)
    ours, optimizer = recorded(configuration, starts, bowl, 3)
    views, other = recorded(configuration, real(starts), bowl, 3)
    assert_close(real(ours), views, 16)
    assert_close(real(state_of(optimizer)), state_of(other), 16)


POINTS = 12
"""Of a closure optimizer's trial points: from one to the next the valley multiplies what rounding has done."""


def rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    """Summed over all elements."""
    return ((1 - x) ** 2 + 100 * (y - x**2) ** 2).sum()


@every_input(supports_complex)
def test_it_is_two_real_tensors(configuration: Configuration) -> None:
    """Rosenbrock's valley with x and y as real and imaginary part. Wide tolerance: the valley is badly conditioned."""
    (z, *_) = starts_of(configuration)
    ours, _ = recorded(configuration, [z], lambda p: rosenbrock(p[0].real, p[0].imag), 3)
    theirs, _ = recorded(configuration, [z.real.clone(), z.imag.clone()], lambda p: rosenbrock(*p), 3)
    assert_close([[p.real, p.imag] for (p,) in ours[:POINTS]], theirs[:POINTS], 2**16)
