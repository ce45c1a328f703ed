"""Kernels compiled to PTX for sm_80 and sm_90, on a machine without a GPU: what the text must and must not say."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest
import torch

import steepest
from cases import Options
from steepest import Optimizer
from steepest.executors.triton import count
from steepest.executors.triton.kernel import Kernel

from .support import (
    CAPTURABLE,
    CODED,
    DTYPES,
    ROWS_OF_DTYPES,
    coded_kernel_of,
    compiled,
    kernel_of,
    nvidia,
    triton_if_wanted,
)

triton = triton_if_wanted()

FORBIDDEN = r"\b(fma|div\.(full|approx)|rcp|sqrt\.approx|rsqrt|ex2|lg2|sin|cos|tanh)\b\S*|\S+\.ftz\S*"
"""Contracted and approximate instructions, and those that flush subnormal numbers."""

UNROUNDED = r"\b(?:add|sub|mul)\.f(?:32|64)\b"
"""Arithmetic that does not say how it rounds, which ptxas may contract."""

REGISTERS = {"": 128, "codes": 160, "doubles": 240, "codes doubles": 255}
"""Most registers of a thread, of 255, where all arithmetic is in float32, with codes of 8 bits, and where some is in
double.
"""

capabilities = pytest.mark.parametrize("capability", [80, 90])
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=[str(dtype).removeprefix("torch.") for dtype in DTYPES])


def ptx_of(kernel: Kernel, capability: int, function: str = "update", *, is_aligned: bool = True) -> str:
    text: str = compiled(kernel, function, nvidia(capability), is_aligned=is_aligned).asm["ptx"]
    return text


def wide(ptx: str, kind: str) -> int:
    """The number of 16-byte loads or stores of tensors."""
    return len(re.findall(rf"\b{kind}\.global\.(?:v4\.b32|v2\.b64)", ptx))


def target_of(ptx: str) -> str:
    (target,) = re.findall(r"^\.target (\w+)", ptx, re.MULTILINE)
    return str(target)


def usage(ptx: str) -> tuple[int, int]:
    """Registers of a thread and bytes spilled, as ptxas counts them."""
    command = [triton.knobs.nvidia.ptxas.path, "-v", f"-arch={target_of(ptx)}", "-o", "/dev/null", "-"]
    log = subprocess.run(command, input=ptx, capture_output=True, text=True, check=True).stderr
    (registers,) = re.findall(r"Used (\d+) registers", log)
    return int(registers), sum(map(int, re.findall(r"(\d+) bytes spill", log)))


def check_rounding(ptx: str, capability: int, *, is_tiled: bool, is_coded: bool) -> None:
    """Check that every operation rounds once, and that a tile's values fit in registers."""
    assert target_of(ptx).removesuffix("a") == f"sm_{capability}"
    assert re.findall(FORBIDDEN, ptx) == []
    assert re.findall(UNROUNDED, ptx) == []
    if is_tiled:
        registers, spilled = usage(ptx)
        assert spilled == 0
        assert registers <= REGISTERS[" ".join(["codes"] * is_coded + ["doubles"] * (".f64" in ptx))]


@pytest.mark.thin
@capabilities
@pytest.mark.parametrize(("cls", "options", "dtype"), ROWS_OF_DTYPES)
def test_every_operation_rounds_once_and_whole_tiles_move_16_bytes(
    cls: type[Optimizer], options: Options, dtype: torch.dtype, capability: int
) -> None:
    kernel = kernel_of(cls, options, dtype)
    for launch in kernel.launches:
        ptx = ptx_of(kernel, capability, launch.function)
        check_rounding(ptx, capability, is_tiled=launch.is_tiled, is_coded=False)
        text = kernel.source.partition(f"def {launch.function}(")[2].partition("@triton.jit")[0]
        if launch.is_tiled:
            read = len(set(re.findall(r"old_(\w+) = tl\.load", text)))
            written = len(set(re.findall(r"tl\.store\(at_(\w+)", text)))
            of_a_tensor = 8 * dtype.itemsize // 16
            assert wide(ptx, "ld") == read * of_a_tensor
            assert wide(ptx, "st") == written * of_a_tensor


@pytest.mark.thin
@capabilities
@pytest.mark.parametrize(("cls", "coding"), CODED)
def test_a_block_of_codes_moves_in_words_of_8_bytes(cls: type[Optimizer], coding: str, capability: int) -> None:
    kernel = coded_kernel_of(cls, coding)
    for launch in kernel.launches:
        ptx = ptx_of(kernel, capability, launch.function)
        check_rounding(ptx, capability, is_tiled=launch.is_tiled, is_coded=True)
    ptx = ptx_of(kernel, capability)
    codes = sum(slot.dtype == torch.uint8 for slot in kernel.slots)
    assert len(re.findall(r"\bst\.global\.v2\.b32", ptx)) == codes
    assert ("bar.sync" in ptx) == (kernel.warps > 1)  # a block's largest is found within the one warp


@capabilities
@pytest.mark.parametrize(("cls", "options"), CAPTURABLE)
def test_constants_are_computed_in_double(cls: type[Optimizer], options: Options, capability: int) -> None:
    kernel = kernel_of(cls, {**options, "fused": True, "capturable": True})
    ptx = ptx_of(kernel, capability, count.FUNCTION)
    assert not re.findall(r"\b(?:add|sub|mul|div|sqrt|fma)\S*\.f32", ptx)
    assert not re.findall(r"\b(?:div|sqrt)\.(?!rn)\S*", ptx)
    assert re.findall(FORBIDDEN, ptx_of(kernel, capability)) == []


@capabilities
@dtypes
@pytest.mark.parametrize("cls", [steepest.AdamW, steepest.Lion, steepest.Rprop], ids=lambda cls: str(cls.__name__))
def test_any_address_will_do_where_some_are_no_multiples_of_16(
    cls: type[Optimizer], dtype: torch.dtype, capability: int
) -> None:
    ptx = ptx_of(kernel_of(cls, {}, dtype), capability, is_aligned=False)
    assert re.findall(r"\b(?:ld|st)\.global\.v\d\S*", ptx) == []
    assert re.findall(FORBIDDEN, ptx) == []


def test_these_assertions_see_contraction_and_approximation() -> None:
    kernel = kernel_of(steepest.AdamW, {})
    fused = compiled(kernel, "update", nvidia(80), enable_fp_fusion=True).asm["ptx"]
    assert "fma" in {name.partition(".")[0] for name in re.findall(r"\bfma\S*", fused)}
    assert re.findall(FORBIDDEN, fused)
    approximate = re.sub(r"tl\.div_rn\((.*?), (t\d+)\)", r"(\1) / \2", kernel.source).replace("sqrt_rn", "sqrt")
    assert approximate != kernel.source
    ptx = ptx_of(replace(kernel, source=approximate), 80)
    assert {"div.full", "sqrt.approx"} <= {match.group(1) for match in re.finditer(FORBIDDEN, ptx)}
