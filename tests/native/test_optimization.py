"""Kernels as they are shipped: the optimization decides how fast they are, and not one bit of what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cases import NATIVE, Options, assert_same, every_native_class, snapshot
from steepest import Optimizer
from steepest.executors.native import compiler, library
from steepest.study.trials.performance import threads
from test_executors import HALVES, build, everything_on, odd_gradients, odd_tensors, step

from .support import SHIPPED

TESTED = "-O1"


def at(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile at this level from here on."""
    monkeypatch.setattr(compiler, "OPTIMIZATION", level)
    library._library.cache_clear()


@pytest.fixture(autouse=True)
def _forget() -> Any:
    yield
    library._library.cache_clear()


def stepped(cls: type[Optimizer], options: Options, dtype: torch.dtype) -> Any:
    """Three steps on odd shapes, and many blocks that two threads share."""
    big = torch.linspace(-1.0, 1.0, 70_001, dtype=torch.float64).to(dtype)
    optimizer = build(cls, [*odd_tensors(dtype, 1), big], "native", options)
    with threads(2):
        for seed in (2, 3, 4):
            step(optimizer, [*odd_gradients(dtype, seed), big.cos() * seed])
    return snapshot(optimizer)


@every_native_class
def test_no_bit_depends_on_the_level(cls: type[Optimizer], monkeypatch: pytest.MonkeyPatch) -> None:
    at(SHIPPED, monkeypatch)
    shipped = stepped(cls, everything_on(cls), torch.float32)
    at(TESTED, monkeypatch)
    assert_same(stepped(cls, everything_on(cls), torch.float32), shipped)


@pytest.mark.parametrize("dtype", [torch.float64, *HALVES], ids=str)
def test_in_no_type(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    at(SHIPPED, monkeypatch)
    shipped = stepped(NATIVE["adamw"], {"max_norm": 0.5}, dtype)
    at(TESTED, monkeypatch)
    assert_same(stepped(NATIVE["adamw"], {"max_norm": 0.5}, dtype), shipped)


def test_each_level_is_another_kernel(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the cache as well, so that no user meets a kernel of the tests."""
    for level in (SHIPPED, TESTED):
        at(level, monkeypatch)
        stepped(NATIVE["sgd"], {}, torch.float32)
    assert len(list((cold / "cache" / "steepest" / "kernels").iterdir())) == 2


def test_the_library_ships_the_fastest() -> None:
    assert f'OPTIMIZATION = "{SHIPPED}"' in Path(compiler.__file__).read_text("utf-8")
