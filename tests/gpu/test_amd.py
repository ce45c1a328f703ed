"""Kernels compiled to AMD code for gfx942, on a machine without such a device: what the text must and must not say."""

from __future__ import annotations

import re

import pytest
import torch

from cases import Options
from steepest import Optimizer
from steepest.executors.triton.kernel import Kernel

from .support import CODED, ROWS_OF_DTYPES, amd, coded_kernel_of, compiled, kernel_of, triton_if_wanted

triton_if_wanted()

LOOSE = r"\b(contract|fast|afn|arcp|reassoc|nnan|ninf|nsz)\b|llvm\.(fma|fmuladd)\b|__ocml"
"""Permissions to round otherwise than IEEE 754, contracted operations, functions of AMD's library, in LLVM's text."""

PARTS = {
    "f32": {"v_div_fixup_f32": 5, "v_sqrt_f32": 2, "v_rsq_f32": 5},
    "f64": {"v_div_fixup_f64": 5, "v_rsq_f64": 7},
}
"""The fused operations by which AMD's compiler rounds a division or a root as IEEE 754 has it, by an instruction that
each of these has once. All others would be sums and products of ours.
"""

REGISTERS = 128
"""Most vector registers of a thread, of 512."""


def texts(kernel: Kernel, function: str) -> tuple[str, str]:
    """LLVM's text and AMD's, after a check of what no kernel may say."""
    made = compiled(kernel, function, amd()).asm
    code: str = made["amdgcn"]
    assert re.findall(r'\.amdgcn_target "(.*?)"', code) == ["amdgcn-amd-amdhsa--gfx942"]
    assert re.findall(LOOSE, made["llir"].split("!llvm.module.flags")[0]) == []
    counted = dict(re.findall(r"\.(vgpr_count|vgpr_spill_count|sgpr_spill_count):\s+(\d+)", code))
    assert (counted["vgpr_spill_count"], counted["sgpr_spill_count"]) == ("0", "0")
    assert int(counted["vgpr_count"]) <= REGISTERS
    return made["llir"], code


def count(pattern: str, text: str) -> int:
    return len(re.findall(rf"\b{pattern}", text))


@pytest.mark.thin
@pytest.mark.parametrize(("cls", "options", "dtype"), ROWS_OF_DTYPES)
def test_every_operation_rounds_once_and_whole_tiles_move_in_long_words(
    cls: type[Optimizer], options: Options, dtype: torch.dtype
) -> None:
    kernel = kernel_of(cls, options, dtype)
    for launch in kernel.launches:
        _, code = texts(kernel, launch.function)
        for suffix, parts in PARTS.items():
            fused = count(rf"v_(?:pk_)?(?:fma|fmac|mac|mad)_{suffix}", code)
            assert fused == sum(number * count(instruction, code) for instruction, number in parts.items())
        text = kernel.source.partition(f"def {launch.function}(")[2].partition("@triton.jit")[0]
        word, words = ("dwordx2", 1) if dtype.itemsize == 2 else ("dwordx4", dtype.itemsize // 4)
        if launch.is_tiled and not (dtype.itemsize < 8 and "_f64" in code):
            read = len(set(re.findall(r"old_(\w+) = tl\.load", text)))
            written = len(set(re.findall(r"tl\.store\(at_(\w+)", text)))
            assert count(f"(?:buffer|global)_load_{word}", code) == words * read
            assert count(f"(?:buffer|global)_store_{word}", code) == words * written


@pytest.mark.thin
@pytest.mark.parametrize(("cls", "coding"), CODED)
def test_coded_state(cls: type[Optimizer], coding: str) -> None:
    kernel = coded_kernel_of(cls, coding)
    for launch in kernel.launches:
        texts(kernel, launch.function)


def test_these_assertions_see_contraction() -> None:
    import steepest

    kernel = kernel_of(steepest.Lion, {})
    fused = compiled(kernel, "update", amd(), enable_fp_fusion=True).asm["amdgcn"]
    assert count(r"v_(?:pk_)?(?:fma|fmac|mac|mad)_f32", fused)
