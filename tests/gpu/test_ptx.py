"""Kernels compiled to PTX for sm_80 and sm_90, on a machine without a GPU: what the text must and must not say."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import torch

import steepest
from cases import Options
from steepest import Optimizer

from .support import DTYPES, ROWS_OF_DTYPES, compiled, kernel_of

triton: Any = pytest.importorskip("triton", reason="Triton is not installed: make gpu-test")

FORBIDDEN = r"\b(fma|div\.(full|approx)|rcp|sqrt\.approx|rsqrt|ex2|lg2|sin|cos|tanh)\b\S*|\S+\.ftz\S*"
"""Contracted and approximate instructions, and those that flush subnormal numbers."""

UNROUNDED = r"\b(?:add|sub|mul)\.f(?:32|64)\b"
"""Arithmetic that does not say how it rounds, which ptxas may contract."""

REGISTERS, REGISTERS_OF_DOUBLES = 128, 200
"""Most registers of a thread, of 255, where all arithmetic is in float32, and where some is in double."""

capabilities = pytest.mark.parametrize("capability", [80, 90])
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=[str(dtype).removeprefix("torch.") for dtype in DTYPES])


def ptx_of(
    cls: type[Optimizer], options: Options, dtype: torch.dtype, capability: int, *, is_aligned: bool = True
) -> str:
    kernel = kernel_of(cls, options, dtype)
    text: str = compiled(kernel.source, kernel.real, capability, is_aligned=is_aligned).asm["ptx"]
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


@pytest.mark.thin("cls", "options", "dtype", "capability")
@capabilities
@pytest.mark.parametrize(("cls", "options", "dtype"), ROWS_OF_DTYPES)
def test_every_operation_rounds_once_and_whole_tiles_move_16_bytes(
    cls: type[Optimizer], options: Options, dtype: torch.dtype, capability: int
) -> None:
    kernel = kernel_of(cls, options, dtype)
    ptx = ptx_of(cls, options, dtype, capability)
    assert target_of(ptx).removesuffix("a") == f"sm_{capability}"
    assert re.findall(FORBIDDEN, ptx) == []
    assert re.findall(UNROUNDED, ptx) == []
    read = len(set(re.findall(r"old_(\w+) = tl\.load", kernel.source)))
    written = len(set(re.findall(r"tl\.store\(at_(\w+)", kernel.source)))
    of_a_tensor = 8 * dtype.itemsize // 16
    assert wide(ptx, "ld") == read * of_a_tensor
    assert wide(ptx, "st") == written * of_a_tensor
    registers, spilled = usage(ptx)
    assert spilled == 0
    assert registers <= (REGISTERS_OF_DOUBLES if ".f64" in ptx else REGISTERS)


@capabilities
@dtypes
@pytest.mark.parametrize("cls", [steepest.AdamW, steepest.Lion, steepest.Rprop], ids=lambda cls: str(cls.__name__))
def test_any_address_will_do_where_some_are_no_multiples_of_16(
    cls: type[Optimizer], dtype: torch.dtype, capability: int
) -> None:
    ptx = ptx_of(cls, {}, dtype, capability, is_aligned=False)
    assert re.findall(r"\b(?:ld|st)\.global\.v\d\S*", ptx) == []
    assert re.findall(FORBIDDEN, ptx) == []


def test_these_assertions_see_contraction_and_approximation() -> None:
    kernel = kernel_of(steepest.AdamW, {})
    fused = compiled(kernel.source, kernel.real, 80, is_aligned=True, enable_fp_fusion=True).asm["ptx"]
    assert "fma" in {name.partition(".")[0] for name in re.findall(r"\bfma\S*", fused)}
    assert re.findall(FORBIDDEN, fused)
    approximate = re.sub(r"tl\.div_rn\((.*?), (t\d+)\)", r"(\1) / \2", kernel.source).replace("sqrt_rn", "sqrt")
    assert approximate != kernel.source
    ptx = compiled(approximate, kernel.real, 80, is_aligned=True).asm["ptx"]
    assert {"div.full", "sqrt.approx"} <= {match.group(1) for match in re.finditer(FORBIDDEN, ptx)}
