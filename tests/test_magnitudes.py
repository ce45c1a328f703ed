"""Gradients, scales and norms whose squares a float32 cannot hold: nothing overflows that need not, in any executor."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cases import BRANCHING, SWITCHES, every_planned_class, executors_of
from steepest import Optimizer
from steepest.norms import norm, norms

EXECUTORS = ("default", *SWITCHES)
every_executor = pytest.mark.parametrize("executor", EXECUTORS)


def gradients(step: int) -> torch.Tensor:
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(step))


def trained(cls: type[Optimizer], executor: str, size: float, scale: float | None = None, **options: Any) -> Any:
    """Four steps on gradients of about ``size``, times ``scale`` if the step is to take it out again."""
    p = torch.nn.Parameter(torch.randn(8, 6, generator=torch.Generator().manual_seed(99)))
    optimizer = cls([p], **SWITCHES.get(executor, {}), **options)
    for step in range(4):
        p.grad = gradients(step) * size * (scale or 1.0)
        if scale is not None:
            optimizer.grad_scale, optimizer.found_inf = torch.tensor(scale), torch.tensor(0.0)
        optimizer.step()
    return optimizer, p.detach()


@pytest.mark.thin("structure", "executor")
@every_planned_class
@every_executor
@pytest.mark.parametrize(("size", "exponent"), [(1.0, 68), (1.0, 78), (1.0, 120), (1e-3, 127), (1e10, 80)])
@pytest.mark.parametrize("options", [{}, {"max_norm": 0.5}], ids=["plain", "clipped"])
def test_a_large_loss_scale_changes_nothing(
    cls: type[Optimizer], executor: str, size: float, exponent: int, options: dict[str, Any]
) -> None:
    if executor not in ("default", *executors_of(cls)):
        executor = "default"
    _, scaled = trained(cls, executor, size, 2.0**exponent, **options)
    _, plain = trained(cls, executor, size, **options)
    torch.testing.assert_close(scaled, plain, rtol=2e-6, atol=2e-6)


SIZES = [1e-38, 1e-30, 1e-20, 1e10, 1e18, 1e20, 1e30, 1e37]


@pytest.mark.thin("structure", "executor")
@every_planned_class
@every_executor
@pytest.mark.parametrize("size", SIZES)
def test_max_norm_of_any_size_clips_to_the_same_gradient(cls: type[Optimizer], executor: str, size: float) -> None:
    """Small gradients are not clipped; large ones step as the same directions of norm 1 do."""
    if executor not in ("default", *executors_of(cls)):
        executor = "default"
    p = torch.nn.Parameter(torch.ones(8, 6))
    q = torch.nn.Parameter(torch.ones(8, 6))
    optimizer = cls([p], max_norm=1.0, **SWITCHES.get(executor, {}))
    plain = cls([q], **SWITCHES.get(executor, {}))
    for step in range(3):
        p.grad = gradients(step) * size
        length = p.grad.double().norm()
        q.grad = (p.grad.double() / (length + 1e-6)).float() if length + 1e-6 > 1 else p.grad.clone()
        optimizer.step()
        plain.step()
    near = 1e-2 if cls in BRANCHING.values() else 1e-5  # a gradient's last bit turns an eigenbasis
    torch.testing.assert_close(p, q, rtol=near, atol=near)


@every_planned_class
@pytest.mark.parametrize("size", SIZES)
def test_executors_agree_on_gradients_of_any_size(cls: type[Optimizer], size: float) -> None:
    if size > 1e18 and any(state.kind == "tensor_scalar" for state in cls.rule.state):
        pytest.skip("the square of the norm is state in float32: infinite by the rule's own definition")
    _, reference = trained(cls, "reference", size)
    for executor in executors_of(cls):
        _, other = trained(cls, executor, size)
        torch.testing.assert_close(other, reference, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("size", [*SIZES, 0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("is_recorded", [False, True])
def test_norms(size: float, dtype: torch.dtype, is_recorded: bool) -> None:
    tensors = [(torch.ones(count) * size).to(dtype) for count in (1, 7, 1000)]
    with torch.set_grad_enabled(is_recorded):
        found = norms(tensors)
        alone = norm(tensors[2])
    assert alone.dtype == dtype
    for x, length in zip(tensors, found, strict=True):
        exact = x.double().norm().float() if dtype != torch.float64 else x.norm()
        torch.testing.assert_close(length, exact, rtol=1e-6, atol=0, equal_nan=True)
