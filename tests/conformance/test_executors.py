"""Every executor against the loop: parameters, state, and what no step may touch.

Tolerances, in eps of a tensor's largest element: 1,024 in float64 (five steps of some ten roundings in another order,
divided by roots near their eps), 128 in float32, and 8 of a half type, which every executor computes in float32 and
rounds once per step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from .support import (
    Configuration,
    Info,
    Problem,
    assert_close,
    empty_step,
    every_configuration,
    every_info,
    every_input,
    every_way,
    has,
    inputs,
    is_torchs,
    skipped_by_torch,
    source,
    state_of,
    takes,
    values,
)

FACTOR = {torch.float64: 1024, torch.float32: 128, torch.bfloat16: 8, torch.float16: 8}
SHAPES = [(3, 4), (5,), (), (2, 3), (4,)]


def parameters(configuration: Configuration, dtype: torch.dtype) -> list[Tensor]:
    """Two layers, a 0-dim parameter between them."""
    draw = source(23)
    shapes = [shape for shape in SHAPES if takes(configuration.cls, shape)]
    return configuration.leaves([torch.randn(shape, generator=draw).to(dtype) for shape in shapes])


def trained(configuration: Configuration, dtype: torch.dtype, **more: Any) -> tuple[list[Tensor], dict[Any, Any]]:
    """Parameters and state after five steps.

    At the second no parameter has a gradient but the first; at the third and fourth the last layer is frozen.
    """
    params = parameters(configuration, dtype)
    optimizer = configuration.build(params, **more)
    draw = source(29)
    for step in range(5):
        for index, p in enumerate(params):
            g = torch.randn(p.shape, generator=draw)
            rests = (step == 1 and index > 0) or (step in (2, 3) and index >= len(params) - 2)
            p.grad = None if rests else (g + 0.1 * g.sign()).to(dtype)
        optimizer.step()
    return values(params), state_of(optimizer)


Trained = tuple[list[Tensor], dict[Any, Any]]
LOOPS: dict[Any, Trained] = {}
"""What the loop came to, by class, input and dtype: all switches are compared with the same run."""


def loop(configuration: Configuration, dtype: torch.dtype) -> Trained:
    key = configuration.info.name, configuration.description, dtype
    if key not in LOOPS:
        LOOPS[key] = trained(configuration, dtype, **dict.fromkeys(configuration.info.supported_impls, False))
    return LOOPS[key]


def assert_is_the_loop(configuration: Configuration, dtype: torch.dtype, switch: str) -> None:
    ours = trained(configuration, dtype, **{switch: True})
    assert_close(ours, loop(configuration, dtype), FACTOR[dtype])


@every_input(has("foreach"))
def test_foreach_is_the_loop(configuration: Configuration) -> None:
    """None gradients at one step, a frozen and thawed layer, a 0-dim parameter; in every type."""
    for dtype in FACTOR:
        assert_is_the_loop(configuration, dtype, "foreach")


@every_input(has("fused"))
def test_fused_is_the_loop(configuration: Configuration) -> None:
    """The same in float64: each type of each structure is a kernel to compile."""
    assert_is_the_loop(configuration, torch.float64, "fused")


@pytest.mark.thin("structure", "dtype")
@pytest.mark.parametrize("dtype", FACTOR, ids=str)
@every_info(lambda info: "fused" in info.supported_impls)
def test_fused_is_the_loop_in_every_type(info: Info, dtype: torch.dtype) -> None:
    """The last input, which has most options on."""
    *_, last = inputs(info)
    assert_is_the_loop(last, dtype, "fused")


# -- the default dtype -----------------------------------------------------------------------------------------------


@pytest.fixture(params=[torch.float64, torch.float16], ids=str)
def default_dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """torch's default dtype, for the test alone."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@every_way(is_torchs)
def test_the_default_dtype(configuration: Configuration, default_dtype: torch.dtype) -> None:
    """State has torch's dtypes, ``step`` among them. Numbers in float64 (torch's Adam is not finite in float16)."""
    if configuration.info.step_requires_closure and default_dtype is torch.float16:
        pytest.skip("torch's line search overflows in half precision")
    ours, theirs = Problem(configuration, default_dtype), Problem(configuration, default_dtype)
    mine, original = configuration.build(ours.params), configuration.build_torchs(theirs.params)
    ours.advance(mine, 2)
    theirs.advance(original, 2)
    for i, held in state_of(mine).items():
        other = state_of(original)[i]
        tensors = [name for name, x in held.items() if isinstance(x, Tensor) and isinstance(other[name], Tensor)]
        assert {name: held[name].dtype for name in tensors} == {name: other[name].dtype for name in tensors}
    if default_dtype is torch.float64:
        assert_close(values(ours.params), values(theirs.params), FACTOR[torch.float64])


# -- what no step may touch ------------------------------------------------------------------------------------------


@pytest.mark.thin("info", "way")
@every_configuration()
def test_gradients_are_never_written(configuration: Configuration) -> None:
    """Neither their values nor their version counters: another optimizer, or a logger, may hold them."""
    problem = Problem(configuration)
    optimizer = configuration.build(problem.params)
    problem.advance(optimizer)
    for _ in range(2):
        problem.closure()
        grads = [p.grad for p in problem.params]
        before = [(g.clone(), g._version) for g in grads]
        empty_step(optimizer, problem.info)
        for p, g, (copy, version) in zip(problem.params, grads, before, strict=True):
            assert p.grad is g
            assert g._version == version
            assert_close(g, copy)


@pytest.mark.thin("info", "way")
@every_configuration()
def test_a_step_without_gradients_does_nothing(configuration: Configuration) -> None:
    problem = Problem(configuration)
    optimizer = configuration.build(problem.params)
    for steps in (0, 2):
        problem.advance(optimizer, steps) if steps else None
        before = values(problem.params), state_of(optimizer)
        for p in problem.params:
            p.grad = None
        empty_step(optimizer, problem.info)
        assert_close(values(problem.params), before[0])
        if not problem.info.step_requires_closure:  # L-BFGS counts the evaluation
            assert_close(state_of(optimizer), before[1])


@pytest.mark.thin("info", "way")
@every_configuration()
def test_a_first_step_with_zero_gradients_moves_nothing(configuration: Configuration) -> None:
    """Without weight decay."""
    if reason := skipped_by_torch(configuration.info, "test_step_is_noop_for_zero_grads"):
        pytest.skip(reason)
    problem = Problem(configuration)
    undecayed = {"weight_decay": 0} if "weight_decay" in configuration.cls.fields else {}
    optimizer = configuration.build(problem.params, **undecayed)
    before = values(problem.params)
    for p in problem.params:
        zero = torch.zeros_like(p)
        p.grad = zero.to_sparse() if problem.info.only_supports_sparse_grads else zero
    empty_step(optimizer, problem.info)
    assert_close(values(problem.params), before)


# -- fused and GradScaler --------------------------------------------------------------------------------------------


@every_input(has("fused"))
def test_fused_rests_when_an_infinity_was_found(configuration: Configuration) -> None:
    """Neither parameters nor state nor step counts move, and the next step is the first that counts."""
    problem, untroubled = Problem(configuration), Problem(configuration)
    optimizer = configuration.build(problem.params, fused=True)
    other = configuration.build(untroubled.params, fused=True)
    for steps in range(3):
        before = values(problem.params), {i: held for i, held in state_of(optimizer).items() if held}
        problem.closure()
        optimizer.grad_scale, optimizer.found_inf = None, torch.ones(())
        optimizer.step()
        assert_close(values(problem.params), before[0])
        assert all(held["step"] == steps for held in state_of(optimizer).values() if "step" in held)
        assert_close({i: held for i, held in state_of(optimizer).items() if held}, before[1])
        optimizer.found_inf = torch.zeros(())
        problem.advance(optimizer)
        untroubled.advance(other)
    assert_close(values(problem.params), values(untroubled.params))
    assert_close(state_of(optimizer), state_of(other))
