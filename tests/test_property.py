"""Random shapes, types, options and gaps: foreach is reference within the bound of test_executors.py.

Each gradient element is 0 or at least 1e-2 in size, parameters stay below 10, and at most five steps are taken: then
k = 64 eps (8 eps of a half type) of the tensor's largest element holds for every class.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import SWITCHES, Options, alternatives, every_planned_class, exactly, hyperparameters, is_valid, snapshot
from shapes import fitted
from steepest import Optimizer

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]
SHAPES = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5)


@st.composite
def options_of(draw: st.DrawFn, cls: type[Optimizer]) -> Options:
    """Any valid mixture of defaults, alternatives and, for numbers, values between."""
    chosen: Options = {}
    for name, field in hyperparameters(cls).items():
        value = draw(st.sampled_from([field.default, *alternatives(field)]))
        if is_valid(cls, {**chosen, name: value}):
            chosen[name] = value
    return chosen


def drawn(shape: tuple[int, ...], dtype: torch.dtype, source: torch.Generator) -> torch.Tensor:
    x = torch.randn(shape, generator=source, dtype=torch.complex128 if dtype.is_complex else torch.float64)
    return ((x + 0.1 * torch.sgn(x)) * (torch.rand(shape, generator=source) > 0.1)).to(dtype)


@pytest.mark.every(7)
@every_planned_class
@settings(max_examples=25)
@given(data=st.data())
def test_foreach_is_reference(cls: type[Optimizer], data: Any) -> None:
    dtype = data.draw(st.sampled_from([d for d in DTYPES if not (d.is_complex and cls.rule.is_real)]), label="dtype")
    options = data.draw(options_of(cls), label="options")
    shapes = [fitted(cls, shape) for shape in data.draw(SHAPES, label="shapes")]
    gaps = data.draw(st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=5), label="parameters at rest, by step")
    results = []
    for switch in (SWITCHES["reference"], SWITCHES["foreach"]):  # a native kernel for each example would take too long
        source = torch.Generator().manual_seed(3)
        params = [torch.nn.Parameter(drawn(shape, dtype, source)) for shape in shapes]
        optimizer = exactly(cls)(params, **options, **switch)
        for resting in gaps:
            for index, p in enumerate(params):
                g = drawn(tuple(p.shape), dtype, source)
                p.grad = None if index in resting else g
            optimizer.step()
        results.append(snapshot(optimizer))
    k = (8 if dtype in (torch.bfloat16, torch.float16) else 64) * torch.finfo(dtype).eps
    for (p, held), (q, other) in zip(*results, strict=True):
        assert list(held) == list(other)
        for a, b in [(p, q), *((held[name], other[name]) for name in held)]:
            largest = b.abs().nan_to_num(0.0, 0.0, 0.0).max().item() if b.numel() else 0.0
            torch.testing.assert_close(a, b, rtol=k, atol=k * largest, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_bound_is_not_loose(dtype: torch.dtype) -> None:
    """One element moved by twenty times the bound is seen."""
    k = (8 if dtype in (torch.bfloat16, torch.float16) else 64) * torch.finfo(dtype).eps
    a = torch.ones(3, dtype=dtype)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(a + 20 * k, a, rtol=k, atol=k)
