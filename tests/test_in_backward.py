"""Optimizers that step inside the backward pass, from post-accumulate-grad hooks."""

from __future__ import annotations

import copy
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from cases import SWITCHES, Options, every_executor, every_separate_class
from steepest import Optimizer

EXAMPLE = Path(__file__).parents[1] / "examples" / "optimizer_in_backward.py"


@pytest.fixture(scope="module")
def step_in_backward() -> Any:
    return runpy.run_path(str(EXAMPLE))["step_in_backward"]


def model() -> torch.nn.Module:
    """Two layers without bias, the first used twice: its gradient is complete only after both uses."""
    torch.manual_seed(1)
    return torch.nn.ModuleList([torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 2, bias=False)]).double()


def loss_of(layers: Any, seed: int) -> torch.Tensor:
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return layers[1](torch.tanh(layers[0](torch.tanh(layers[0](x))))).square().sum()


@every_executor
@every_separate_class
def test_steps_in_backward_are_steps_after_it(cls: type[Optimizer], executor: str, step_in_backward: Any) -> None:
    switches: Options = {k: v for k, v in SWITCHES[executor].items() if k in cls.fields}
    inside = model()
    after = copy.deepcopy(inside)
    step_in_backward(inside, cls, **switches)
    optimizer = cls(after.parameters(), **switches)
    for seed in range(4):
        loss_of(inside, seed).backward()
        assert all(p.grad is None for p in inside.parameters())
        optimizer.zero_grad()
        loss_of(after, seed).backward()
        optimizer.step()
        for p, q in zip(inside.parameters(), after.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_the_example_trains(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[-1]) for line in lines[:-1]]
    assert losses[-1] < 0.2 * losses[0]
    assert lines[-1] == "4 optimizers, 0 gradients left"
