"""Muon and the stacked executor: what no other rule has, and what the generic tests cannot know.

Stacked and single products in bfloat16 may round in another order on another machine (here they give the same bits).
An orthogonalized matrix has elements of at most about 1, each step moves by lr times that, and an element may then
differ by ULPS units in the last place of bfloat16 at 1: the iteration multiplies what is rounded in its first step by
up to 3.4 in each later one, for directions that are small.
"""

from __future__ import annotations

import math
import re
from dataclasses import KW_ONLY
from typing import Any

import pytest
import torch
from torch import Tensor

import steepest
from cases import SWITCHES, exactly, executors_of, same
from oracles.orthogonal import COEFFICIENTS, spectral
from steepest import Optimizer, Rule, State, fields
from steepest.executors import stacked
from steepest.functional import pair
from steepest.orthogonal import iteration, orthogonalized

ULPS = 8
BFLOAT16 = torch.finfo(torch.bfloat16).eps

every_executor = pytest.mark.parametrize("executor", executors_of(steepest.Muon))


def drawn(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def trained(
    cls: Any, shapes: list[tuple[int, ...]], dtype: torch.dtype, steps: int = 3, **options: Any
) -> list[Tensor]:
    """Parameters and buffers after some steps on the same gradients."""
    params = [torch.nn.Parameter(drawn(shape, seed, dtype)) for seed, shape in enumerate(shapes)]
    optimizer = cls(params, **options)
    for step in range(3):
        for seed, p in enumerate(params):
            p.grad = drawn(tuple(p.shape), 100 * (step + 1) + seed, dtype)
        optimizer.step()
    return [*(p.detach() for p in params), *(optimizer.state[p]["momentum_buffer"] for p in params)]


SHAPES = [(8, 3), (3, 8), (8, 3), (8, 8), (3, 8), (8, 3), (40, 96), (40, 96), (1, 1), (0, 4), (0, 4)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust_lr_fn", [None, "original", "match_rms_adamw"])
def test_stacks_are_torchs_loop(dtype: torch.dtype, nesterov: bool, adjust_lr_fn: str | None) -> None:
    """One by one bit by bit as torch but for the last rounding of p; stacked within the rounding of bfloat16."""
    options = {"lr": 0.1, "nesterov": nesterov, "adjust_lr_fn": adjust_lr_fn}
    theirs = trained(torch.optim.Muon, SHAPES, dtype, **options)
    for switch, tolerance in (({"foreach": False}, 4 * torch.finfo(dtype).eps), ({}, 3 * 0.1 * 2 * ULPS * BFLOAT16)):
        for a, b in zip(trained(steepest.Muon, SHAPES, dtype, **options, **switch), theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=4 * torch.finfo(dtype).eps, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_stacks_are_single_matrices(dtype: torch.dtype) -> None:
    """In float64 inside, so that nothing but the order of sums can differ."""
    options: dict[str, Any] = {"lr": 0.1, "ema_decay": 0.5, "max_norm": 3.0, "maximize": True}
    together = trained(exactly(steepest.Muon), SHAPES, dtype, **options)
    for a, b in zip(together, trained(exactly(steepest.Muon), SHAPES, dtype, foreach=False, **options), strict=True):
        torch.testing.assert_close(a, b, rtol=64 * torch.finfo(dtype).eps, atol=64 * torch.finfo(dtype).eps)


def test_it_computes_in_bfloat16_near_float64() -> None:
    """And really in bfloat16: float64 inside gives other numbers."""
    rounded, exact = (trained(cls, SHAPES, torch.float64, lr=0.1) for cls in (steepest.Muon, exactly(steepest.Muon)))
    for a, b in zip(rounded, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=3 * 0.1 * 2 * ULPS * BFLOAT16)
    assert (rounded[0] - exact[0]).abs().max() > 1e-5


# -- stacking --------------------------------------------------------------------------------------------------------


CALLS: list[tuple[int, ...]] = []


def noting(p: Any, g: Any, m: Any, *, lr: Any) -> Any:
    CALLS.append(tuple(p.shape))
    return p - lr * g, m + g


class Noting(Optimizer):
    """Notes what its rule is called with."""

    lr: float = fields.lr(0.1)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    rule = Rule(noting, "matrix", (State("m"),))


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


def test_the_rule_runs_once_for_each_shape() -> None:
    """Also where parameters of a shape stand apart; a shape of its own is not copied."""
    params = [torch.nn.Parameter(torch.full(s, 1.0)) for s in ((2, 3), (3, 2), (2, 3), (4, 1), (2, 3), (3, 2))]
    optimizer = Noting(params)
    for seed, p in enumerate(params):
        p.grad = torch.full_like(p, float(seed))
    optimizer.step()
    assert optimizer.executor == "stacked"
    assert CALLS == [(3, 2, 3), (2, 3, 2), (4, 1)]
    for seed, p in enumerate(params):
        torch.testing.assert_close(p.detach(), torch.full_like(p, 1 - 0.1 * seed))
        assert same(optimizer.state[p]["m"], torch.full_like(p, float(seed)))


def test_very_large_stacks_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most MOST elements are copied at a time; what is larger than a quarter of that runs alone."""
    monkeypatch.setattr(stacked, "MOST", 26)
    params = [torch.nn.Parameter(torch.ones(s)) for s in [(2, 3)] * 5 + [(4, 4)] * 2]
    for p in params:
        p.grad = torch.ones_like(p)
    Noting(params).step()
    assert CALLS == [(4, 2, 3), (2, 3), (4, 4), (4, 4)]


def test_dtypes_and_ages_are_not_stacked_together() -> None:
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.float32]
    params = [torch.nn.Parameter(torch.ones(2, 2, dtype=dtype)) for dtype in dtypes]
    optimizer = steepest.Muon(params, lr=0.5)
    for late in (3, None):
        for index, p in enumerate(params):
            p.grad = None if index == late else torch.ones_like(p)
        optimizer.step()
    assert [p.dtype for p in params] == dtypes
    assert params[0].ne(params[3]).all()


def test_a_matrix_rule_keeps_no_number_per_tensor() -> None:
    """Of a stack it would be one number per matrix, and other shapes then broadcast to nonsense."""
    with pytest.raises(TypeError, match="matrix rule, run on stacks; it cannot keep one number per tensor"):
        Rule(lambda p, g, v, *, lr: (p, v), "matrix", (State("v", "tensor_scalar"),))


class Tagged(torch.nn.Parameter):
    """A tensor of another type."""


def test_what_runs() -> None:
    plain = [torch.nn.Parameter(torch.ones(2, 2))]
    assert steepest.Muon(plain).executor == "stacked"
    assert steepest.Muon(plain, foreach=True).executor == "stacked"
    assert steepest.Muon(plain, foreach=False).executor == "reference"
    assert steepest.Muon([Tagged(torch.ones(2, 2))]).executor == "reference"
    with pytest.raises(TypeError, match="unexpected keyword argument 'fused'"):
        steepest.Muon(plain, fused=True)
    with pytest.raises(RuntimeError, match="muon is a matrix rule, which the native executor does not run"):
        steepest.Muon(plain).explain()


# -- the mathematics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6), (1, 4), (3, 4, 6), (3, 6, 4)], ids=str)
def test_the_iteration_is_a_polynomial_of_singular_values(shape: tuple[int, ...]) -> None:
    x = drawn(shape, 3, torch.float64)
    ours = orthogonalized(x, iteration(COEFFICIENTS, 5), 1e-7)
    for mine, matrix in zip(ours.reshape(-1, *shape[-2:]), x.reshape(-1, *shape[-2:]), strict=True):
        wanted = torch.from_numpy(spectral(matrix.numpy(), COEFFICIENTS, 1e-7, 5))
        torch.testing.assert_close(mine, wanted, rtol=1e-9, atol=1e-10)


def test_singular_values_come_near_1() -> None:
    """From a hundredth of the norm upwards; in bfloat16 too."""
    left, right = (torch.linalg.qr(drawn((12, 12), seed, torch.float64)).Q for seed in (1, 2))
    x = left @ torch.diag(torch.logspace(-2, 0, 12, dtype=torch.float64)) @ right
    for dtype, slack in ((torch.float64, 0.0), (torch.bfloat16, 0.05)):
        values = torch.linalg.svdvals(orthogonalized(x.to(dtype), iteration(COEFFICIENTS, 5), 1e-7).double())
        assert values.min() > 0.65 - slack
        assert values.max() < 1.25 + slack


def test_enough_steps_of_other_coefficients_orthogonalize_exactly() -> None:
    x = drawn((4, 7), 5, torch.float64)
    ours = orthogonalized(x, iteration((1.875, -1.25, 0.375), 30), 1e-7)
    torch.testing.assert_close(ours @ ours.mT, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)


@every_executor
def test_a_gradient_of_zero_moves_by_decay_alone(executor: str) -> None:
    """Zero over eps is zero."""
    params = [torch.nn.Parameter(torch.full((2, 3), 2.0)) for _ in range(2)]
    for p in params:
        p.grad = torch.zeros_like(p)
    steepest.Muon(params, lr=0.5, weight_decay=0.1, **SWITCHES[executor]).step()
    assert all(p.eq(2.0 * 0.95).all() for p in params)


@every_executor
@pytest.mark.parametrize(
    ("shape", "adjust_lr_fn", "factor"),
    [
        ((8, 2), None, 2.0),
        ((2, 8), None, 1.0),
        ((8, 2), "original", 2.0),
        ((2, 9), "match_rms_adamw", 0.6),
        ((2, 8), "spectral_unclamped", 0.5),
        ((8, 2), "spectral", 2.0),
    ],
)
def test_the_rate_follows_the_shape(
    shape: tuple[int, int], adjust_lr_fn: str | None, factor: float, executor: str
) -> None:
    """The decay does not. One step from zero along one singular vector: lr, its factor, and the polynomial of 1."""
    params = [torch.nn.Parameter(torch.zeros(shape)) for _ in range(2)]
    g = torch.zeros(shape)
    g[0, 0] = 5.0
    for p in params:
        p.grad = g
    steepest.Muon(params, lr=0.5, adjust_lr_fn=adjust_lr_fn, **SWITCHES[executor]).step()
    s = 1.0
    for _ in range(5):
        s = COEFFICIENTS[0] * s + COEFFICIENTS[1] * s**3 + COEFFICIENTS[2] * s**5
    for p in params:
        assert p[0, 0].item() == pytest.approx(-0.5 * factor * s, rel=ULPS * BFLOAT16)
        assert p.count_nonzero() == 1


@every_executor
def test_the_buffer_of_bfloat16_parameters_is_kept(executor: str) -> None:
    """torch's class divides it in place when there is no Nesterov momentum and nothing to convert."""
    params = [torch.nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16)) for _ in range(2)]
    optimizer = steepest.Muon(params, nesterov=False, momentum=0.5, **SWITCHES[executor])
    for p in params:
        p.grad = torch.full_like(p, 8.0)
    optimizer.step()
    assert all(optimizer.state[p]["momentum_buffer"].eq(4.0).all() for p in params)


@every_executor
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_gradient_spoils_its_matrix_alone(bad: float, executor: str) -> None:
    params = [torch.nn.Parameter(torch.ones(3, 2)) for _ in range(3)]
    for p in params:
        p.grad = torch.ones_like(p)
    params[1].grad[0, 0] = bad  # type: ignore[index]
    steepest.Muon(params, **SWITCHES[executor]).step()
    assert [bool(p.isfinite().all()) for p in params] == [True, False, True]


# -- errors ----------------------------------------------------------------------------------------------------------

MESSAGES = [
    ({"lr": -0.5}, "Learning rate should be >= 0 but is: -0.5"),
    ({"momentum": -0.5}, "momentum should be >= 0 but is: -0.5"),
    ({"weight_decay": -0.5}, "weight decay should be >= 0 but is: -0.5"),
    ({"adjust_lr_fn": "arbitrary"}, "Adjust learning rate function arbitrary is not supported"),
]


@pytest.mark.parametrize(("options", "message"), MESSAGES, ids=[m for _, m in MESSAGES])
def test_errors_are_torchs(options: dict[str, Any], message: str) -> None:
    for cls in (torch.optim.Muon, steepest.Muon):
        with pytest.raises(ValueError, match=f"^{message}"):
            cls([torch.zeros(2, 2)], **options)


@pytest.mark.parametrize("shape", [(3,), (), (2, 3, 4)], ids=str)
def test_other_shapes_are_refused_at_construction_and_in_late_groups(shape: tuple[int, ...]) -> None:
    p = torch.zeros(shape)
    message = "^" + re.escape(f"Muon only supports 2D parameters whereas we found a parameter with size: {p.size()}")
    for cls in (torch.optim.Muon, steepest.Muon):
        with pytest.raises(ValueError, match=message):
            cls([p])
    optimizer = steepest.Muon([torch.zeros(2, 2)])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [p]})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(ValueError, match=message):
        pair(steepest.Muon).init({"p": p})


def test_errors_of_the_step_are_torchs() -> None:
    """Complex parameters and sparse gradients. A hundred iterations are refused at construction already."""
    for dtype, is_sparse, message in (
        (torch.complex64, False, "Muon does not support complex parameters"),
        (torch.float32, True, "Muon does not support sparse gradients"),
    ):
        for cls in (torch.optim.Muon, steepest.Muon):
            p = torch.zeros(2, 2, dtype=dtype)
            p.grad = torch.ones_like(p).to_sparse() if is_sparse else torch.ones_like(p)
            optimizer = cls([p])
            with pytest.raises(RuntimeError, match=f"^{message}"):
                optimizer.step()
    with pytest.raises(ValueError, match=r"^Number of steps must be less than 100 for computational efficiency"):
        steepest.Muon([torch.zeros(2, 2)], ns_steps=100)
    with pytest.raises(ValueError, match="ns_coefficients must be 3 numbers"):
        steepest.Muon([torch.zeros(2, 2)], ns_coefficients=(1.0, 2.0))
