"""Three rules compiled for a device, wherever Triton is installed. All others are compiled by `make gpu-test`."""

from __future__ import annotations

import pytest

import steepest
from steepest import Optimizer

from .support import compiled, kernel_of, nvidia

pytest.importorskip("triton", reason="Triton is not installed")


@pytest.mark.parametrize("cls", [steepest.AdamW, steepest.LAMB, steepest.Adafactor], ids=lambda cls: str(cls.__name__))
def test_a_kernel_of_elements_of_tensors_and_of_rows_compiles(cls: type[Optimizer]) -> None:
    kernel = kernel_of(cls, {})
    for launch in kernel.launches:
        assert f".entry {launch.function}(" in compiled(kernel, launch.function, nvidia(90)).asm["ptx"]
