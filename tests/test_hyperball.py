"""Matrices of constant norm: `hyperball=True` around pointwise rules and rules of matrices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steepest
from cases import SWITCHES, Options, executors_of, same, through_file
from steepest import Adam, AdamW, Lion, Muon, NorMuon, Optimizer, Scion

F64 = torch.float64
EXECUTORS = [(cls, executor) for cls in (Adam, Lion, Muon, NorMuon, Scion) for executor in executors_of(cls)]

every_executor = pytest.mark.parametrize(("cls", "executor"), EXECUTORS, ids=lambda x: getattr(x, "__name__", x))


def drawn(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def made(cls: Any, *shapes: tuple[int, ...], dtype: torch.dtype = F64, **options: Any) -> Any:
    params = [nn.Parameter(drawn(shape, seed, dtype)) for seed, shape in enumerate(shapes)]
    decay: Options = {"weight_decay": 0.0} if "weight_decay" in cls.fields else {}
    exact: Options = {"ns_dtype": "float64"} if "ns_dtype" in cls.fields else {}
    return cls(params, **{"lr": 0.1, "hyperball": True, **decay, **exact, **options})


def params_of(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def walk(optimizer: Optimizer, steps: int = 3, start: int = 0, scale: float = 1.0) -> list[Tensor]:
    params = params_of(optimizer)
    for step in range(start, start + steps):
        for p in params:
            p.grad = scale * drawn(tuple(p.shape), 100 + 10 * step + p.numel(), p.dtype)
        optimizer.step()
    return [p.detach().clone() for p in params]


@every_executor
def test_norms_stay_to_rounding(cls: Any, executor: str) -> None:
    optimizer = made(cls, (4, 6), (4, 6), (6, 4), (4, 3, 2, 2), **SWITCHES[executor])
    before = [p.norm().item() for p in params_of(optimizer)]
    moved = walk(optimizer, 20)
    assert optimizer.executor == executor
    for p, start, norm in zip(moved, (drawn((4, 6)), drawn((4, 6), 1)), before, strict=False):
        assert p.norm().item() == pytest.approx(norm, rel=1e-14)
        assert torch.cosine_similarity(p.flatten(), start.flatten(), dim=0) < 0.9
    for p, norm in zip(moved, before, strict=True):
        assert p.norm().item() == pytest.approx(norm, rel=1e-14)


@every_executor
def test_a_step_is_an_angle(cls: Any, executor: str) -> None:
    """The first step, against the formula: whatever the rule's own step is, only its direction counts."""
    optimizer = made(cls, (4, 6), lr=0.25, **SWITCHES[executor])
    plain = made(cls, (4, 6), lr=0.25, hyperball=False, **SWITCHES[executor])
    p = drawn((4, 6))
    u = p - walk(plain, 1)[0]
    if cls is Scion:
        u = u - 0.25 * p
        optimizer.param_groups[0]["unconstrained"] = True
    q = p - 0.25 * p.norm() * u / u.norm()
    torch.testing.assert_close(walk(optimizer, 1)[0], q * p.norm() / q.norm(), rtol=1e-11, atol=1e-11)
    assert torch.dist(p, q) == pytest.approx(0.25 * float(p.norm()))


@pytest.mark.parametrize("cls", [steepest.SGD, Muon])
def test_the_size_of_the_update_is_nothing(cls: Any) -> None:
    """SGD's step is as long as the gradient, Muon's as its convention says."""
    one, other = made(cls, (4, 6)), made(cls, (4, 6))
    if cls is Muon:
        other.param_groups[0]["adjust_lr_fn"] = "match_rms_adamw"
    for a, b in zip(walk(one), walk(other, scale=1e4), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("foreach", [False, True])
def test_each_head_and_each_matrix_of_a_stack_keeps_its_norm(foreach: bool) -> None:
    optimizer = made(Muon, (6, 4), (6, 4), (3, 4, 5), heads=2, matrices="batch", foreach=foreach)
    before = [p.detach().clone() for p in params_of(optimizer)]
    after = walk(optimizer)
    for p, q in zip(before[:2], after[:2], strict=True):
        torch.testing.assert_close(p.view(2, 12).norm(dim=1), q.view(2, 12).norm(dim=1), rtol=1e-13, atol=0)
    blocks = [x.view(6, 2 * 5).norm(dim=1) for x in (before[2], after[2])]
    torch.testing.assert_close(*blocks, rtol=1e-13, atol=0)
    assert optimizer.state[params_of(optimizer)[2]]["init_norm"].shape == (3, 2, 1, 1)


@pytest.mark.parametrize("executor", executors_of(Adam))
def test_vectors_move_as_they_do(executor: str) -> None:
    shapes = ((4, 6), (5,), (), (3, 1, 1))
    on, off = (walk(made(Adam, *shapes, hyperball=flag, **SWITCHES[executor])) for flag in (True, False))
    assert [same(a, b) for a, b in zip(on, off, strict=True)] == [False, True, True, True]
    optimizer = made(Adam, *shapes, **SWITCHES[executor])
    walk(optimizer, 1)
    assert ["init_norm" in optimizer.state[p] for p in params_of(optimizer)] == [True, False, False, False]


def test_the_companion_does_not_turn() -> None:
    """Embeddings and heads go to AdamW as they are, unless their group asks for it."""
    head = nn.Parameter(drawn((4, 6), 7))
    body = nn.Parameter(drawn((4, 6), 8))
    options: Options = {"weight_decay": 0.0, "hyperball": True}
    groups: list[Options] = [{"params": [body]}, {"params": [head], "use_muon": False}]
    optimizer = Muon(groups, **options)
    assert [group["hyperball"] for group in optimizer.param_groups] == [True, False]
    groups[1]["hyperball"] = True
    assert Muon(groups, **options).param_groups[1]["hyperball"] is True


@pytest.mark.parametrize("cls", [Adam, Muon])
def test_a_rate_of_zero_and_a_zero_gradient_leave_every_bit(cls: Any) -> None:
    optimizer = made(cls, (4, 6), lr=0.0)
    assert same(walk(optimizer)[0], drawn((4, 6)))
    still = made(cls, (4, 6))
    (p,) = params_of(still)
    p.grad = torch.zeros_like(p)
    still.step()
    assert same(p.detach(), drawn((4, 6)))


@pytest.mark.parametrize("cls", [Adam, Muon])
def test_a_bad_gradient_shows(cls: Any) -> None:
    optimizer = made(cls, (4, 6), (4, 6))
    good, bad = params_of(optimizer)
    good.grad, bad.grad = torch.ones_like(good), torch.full_like(bad, math.nan)
    optimizer.step()
    assert good.isfinite().all()
    assert bad.isnan().all()


@pytest.mark.parametrize("cls", [Adam, AdamW, Muon, NorMuon])
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_a_checkpoint_keeps_the_norm(cls: Any, dtype: torch.dtype) -> None:
    """The norm of the first step, and not of the weights that a run resumes from."""
    straight = made(cls, (4, 6), (4, 3, 2, 2), dtype=dtype)
    walk(straight, 2)
    resumed = made(cls, (4, 6), (4, 3, 2, 2), dtype=dtype)
    for p, q in zip(params_of(resumed), params_of(straight), strict=True):
        p.data.copy_(q.data)
    resumed.load_state_dict(through_file(straight.state_dict()))
    for p in (*params_of(straight), *params_of(resumed)):
        p.data.mul_(1.5)
    ends = walk(straight, 2, 2), walk(resumed, 2, 2)
    assert all(map(same, *ends))
    assert ends[0][0].norm().item() == pytest.approx(drawn((4, 6)).norm().item(), rel=1e-6)


@pytest.mark.parametrize("cls", [Adam, Muon])
def test_half_parameters_keep_their_norm_as_far_as_they_can(cls: Any) -> None:
    optimizer = made(cls, (40, 60), dtype=torch.bfloat16)
    before = params_of(optimizer)[0].double().norm().item()
    assert walk(optimizer, 20)[0].double().norm().item() == pytest.approx(before, rel=2**-8)


def test_what_is_refused() -> None:
    matrix, zero = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.zeros(2, 3))
    for cls, params, options, message in (
        (AdamW, [matrix], {}, r"hyperball=True keeps norms as they are, and weight_decay=0.01 changes them; give it"),
        (Muon, [matrix], {}, r"weight_decay=0.1 changes them"),
        (Adam, [matrix, zero], {}, r"one of shape \(2, 3\) is zero, .* or give it to a group with hyperball=False"),
        (
            steepest.AdamWScheduleFree,
            [matrix],
            {"weight_decay": 0},
            r"hyperball=True keeps .* trained, and .* evaluates",
        ),
        (steepest.LBFGS, [matrix], {}, r"hyperball=True turns by the angle lr, and lbfgs finds its steps itself"),
    ):
        with pytest.raises(ValueError, match=message):
            cls(params, hyperball=True, **options)
    optimizer = Adam([matrix], hyperball=True)
    with pytest.raises(ValueError, match="is zero"):
        optimizer.add_param_group({"params": [zero]})
    optimizer.add_param_group({"params": [zero], "hyperball": False})
    Adam([nn.Parameter(torch.zeros(3)), matrix], hyperball=True)
