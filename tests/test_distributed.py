"""Optimizers that hold a part of the parameters: the norm is that of all ranks, or an error says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from ranks import on_ranks
from steepest import SGD, AdamW, Prodigy

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


def zero() -> None:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    def make(params: Any, **options: Any) -> Any:
        return ZeroRedundancyOptimizer(params, AdamW, lr=0.1, **options)

    message = "max_norm and zclip clip by within ZeroRedundancyOptimizer would be those of this rank's part"
    refused(lambda: make(model().parameters(), max_norm=0.5), message)
    compare(model(), lambda params: make(params, max_norm=0.5, norm_group="WORLD"))
    compare(model(), lambda params: make(params, max_norm=0.5, norm_group=dist.group.WORLD))
    late = make(model().parameters())
    late.optim.param_groups[0]["max_norm"] = 0.5
    refused(late.optim.step, message)


def sharded() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    ours = model()
    fully_shard(ours, mesh=init_device_mesh("cpu", (WORLD,)))
    compare(ours, lambda params: AdamW(params, lr=0.1, max_norm=0.5))


def rival(make: Any) -> None:
    """Whole parameters on one rank, and parts of them on this one: the same numbers."""
    ours, theirs = model(), model()
    optimizer, whole = make(ours.parameters()), Prodigy(theirs.parameters(), d0=1e-3)
    train([ours, theirs], [optimizer.step, whole.step], model())
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
    held = optimizer.optim if hasattr(optimizer, "optim") else optimizer
    assert held.param_groups[0]["d"] == pytest.approx(whole.param_groups[0]["d"], rel=1e-6)
    assert whole.param_groups[0]["d"] > 1e-3
    assert held.param_groups[0]["k"] == 3


def sums() -> None:
    """Numbers that parameters share, over ranks that hold a part of them, and over a rank without gradients."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    def zero(params: Any, **options: Any) -> Any:
        return ZeroRedundancyOptimizer(params, Prodigy, d0=1e-3, **options)

    refused(lambda: zero(model().parameters()), "sums within ZeroRedundancyOptimizer would be those of this rank's")
    rival(lambda params: zero(params, norm_group="WORLD"))
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = Prodigy([p], d0=1e-3, norm_group="WORLD")
    for _ in range(3):
        p.grad = p.detach().clone() if dist.get_rank() == 0 else None
        optimizer.step()
    alone = Prodigy([q := torch.nn.Parameter(torch.ones(3))], d0=1e-3)
    for _ in range(3):
        q.grad = q.detach().clone()
        alone.step()
    assert torch.equal(p, q if dist.get_rank() == 0 else torch.ones(3))
    assert optimizer.param_groups[0]["d"] == alone.param_groups[0]["d"] > 1e-3


def sharded_sums() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    ours, theirs = model(), model()
    fully_shard(ours, mesh=init_device_mesh("cpu", (WORLD,)))
    optimizer, whole = Prodigy(ours.parameters(), d0=1e-3), Prodigy(theirs.parameters(), d0=1e-3)
    train([ours, theirs], [optimizer.step, whole.step], model())
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.full_tensor().detach(), q.detach(), rtol=1e-5, atol=1e-6)
    assert optimizer.param_groups[0]["d"] == pytest.approx(whole.param_groups[0]["d"], rel=1e-5)
    assert whole.param_groups[0]["d"] > 1e-3


def skipping() -> None:
    """A gradient that is not finite on one rank makes all ranks of the group leave the step out."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    refused(
        lambda: ZeroRedundancyOptimizer(model().parameters(), AdamW, lr=0.1, skip_nonfinite=True),
        "the gradients that skip_nonfinite looks at within ZeroRedundancyOptimizer would be those of",
    )
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = SGD([p], lr=0.1, skip_nonfinite=True, norm_group="WORLD")
    rank = dist.get_rank()
    for number in (1.0, float("nan"), 1.0):
        p.grad = torch.full((3,), number if rank == 1 else 1.0) if rank or number == number else None
        optimizer.step()
    assert optimizer.skipped == 1
    assert torch.allclose(p, torch.full((3,), 0.8))


def run() -> None:
    zero()
    sharded()
    sums()
    skipping()
    sharded_sums()


def test_max_norm_over_ranks(tmp_path: Path) -> None:
    on_ranks(WORLD, run, tmp_path)


def test_a_norm_group_without_distributed_says_what_is_missing() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = SGD([p], max_norm=1.0, norm_group="WORLD")
    p.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match=r"needs torch.distributed.init_process_group\(\)"):
        optimizer.step()


def test_one_norm_has_one_group() -> None:
    p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    with pytest.raises(
        ValueError, match="clip by are over all groups, so these need one norm_group, not 'WORLD', None"
    ):
        SGD([{"params": [p], "norm_group": "WORLD"}, {"params": [q]}], max_norm=1.0)
    with pytest.raises(TypeError, match=r"norm_group must be a torch.distributed process group, its name"):
        SGD([p], max_norm=1.0, norm_group=3)
