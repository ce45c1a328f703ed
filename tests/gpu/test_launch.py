"""The launch itself, down to a driver that stands in for CUDA's: Triton takes the arguments, compiles and would run."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import steepest
from steepest import Optimizer
from steepest.executors.triton import library, tables
from steepest.executors.triton.elements import BLOCK

from .support import fixed_for, kernel_of, triton_if_wanted

triton = triton_if_wanted()

launched: list[tuple[Any, ...]] = []


class Driver:
    """A device of compute capability 9.0 that only notes what it is asked to run."""

    utils = SimpleNamespace(
        get_device_properties=lambda device: {"max_shared_mem": 200_000, "max_num_regs": 65_536},
        load_binary=lambda name, kernel, shared, device: ("module", name, 64, 0, 1024),
    )

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        return importlib.import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        return lambda *arguments: launched.append(arguments)


@pytest.fixture(autouse=True)
def _driver() -> Iterator[None]:
    runtime = importlib.import_module("triton.runtime.driver").driver
    before = runtime._active
    launched.clear()
    library.loaded.cache_clear()
    runtime.set_active(Driver())
    yield
    runtime._active = before
    library.loaded.cache_clear()


@pytest.mark.parametrize("is_aligned", [True, False])
@pytest.mark.parametrize("cls", [steepest.AdamW, steepest.LAMB, steepest.Adafactor], ids=lambda cls: str(cls.__name__))
def test_triton_takes_the_arguments_of_a_launch(cls: type[Optimizer], is_aligned: bool) -> None:
    kernel = kernel_of(cls, {})
    slots = [[torch.zeros(2, BLOCK + 1), torch.zeros(3, 1)]] * len(kernel.slots)
    held = tables.Tables(kernel.layout, (0, 1))
    table = held.of(slots, [0, 1], [0, 0])
    rows = [(0.5,) * 20] * 2
    constants = tables.Constants().of(rows, kernel.real, table.device)
    doubles = tables.Constants().of(rows, torch.float64, table.device)
    fixed, given = fixed_for(kernel, is_aligned=is_aligned), (constants, *[doubles] * 4)
    for each in kernel.launches:
        owners = held.owners[each.grid]
        library.launch(kernel, each.function, len(owners), (table, owners, *given), **fixed)
    for arguments, each in zip(launched, kernel.launches, strict=True):
        owners = held.owners[each.grid]
        assert arguments[:3] == (len(owners), 1, 1)
        assert arguments[4] == each.function
        expected = (table, owners, *given, *fixed.values())
        assert all(ours is theirs for ours, theirs in zip(expected, arguments[9:], strict=True))
