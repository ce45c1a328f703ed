"""SAM where ranks hold shards: one norm over all of them, of DTensors and of parts under a norm_group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ranks import on_ranks
from steepest import ASAM, GSAM, SAM, SGD

WORLD = 2
KINDS = (lambda o, **k: SAM(o, rho=0.5, **k), ASAM, lambda o, **k: GSAM(o, rho_max=0.5, **k))


def quadratic(weights: Tensor, scale: Tensor) -> Tensor:
    return (scale * weights.square()).sum() / 2


def steps(optimizer: Any, loss: Any) -> None:
    def closure() -> None:
        optimizer.zero_grad()
        loss().backward()

    for _ in range(3):
        optimizer.step(closure)


def parts() -> None:
    start, scale = torch.tensor([1.0, -2.0, 3.0, 0.5]).double(), torch.tensor([3.0, 1.0, 0.5, 2.0]).double()
    mine = slice(2 * dist.get_rank(), 2 * dist.get_rank() + 2)
    for kind in KINDS:
        whole, part = nn.Parameter(start.clone()), nn.Parameter(start[mine].clone())
        steps(kind(SGD([whole], lr=0.1)), lambda whole=whole: quadratic(whole, scale))
        steps(kind(SGD([part], lr=0.1), norm_group="WORLD"), lambda part=part: quadratic(part, scale[mine]))
        torch.testing.assert_close(part.detach(), whole.detach()[mine], rtol=1e-12, atol=1e-12)


def shards() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    for kind in KINDS:
        models = []
        for sharded in (False, True):
            torch.manual_seed(0)
            model: Any = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
            if sharded:
                fully_shard(model, mesh=init_device_mesh("cpu", (WORLD,)))
            steps(kind(SGD(model.parameters(), lr=0.1)), lambda model=model: model(x).square().mean())
            models.append(model)
        for p, q in zip(*(m.parameters() for m in models), strict=True):
            torch.testing.assert_close(q.full_tensor(), p, rtol=1e-4, atol=1e-5)


def run() -> None:
    parts()
    shards()


@pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
def test_one_norm_over_all_ranks(tmp_path: Path) -> None:
    on_ranks(WORLD, run, tmp_path)
