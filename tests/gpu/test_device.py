"""The Triton executor on a device. No machine of ours has one: these tests have never run."""

from __future__ import annotations

import pytest
import torch

import steepest
from cases import snapshot
from steepest import Optimizer
from steepest.executors.triton.emit import BLOCK

pytest.importorskip("triton", reason="Triton is not installed: make gpu-test")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cls", [steepest.Lion, steepest.NAdam, steepest.Rprop], ids=lambda cls: str(cls.__name__))
def test_the_bits_of_the_native_executor(cls: type[Optimizer], dtype: torch.dtype) -> None:
    results = []
    for device in ("cpu", "cuda"):
        source = torch.Generator().manual_seed(0)
        shapes = [(7, 5), (0,), (), (BLOCK,), (33, 65)]
        params = [torch.nn.Parameter(torch.randn(shape, generator=source).to(device, dtype)) for shape in shapes]
        optimizer = cls(params, fused=True)
        for _ in range(3):
            for p in params:
                p.grad = torch.randn(p.shape, generator=source).to(device, dtype)
            optimizer.step()
        assert optimizer.executor == ("native" if device == "cpu" else "triton")
        results.append(snapshot(optimizer))
    for (p, held), (q, other) in zip(*results, strict=True):
        assert torch.equal(p, q.cpu())
        assert all(torch.equal(held[name], other[name].cpu()) for name in held)
