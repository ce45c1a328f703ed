"""Trajectories of every optimizer's defaults in float64, which an upgrade of the library must not change unsaid.

``PYTHONPATH=tests python -m golden.trajectories`` writes trajectories.json anew. Say in CHANGELOG.md which optimizers
changed, why, and by how much.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from cases import backward
from steepest import Optimizer, registry

FILE = Path(__file__).with_name("trajectories.json")
STEPS = (1, 4, 16)
"""Steps after which the parameters are kept."""

Trajectory = dict[str, list[list[float]]]
"""The elements of weight and bias, by step."""


def start() -> list[nn.Parameter]:
    """Weight and bias from a formula, so that they depend on no generator of random numbers."""
    shapes = ((2, 3), (3,))
    flat = torch.cos(torch.arange(1.0, 10, dtype=torch.float64)).split([6, 3])
    return [nn.Parameter(x.clone().view(shape)) for x, shape in zip(flat, shapes, strict=True)]


def loss_of(weight: Tensor, bias: Tensor) -> Tensor:
    """Least squares behind a tanh, so that the curvature changes on the way."""
    inputs = torch.sin(torch.arange(1.0, 17, dtype=torch.float64)).view(8, 2)
    targets = torch.cos(2 * torch.arange(1.0, 25, dtype=torch.float64)).view(8, 3)
    return (torch.tanh(inputs @ weight + bias) - targets).square().sum()


def trajectory(cls: type[Optimizer]) -> Trajectory:
    """Train by the reference executor. An iteration that is in bfloat16 by default runs in float64."""
    params = start()
    wanted = {"foreach": False, "ns_dtype": "float64"}
    optimizer = cls(params, **{name: value for name, value in wanted.items() if name in cls.fields})

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(*params)
        backward(loss, optimizer)
        return loss

    return {str(step): [p.flatten().tolist() for p in params] for step in walk(optimizer, closure) if step in STEPS}


def walk(optimizer: Optimizer, closure: object) -> Iterator[int]:
    """Step, and yield the number of the step. Sophia gets an estimate every ten steps, from the gradients."""
    for step in range(1, max(STEPS) + 1):
        optimizer.step(closure)
        if hasattr(optimizer, "update_hessian") and step % 10 == 1:
            optimizer.update_hessian()
        yield step


def every_trajectory() -> dict[str, Trajectory]:
    return {cls.__name__: trajectory(cls) for cls in registry.optimizers().values()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(every_trajectory(), indent=1) + "\n", encoding="utf-8")
