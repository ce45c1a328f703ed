"""Steps that autograd follows, and what autograd sees of any other step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cases import (
    PLANNED,
    decaying,
    every_planned_class,
    train,
)
from shell import (
    tensors,
)
from steepest import Optimizer

DIFFERENTIABLE = {name: cls for name, cls in PLANNED.items() if "differentiable" in cls.fields}
every_differentiable_class = pytest.mark.parametrize("cls", DIFFERENTIABLE.values(), ids=list(DIFFERENTIABLE))


def differentiable_steps(cls: type[Optimizer], start: Tensor, lr: Any, grads: list[Tensor], **options: Any) -> Tensor:
    """The parameter after some steps, as a differentiable function of where it started and of lr."""
    p = start.clone()
    optimizer = cls([p], lr=lr, differentiable=True, **options)
    assert optimizer.executor == "reference"
    for g in grads:
        p.grad = g
        optimizer.step()
    return p


def smooth_point() -> tuple[Tensor, list[Tensor]]:
    source = torch.Generator().manual_seed(2)
    start, *grads = (torch.randn(3, generator=source, dtype=torch.float64) + 2 for _ in range(3))
    return start, grads


@pytest.mark.usefixtures("float64_default")
@every_differentiable_class
def test_steps_are_differentiable(cls: type[Optimizer]) -> None:
    """Two steps, with respect to lr, to where they start and to the gradients (numbers against autograd)."""
    start, grads = smooth_point()
    rate = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    inputs = [start.requires_grad_(), rate, *(g.requires_grad_() for g in grads)]

    def two_steps(p: Tensor, lr: Tensor, *g: Tensor) -> Tensor:
        return differentiable_steps(cls, p, lr, list(g), **decaying(cls))

    assert torch.autograd.gradcheck(two_steps, inputs)


@every_differentiable_class
def test_differentiable_steps_are_the_plain_ones(cls: type[Optimizer]) -> None:
    """Bias corrections in double here too: a float32 1 - beta2^t would be wrong by 1e-5."""
    start, grads = smooth_point()
    made = differentiable_steps(cls, start, 0.05, grads)
    p = torch.nn.Parameter(start.clone())
    plain = cls([p], lr=0.05, foreach=False)
    for g in grads:
        p.grad = g
        plain.step()
    torch.testing.assert_close(made.detach(), p.detach(), rtol=1e-9, atol=1e-9)


@every_differentiable_class
def test_outside_a_differentiable_step_gradients_are_off(cls: type[Optimizer]) -> None:
    optimizer = cls(params := tensors())
    train(optimizer, 2)
    assert all(p.requires_grad and p.is_leaf for p in params)
    assert all(not v.requires_grad for held in optimizer.state.values() for v in held.values())


@every_planned_class
def test_writing_through_a_step_is_seen_by_autograd(cls: type[Optimizer]) -> None:
    """A backward through a graph that saved the old parameter must fail, not be silently wrong."""
    optimizer = cls(params := [torch.nn.Parameter(torch.ones(3, 1))])
    y = (params[0] ** 2).sum()
    params[0].grad = torch.ones(3, 1)
    optimizer.step()
    optimizer.step()  # some rules move nothing at the first
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
