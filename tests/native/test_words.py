"""Words that the kernel computes itself in float32: each within a stated distance of the true value, as vectors.

The distance is in units in the last place: the spacing of float32 numbers at the true value, known in double.
Special values are compared with torch's in test_numbers.py.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cases import NATIVE, spec_of
from steepest.executors.native import compiler, executor
from steepest.vocabulary import atan2, exp, log, sigmoid

from .support import SHIPPED, parameters
from .test_numbers import computed, with_words

COUNT = 2**18
LARGEST = float(np.finfo(np.float32).max)
GCC = shutil.which("gcc")

Word = Callable[[Any, Any, Any], Any]
True_ = Callable[[Any, Any], Any]


def sigmoid_in_double(p: Any, g: Any) -> Any:
    """The sigmoid; it is 0 where torch's is, since exp(-g) is no finite float32 number."""
    return np.where(g < -np.log(LARGEST), 0.0, 1 / (1 + np.exp(-g)))


UNARY: dict[str, tuple[Word, True_, float]] = {
    "exp": (lambda p, g, lr: exp(g), lambda p, g: np.exp(g), 0.55),
    "log": (lambda p, g, lr: log(g), lambda p, g: np.log(g), 0.55),
    "sigmoid": (lambda p, g, lr: sigmoid(g), sigmoid_in_double, 1.55),
    "cube_root": (lambda p, g, lr: g ** (1 / 3), lambda p, g: np.where(g < 0, np.nan, np.cbrt(g)), 0.9),
    "square_root": (lambda p, g, lr: g**0.5, lambda p, g: np.sqrt(g), 0.5),
    "small_power": (lambda p, g, lr: g**0.15625, lambda p, g: g**0.15625, 0.55),
    "odd_power": (lambda p, g, lr: g**-3, lambda p, g: g**-3.0, 0.55),
}
BINARY: dict[str, tuple[Word, True_, float]] = {
    "atan2": (lambda p, g, lr: atan2(p, g), lambda p, g: np.arctan2(p, g), 1.75),
    "power": (lambda p, g, lr: p**g, lambda p, g: p**g, 0.55),
}
"""A word, its value in double, and the largest error. The bounds hold for all 2**32 arguments of the words of one."""


def every_kind(count: int, shift: int = 0) -> Tensor:
    """Float32 numbers whose bits are evenly spaced: all sizes, both signs, subnormal numbers, NaN."""
    bits = (np.arange(count, dtype=np.uint64) * (2**32 // count) + shift) % 2**32
    return torch.from_numpy(bits.astype(np.uint32).view(np.float32).copy())


def worst(ours: Tensor, true: Any) -> float:
    """The largest error in units in the last place; NaN and infinity must be where the rounded true value has them."""
    got, rounded = ours.numpy(), true.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(rounded))
    ends = np.isinf(rounded) | np.isinf(got)
    beyond = ends & (np.abs(true) < LARGEST * (1 + 2.0**-22)) & (np.abs(true) > LARGEST * (1 - 2.0**-22))
    np.testing.assert_array_equal(got[ends & ~beyond], rounded[ends & ~beyond])
    known = ~np.isnan(rounded) & ~ends
    np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(rounded[known]))
    spacing = np.spacing(np.maximum(np.abs(rounded[known]), np.float32(2.0**-126))).astype(np.float64)
    return float((np.abs(got[known] - true[known]) / spacing).max())


def check(words: dict[str, tuple[Word, True_, float]], p: Tensor, g: Tensor) -> None:
    """Every word on (p, g), all in one kernel."""
    _, *results = computed(with_words({name: word for name, (word, _, _) in words.items()}), "native", p, g)
    with np.errstate(all="ignore"):
        for (name, (_, true, bound)), ours in zip(words.items(), results, strict=True):
            error = worst(ours, true(p.double().numpy(), g.double().numpy()))
            assert bound / 4 < error <= bound, (name, error)


def test_words_of_one_number_are_within_their_bounds() -> None:
    x = every_kind(COUNT, 977)
    near = torch.linspace(-100.0, 100.0, COUNT)
    check(UNARY, torch.zeros(2 * COUNT), torch.cat([x, near]))


def test_words_of_two_numbers_are_within_their_bounds() -> None:
    """Sizes that are far apart and near; exponents that bring a power to any float32 number."""
    source = torch.Generator().manual_seed(0)
    x = every_kind(COUNT, 977)
    factors = torch.exp(4 * torch.rand(COUNT, generator=source) - 2) * torch.randn(COUNT, generator=source).sign()
    check(
        {"atan2": BINARY["atan2"]},
        torch.cat([x, x]),
        torch.cat([x * factors, x[torch.randperm(COUNT, generator=source)]]),
    )
    exponents = (300 * torch.rand(COUNT, generator=source) - 150) / x.abs().double().log2()
    some = torch.rand(COUNT, generator=source) < 0.25
    exponents = torch.where(some, exponents.round(), exponents).float()
    check(
        {"power": BINARY["power"]}, torch.cat([x, 1 + 1e-3 * torch.randn(COUNT, generator=source)]), exponents.repeat(2)
    )


@pytest.mark.skipif(GCC is None, reason="asks gcc which loops it has made vectors of")
@pytest.mark.parametrize("name", ["adamw", "madgrad", "adamatan2", "diffgrad", "padam"])
def test_loops_over_words_are_vectors(name: str, tmp_path: Path) -> None:
    kernel = executor.kernel_of(spec_of(NATIVE[name](parameters([(3,)]))))
    source = tmp_path / "kernel.c"
    source.write_text(kernel.source, encoding="utf-8")
    command = [
        str(GCC),
        *compiler.FLAGS,
        SHIPPED,
        "-fopt-info-vec",
        "-o",
        str(tmp_path / "kernel.so"),
        str(source),
        "-lm",
    ]
    tuned = next(flags for flags in compiler.TUNED if not subprocess.run([*command, *flags], check=False).returncode)
    told = subprocess.run([*command, *tuned], capture_output=True, text=True, check=True).stderr
    loop = "for (int64_t i = 0; i < high - low; i++) {"
    lines = [number for number, line in enumerate(kernel.source.splitlines(), 1) if loop in line]
    assert lines
    for number in lines:
        assert any(f"kernel.c:{number}:" in line and "loop vectorized" in line for line in told.splitlines()), told
