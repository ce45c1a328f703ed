"""Wrappers go where other packages' go: pytorch_optimizer's SAM, optax's SAM, and the authors' Mechanic.

pytorch_optimizer takes the norm in float32, which bounds the agreement; the others are equal but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steepest.wrappers import SAM, Mechanic

pytestmark = pytest.mark.slow  # with the other libraries, in make parity

STEPS = 100


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).double()


def closure_of(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> Callable[[], Tensor]:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True) / 2).square().mean()
        loss.backward()
        return loss

    return closure


def distance(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_of_pytorch_optimizer(adaptive: bool) -> None:
    theirs = pytest.importorskip("pytorch_optimizer", reason="make parity installs it").SAM
    one, other = network(), network()
    options: dict[str, Any] = {"rho": 0.05, "adaptive": adaptive, "lr": 0.1, "momentum": 0.9}
    ours, reference = (
        SAM(one.parameters(), torch.optim.SGD, **options),
        theirs(other.parameters(), torch.optim.SGD, **options),
    )
    for seed in range(STEPS):
        ours.step(closure_of(one, ours, seed))
        again = closure_of(other, reference, seed)
        again()  # its step presumes gradients
        reference.step(again)
    assert distance(one, other) < 1e-7
    assert distance(one, network()) > 0.1


@pytest.mark.parametrize("store_delta", [False, True])
@pytest.mark.parametrize(
    ("base", "options"),
    [(torch.optim.SGD, {"lr": 1.0, "momentum": 0.9}), (torch.optim.AdamW, {"lr": 0.01})],
    ids=["SGD", "AdamW"],
)
def test_mechanic_of_its_authors(base: Any, options: dict[str, float], store_delta: bool) -> None:
    theirs = pytest.importorskip("mechanic_pytorch", reason="make parity installs it").mechanize
    one, other = network(), network()
    ours = Mechanic(base(one.parameters(), **options), store_delta=store_delta)
    reference = theirs(base, store_delta=store_delta)(other.parameters(), **options)
    for seed in range(STEPS):
        ours.step(closure_of(one, ours, seed))
        closure_of(other, reference, seed)()
        reference.step()
    assert distance(one, other) < 1e-13
    assert distance(one, network()) > 0.1
    assert ours.scale == pytest.approx(reference.state["_mechanic"]["s"].sum().item(), rel=1e-6)


def test_sam_of_optax() -> None:
    """Its transparent mode, on a quadratic: every other update is the ascent, which optax undoes in the next."""
    optax = pytest.importorskip("optax", reason="make parity installs it")
    jax = pytest.importorskip("jax")
    curvature, start = np.array([3.0, 1.0, 0.2]), np.array([1.0, -2.0, 0.5])
    with jax.enable_x64(True):
        ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
        theirs = optax.contrib.sam(optax.sgd(0.1, momentum=0.9), ascent, sync_period=2)
        x = jax.numpy.asarray(start)
        state = theirs.init(x)
        for _ in range(2 * STEPS):
            updates, state = theirs.update(curvature * x, state, x)
            x = optax.apply_updates(x, updates)
        reached = np.asarray(x)
    p = nn.Parameter(torch.tensor(start))
    ours = SAM([p], torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)

    def closure() -> None:
        ours.zero_grad()
        ((torch.tensor(curvature) * p.square()).sum() / 2).backward()

    for _ in range(STEPS):
        ours.step(closure)
    np.testing.assert_allclose(p.detach().numpy(), reached, rtol=0, atol=1e-12)
