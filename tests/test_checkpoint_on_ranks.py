"""Distributed checkpoints: saved on two ranks and loaded on four, training goes on as in one process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

import steepest
from ranks import on_ranks, whole

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")

MADE: dict[str, Any] = {
    "adamw": lambda model: steepest.AdamW(model.parameters(), weight_decay=0.1),
    "int8": lambda model: steepest.AdamW(model.parameters(), state_dtype="int8"),
    "soap": lambda model: steepest.SOAP(model.parameters(), precondition_frequency=2),
    "muon": lambda model: steepest.Muon.for_model(model, lr=0.01, adamw_lr=0.01, report=False),
    "adafactor": lambda model: steepest.Adafactor(model.parameters()),
    "prodigy": lambda model: steepest.Prodigy(model.parameters()),
    "galore": lambda model: steepest.GaLore(model.parameters(), rank=2, update_proj_gap=2),
}
"""Optimizers with state of every kind: like the parameter, coded, of both sides of a matrix, of rows, of low rank."""
SUMMED = {"adafactor", "prodigy"}
"""Those with sums, which ranks add up in another order."""


def model() -> nn.Module:
    """A matrix that is large enough to be coded, with rows that do not divide evenly."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(70, 66), nn.Tanh(), nn.Linear(66, 9))


def sharded(ranks: int) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    made = model()
    fully_shard(made, mesh=init_device_mesh("cpu", (ranks,)))
    return made


def train(network: nn.Module, optimizer: Any, steps: Iterable[int]) -> None:
    """All ranks see the same batch, so the mean of their gradients is each of them, exactly."""
    for step in steps:
        x = torch.randn(4, 70, generator=torch.Generator().manual_seed(step))
        network.zero_grad()
        network(x).square().sum().backward()
        optimizer.step()


def state_of(network: nn.Module, optimizer: Any) -> dict[str, Any]:
    from torch.distributed.checkpoint.state_dict import get_state_dict

    weights, state = get_state_dict(network, optimizer)
    return {"weights": weights, "state": state}


def save(folder: str) -> None:
    import torch.distributed.checkpoint as checkpoints

    for name, make in MADE.items():
        network = sharded(2)
        optimizer = make(network)
        train(network, optimizer, range(3))
        checkpoints.save(state_of(network, optimizer), checkpoint_id=f"{folder}/{name}")


def load(folder: str) -> None:
    import torch.distributed.checkpoint as checkpoints
    from torch.distributed.checkpoint.state_dict import set_state_dict

    for name, make in MADE.items():
        network = sharded(4)
        optimizer = make(network)
        read = state_of(network, optimizer)
        checkpoints.load(read, checkpoint_id=f"{folder}/{name}")
        set_state_dict(network, optimizer, model_state_dict=read["weights"], optim_state_dict=read["state"])
        train(network, optimizer, range(3, 5))
        alone = model()
        train(alone, make(alone), range(5))
        for p, q in zip(network.parameters(), alone.parameters(), strict=True):
            if name in SUMMED:
                torch.testing.assert_close(whole(p), whole(q), rtol=1e-5, atol=1e-7)
            else:
                assert torch.equal(whole(p), whole(q)), (name, p.shape)


def test_a_checkpoint_of_two_ranks_goes_on_on_four(tmp_path: Path) -> None:
    on_ranks(2, save, tmp_path, str(tmp_path))
    on_ranks(4, load, tmp_path, str(tmp_path))
