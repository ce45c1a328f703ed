"""Random classes, options, shapes, dtypes, gaps and executors: each step is torch's, within the bound below.

300 seeded configurations here; ``make soak`` runs 10,000 others (docs/drop-in.md has its result).

Bound: k eps of the tensor's largest element, k = 256, where both start from torch's state after each step, so that what
is compared is one step and no rounding grows from step to step. Gradient elements are at least 0.1 in size, so that no
denominator is a mere eps; the eps is float32's where torch keeps a number in float32 beside float64 tensors.
"""

from __future__ import annotations

import copy
import os
from typing import Any

import torch
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cases import PLANNED_TWINS, SWITCHES, Options, Twins, executors_of, is_full, is_valid, torch_values
from shapes import comparable
from steepest import Field, Optimizer

EXAMPLES = int(os.environ.get("STEEPEST_SOAK", "300" if is_full() else "60"))
FACTOR = 256
DTYPES = [torch.float32, torch.float64, torch.complex64]
DIMENSIONS = st.lists(st.integers(0, 4), max_size=3).map(tuple)
SHAPES = st.lists(DIMENSIONS, min_size=1, max_size=4)


def value_of(field: Field, taken: list[Any]) -> st.SearchStrategy[Any]:
    """The default, or any value inside the bounds at which two sensible programs can be compared."""
    if field.choices:
        return st.sampled_from(taken)
    if field.is_flag:
        return st.booleans()
    if isinstance(field.default, tuple):
        return st.just(field.default)
    if field.search is None:
        return st.just(field.default)
    low, high = field.search.low, field.search.high
    number = st.floats(0, 1).map(lambda u: low * (high / low) ** u)
    return st.one_of(st.just(field.default), number.map(lambda x: 1 - x) if field.search.complement else number)


@st.composite
def configurations(draw: st.DrawFn) -> tuple[Twins, Options, str, torch.dtype]:
    name = draw(st.sampled_from(sorted(PLANNED_TWINS)))
    ours, _ = twins = PLANNED_TWINS[name]
    options: Options = {}
    for option, taken in torch_values(name).items():
        value = draw(value_of(ours.fields[option], taken), label=option)
        if value != ours.fields[option].default and is_valid(ours, {**options, option: value}):
            options[option] = value
    betas = draw(st.tuples(st.floats(0.5, 0.99), st.floats(0.8, 0.9999)))
    if "betas" in ours.fields and draw(st.booleans()):
        options["betas"] = betas
    # In bfloat16 another order of operations is another result: of Muon the loop alone is compared (and test_muon.py).
    executor = draw(st.sampled_from(executors_of(ours) if ours.rule.precision is None else ["reference"]))
    return twins, options, executor, draw(st.sampled_from(DTYPES), label="dtype")


def drawn(shape: tuple[int, ...], dtype: torch.dtype, source: torch.Generator) -> Tensor:
    """Values of size about 1, none (nor a part of a complex one) below 0.1."""
    x = torch.randn((*shape, 2) if dtype.is_complex else shape, generator=source, dtype=torch.float64)
    x = x + 0.1 * torch.sgn(x)
    return (torch.view_as_complex(x) if dtype.is_complex else x).to(dtype)


def agree(a: Any, b: Any, eps: float) -> None:
    a, b = (torch.as_tensor(x) for x in (a, b))
    bound = FACTOR * eps * max(1.0, b.abs().max().item() if b.numel() else 0.0)
    torch.testing.assert_close(a, b, rtol=0, atol=bound, equal_nan=True, check_dtype=False)


def precision(cls: type[Optimizer], dtype: torch.dtype) -> float:
    """The dtype's; a class with scalar state has some in float32, in torch and here, each rounded in its own order."""
    has_scalars = any(state.kind == "scalar" for state in cls.rule.state)
    return max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps if has_scalars else 0.0)


@settings(max_examples=EXAMPLES, derandomize="STEEPEST_SOAK" not in os.environ)
@given(configuration=configurations(), data=st.data())
def test_a_step_is_torchs(configuration: tuple[Twins, Options, str, torch.dtype], data: Any) -> None:
    (cls, twin), options, executor, dtype = configuration
    shapes = comparable(twin, data.draw(SHAPES, label="shapes"))
    assume(shapes)
    gaps = data.draw(st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=5), label="parameters at rest, by step")
    source = torch.Generator().manual_seed(3)
    starts = [drawn(shape, dtype, source) for shape in shapes]
    ours, theirs = (
        c([torch.nn.Parameter(x.clone()) for x in starts], **copy.deepcopy(options), **switch)
        for c, switch in ((cls, SWITCHES[executor]), (twin, {}))
    )
    assume(accepts(theirs, dtype))
    switches = {name: ours.param_groups[0][name] for name in ("foreach", "fused") if name in cls.fields}
    eps = precision(cls, dtype)
    event(f"{cls.__name__} {executor} {str(dtype).removeprefix('torch.')}")
    for resting in gaps:
        for i, (p, q) in enumerate(pairs(ours, theirs)):
            g = None if i in resting else drawn(tuple(p.shape), dtype, source)
            p.grad, q.grad = g, g
        ours.step()
        theirs.step()
        for p, q in pairs(ours, theirs):
            agree(p.detach(), q.detach(), eps)
            held, other = ours.state.get(p, {}), theirs.state.get(q, {})
            assert list(held) == list(other)
            for name, value in other.items():
                agree(held[name], value, eps)
        ours.load_state_dict(theirs.state_dict())
        ours.param_groups[0].update(switches)
        with torch.no_grad():
            for p, q in pairs(ours, theirs):
                p.copy_(q)


def pairs(ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer) -> list[tuple[Tensor, Tensor]]:
    return list(zip(ours.param_groups[0]["params"], theirs.param_groups[0]["params"], strict=True))


def accepts(theirs: torch.optim.Optimizer, dtype: torch.dtype) -> bool:
    """Whether torch's class runs parameters of this dtype at all."""
    twin = type(theirs)([torch.ones(2, 2, dtype=dtype)])
    twin.param_groups[0]["params"][0].grad = torch.ones(2, 2, dtype=dtype)
    try:
        twin.step()
    except RuntimeError:
        return False
    return True
