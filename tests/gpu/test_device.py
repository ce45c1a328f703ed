"""The Triton executor on a device. No machine of ours has one: these tests have never run."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import steepest
from cases import Options, snapshot
from steepest import Optimizer
from steepest.executors.triton.elements import BLOCK

pytest.importorskip("triton", reason="Triton is not installed: make gpu-test")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SHAPES: list[tuple[int, ...]] = [(7, 5), (0,), (), (BLOCK,), (33, 65), (64, 68), (4099,)]


def started(cls: type[Optimizer], options: Options, device: str, dtype: torch.dtype) -> Any:
    """An optimizer with fused=True on a device, and what steps it, given a number of steps."""
    source = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=source).to(device, dtype)) for shape in SHAPES]
    optimizer = cls(params, fused=True, **options)

    def run(steps: int) -> None:
        for _ in range(steps):
            for p in params:
                p.grad = torch.randn(p.shape, generator=source).to(device, dtype)
            optimizer.step()

    return optimizer, run


def same(found: Any, expected: Any) -> bool:
    """Whether parameters and state on a device and on a CPU have the same values."""
    return all(
        torch.equal(p, q.cpu()) and all(torch.equal(held[name], other[name].cpu()) for name in held)
        for (p, held), (q, other) in zip(expected, found, strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (steepest.Lion, {}),
        (steepest.NAdam, {}),
        (steepest.Rprop, {}),
        (steepest.AdamW, {"state_dtype": "int8"}),
        (steepest.NAdam, {"state_dtype": "bfloat16"}),
        (steepest.NovoGrad, {}),
        (steepest.LAMB, {}),
        (steepest.Prodigy, {}),
        (steepest.AdamP, {}),
        (steepest.AdamW, {"agc": 0.1}),
    ],
    ids=str,
)
def test_the_bits_of_the_native_executor(cls: type[Optimizer], options: Options, dtype: torch.dtype) -> None:
    results = []
    for device in ("cpu", "cuda"):
        optimizer, run = started(cls, options, device, dtype)
        run(3)
        assert optimizer.executor == ("native" if device == "cpu" else "triton")
        results.append(snapshot(optimizer))
    assert same(results[1], results[0])


@pytest.mark.parametrize(
    "cls", [steepest.Adafactor, steepest.CAME, steepest.AdamMini], ids=lambda cls: str(cls.__name__)
)
def test_rows_and_columns_have_the_bits_of_the_native_executor(cls: type[Optimizer]) -> None:
    results = []
    for device in ("cpu", "cuda"):
        optimizer, run = started(cls, {}, device, torch.float32)
        run(3)
        results.append(snapshot(optimizer))
    assert same(results[1], results[0])


@pytest.mark.parametrize("cls", [steepest.NAdam, steepest.AdamMini], ids=lambda cls: str(cls.__name__))
def test_a_graph_repeats_what_steps_do(cls: type[Optimizer]) -> None:
    results = []
    for is_captured in (False, True):
        optimizer, run = started(cls, {"capturable": True}, "cuda", torch.float32)
        run(3)
        if is_captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                optimizer.step()
            for _ in range(4):
                graph.replay()
        else:
            for _ in range(4):
                optimizer.step()
        torch.cuda.synchronize()
        results.append(snapshot(optimizer))
    for (p, held), (q, other) in zip(*results, strict=True):
        assert torch.equal(p, q)
        assert all(torch.equal(held[name], other[name]) for name in held)


@pytest.mark.parametrize("options", [{}, {"capturable": True}, {"state_dtype": "int8"}], ids=str)
def test_a_step_does_not_wait_for_the_device(options: Options) -> None:
    """torch makes an error of each wait that it knows."""
    optimizer, run = started(steepest.NAdam, options, "cuda", torch.float32)
    run(3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
