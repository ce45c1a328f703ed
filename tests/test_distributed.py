"""Optimizers that hold a part of the parameters: the norm is that of all ranks, or an error says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from steepest import SGD, AdamW

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")

WORLD = 2


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 3))


def train(models: list[torch.nn.Module], steps: list[Any], clipped: torch.nn.Module) -> None:
    """Three steps on the same data; the last model's gradients are clipped by torch."""
    for seed in range(3):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))
        for each, step in zip(models, steps, strict=True):
            each.zero_grad()
            each(x).square().sum().backward()
            if each is clipped:
                torch.nn.utils.clip_grad_norm_(each.parameters(), 0.5)
            step()


def compare(ours: torch.nn.Module, make: Any) -> None:
    theirs = model()
    optimizer, plain = make(ours.parameters()), torch.optim.AdamW(theirs.parameters(), lr=0.1)
    train([ours, theirs], [optimizer.step, plain.step], theirs)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        whole = p.full_tensor() if hasattr(p, "full_tensor") else p
        torch.testing.assert_close(whole.detach(), q.detach(), rtol=1e-5, atol=1e-6)


def refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def zero(rank: int) -> None:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    def make(params: Any, **options: Any) -> Any:
        return ZeroRedundancyOptimizer(params, AdamW, lr=0.1, **options)

    message = "max_norm within ZeroRedundancyOptimizer would clip by the norm of this rank's part"
    refused(lambda: make(model().parameters(), max_norm=0.5), message)
    compare(model(), lambda params: make(params, max_norm=0.5, norm_group="WORLD"))
    compare(model(), lambda params: make(params, max_norm=0.5, norm_group=dist.group.WORLD))
    late = make(model().parameters())
    late.optim.param_groups[0]["max_norm"] = 0.5
    refused(late.optim.step, message)


def sharded(rank: int) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    ours = model()
    fully_shard(ours, mesh=init_device_mesh("cpu", (WORLD,)))
    compare(ours, lambda params: AdamW(params, lr=0.1, max_norm=0.5))


def run(rank: int, file: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=WORLD)
    zero(rank)
    sharded(rank)
    dist.destroy_process_group()


def test_max_norm_over_ranks(tmp_path: Path) -> None:
    multiprocessing.spawn(run, (str(tmp_path / "store"),), nprocs=WORLD)


def test_a_norm_group_without_distributed_says_what_is_missing() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = SGD([p], max_norm=1.0, norm_group="WORLD")
    p.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match=r"needs torch.distributed.init_process_group\(\)"):
        optimizer.step()


def test_one_norm_has_one_group() -> None:
    p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    with pytest.raises(ValueError, match="share one norm, so they need one norm_group, not 'WORLD', None"):
        SGD([{"params": [p], "norm_group": "WORLD"}, {"params": [q]}], max_norm=1.0)
    with pytest.raises(TypeError, match=r"norm_group must be a torch.distributed process group, its name"):
        SGD([p], max_norm=1.0, norm_group=3)
