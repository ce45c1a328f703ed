"""A small model and data for the tests of trainers, and the state to compare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss


class Net(nn.Module):
    """A model with a hidden matrix, a norm and biases; it returns its loss, as those of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        outputs = self.net(x).squeeze(1)
        return {"loss": mse_loss(outputs, labels), "outputs": outputs}


def examples(count: int = 32) -> list[dict[str, Tensor]]:
    """Return pairs of an input and a target."""
    inputs = torch.randn(count, 3, generator=torch.Generator().manual_seed(1))
    return [{"x": x, "labels": x.sum() + 1} for x in inputs]


def values(model: nn.Module) -> list[Tensor]:
    """Return copies of a model's parameters."""
    return [p.detach().clone() for p in model.parameters()]


def same(ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> bool:
    """Return whether tensors are equal, bit by bit."""
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def rates(optimizer: Any) -> list[float]:
    """Return the rate of each group."""
    return [group["lr"] for group in optimizer.param_groups]
