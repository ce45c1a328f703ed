"""Unscaling under a GradScaler, and clipping by the global norm, inside the step: as done by hand, .grad untouched."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cases import (
    BRANCHING,
    CLASSES,
    PLANNED,
    PLANNED_TWINS,
    SWITCHES,
    Twins,
    cases,
    every_executor,
    every_planned_class,
    snapshot,
)
from steepest import Optimizer

SHAPES = [(3, 5), (7,), (), (40, 30)]
ROWS = [(cls, {}) for cls in PLANNED.values()]


def parameters(seed: int = 1) -> list[torch.nn.Parameter]:
    source = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=source)) for shape in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    source = torch.Generator().manual_seed(100 + step)
    return [torch.randn(shape, generator=source) * (step + 0.5) for shape in SHAPES]


def assert_close(ours: Any, theirs: Any) -> None:
    for (p, held), (q, other) in zip(snapshot(ours), snapshot(theirs), strict=True):
        for a, b in [(p, q), *((held[name], other[name]) for name in held)]:
            largest = b.abs().max().item()
            torch.testing.assert_close(a, b, rtol=64 * 1.2e-7, atol=64 * 1.2e-7 * largest)


# -- clipping --------------------------------------------------------------------------------------------------------


@pytest.mark.thin("structure", "executor")
@every_executor
@every_planned_class
def test_max_norm_is_clip_grad_norm(cls: type[Optimizer], executor: str) -> None:
    """Two groups, one norm: the first step is below it, the others above."""
    if cls in BRANCHING.values():
        pytest.skip("roots of eigenvalues near 0 multiply the last bits of a gradient")
    runs = []
    for clips_itself in (True, False):
        params = parameters()
        own = {"max_norm": 30.0} if clips_itself else {}
        optimizer = cls([{"params": params[:2]}, {"params": params[2:]}], **own, **SWITCHES[executor])
        for step in range(4):
            grads = gradients(step)
            for p, g in zip(params, grads, strict=True):
                p.grad = g.clone()
            if not clips_itself:
                torch.nn.utils.clip_grad_norm_(params, 30.0)
            optimizer.step()
            if clips_itself:
                assert all(torch.equal(p.grad, g) for p, g in zip(params, grads, strict=True))
        runs.append(optimizer)
    norms = [torch.nn.utils.get_total_norm(gradients(step)).item() for step in range(4)]
    assert norms[0] < 30.0 < norms[1]
    assert_close(*runs)


def test_groups_without_max_norm_neither_count_nor_are_clipped() -> None:
    a, b = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    optimizer = CLASSES["sgd"]([{"params": [a], "max_norm": 1.0}, {"params": [b]}], lr=1.0)
    a.grad, b.grad = torch.tensor([3.0, 4.0]), torch.tensor([300.0, 400.0])
    optimizer.step()
    assert a.tolist() == pytest.approx([-0.6, -0.8], rel=1e-5)
    assert b.tolist() == [-300.0, -400.0]


def test_a_norm_that_is_nan_is_not_hidden() -> None:
    w = torch.nn.Parameter(torch.zeros(2))
    optimizer = CLASSES["sgd"]([w], max_norm=1.0)
    w.grad = torch.tensor([float("nan"), 1.0])
    optimizer.step()
    assert w.isnan().all()


def test_the_derivative_goes_through_the_clipping() -> None:
    """d(new p)/d(g) of p - lr * g * c / (|g| + 1e-6), by hand."""
    g = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True).clone()
    optimizer = CLASSES["sgd"]([torch.nn.Parameter(torch.zeros(1))], lr=1.0, max_norm=1.0, differentiable=True)
    optimizer.param_groups[0]["params"] = [w]
    w.grad = g
    optimizer.step()
    (slope,) = torch.autograd.grad(w[0], g)
    assert slope.tolist() == pytest.approx([-(1 / 5 - 9 / 125), 12 / 125], rel=1e-5)


def test_max_norm_is_refused_where_it_makes_no_sense() -> None:
    with pytest.raises(ValueError, match=r"max_norm must be a number or None >= 0"):
        CLASSES["adam"](parameters(), max_norm=-1.0)
    with pytest.raises(ValueError, match=r"max_norm cannot clip"):
        CLASSES["steepestdescent"](parameters(), max_norm=1.0)


# -- mixed precision -------------------------------------------------------------------------------------------------


def scaled_step(optimizer: Optimizer, scale: float, is_inf: bool) -> None:
    """A step as GradScaler makes it with an optimizer that unscales by itself."""
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(scale), torch.tensor(float(is_inf))
    optimizer.step()
    del optimizer.grad_scale, optimizer.found_inf


@pytest.mark.thin("structure", "executor")
@every_executor
@pytest.mark.parametrize(("cls", "options"), cases(ROWS))
@pytest.mark.parametrize("clip", [None, 30.0])
def test_unscaling_inside_the_step_changes_nothing_and_an_infinity_stops_everything(
    cls: type[Optimizer], options: dict[str, Any], executor: str, clip: float | None
) -> None:
    params, others = parameters(), parameters()
    optimizer = cls(params, max_norm=clip, **options, **SWITCHES[executor])
    plain = cls(others, max_norm=clip, **options, **SWITCHES[executor])
    for step in range(5):
        for p, q, g in zip(params, others, gradients(step), strict=True):
            p.grad, q.grad = g * 1024.0, g.clone()
        is_inf = step == 2
        if is_inf:
            params[1].grad.view(-1)[3] = torch.inf
        given = [p.grad.clone() for p in params]
        before = snapshot(optimizer)
        scaled_step(optimizer, 1024.0, is_inf)
        assert all(torch.equal(p.grad, g) for p, g in zip(params, given, strict=True))
        if is_inf:
            for (p, held), (q, other) in zip(snapshot(optimizer), before, strict=True):
                assert torch.equal(p, q)
                assert all(torch.equal(held[name], other[name]) for name in other)
        else:
            plain.step()
    assert_close(optimizer, plain)


@every_planned_class
def test_after_unscale_nothing_is_scaled_again(cls: type[Optimizer]) -> None:
    params, others = parameters(), parameters()
    optimizer, plain = cls(params), cls(others)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    scaler.scale(torch.ones(()))
    for p, q, g in zip(params, others, gradients(0), strict=True):
        p.grad, q.grad = g * 256.0, g.clone()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    plain.step()
    assert_close(optimizer, plain)
    assert not hasattr(optimizer, "grad_scale")


@every_planned_class
def test_only_fused_true_takes_scaled_gradients_as_in_torch(cls: type[Optimizer]) -> None:
    assert not cls(parameters())._step_supports_amp_scaling
    assert not cls(parameters(), foreach=True)._step_supports_amp_scaling


def test_fused_true_takes_scaled_gradients() -> None:
    assert CLASSES["adamw"](parameters(), fused=True)._step_supports_amp_scaling
    some = [{"params": parameters(), "fused": True}, {"params": parameters()}]
    assert not CLASSES["adamw"](some)._step_supports_amp_scaling
    assert not CLASSES["steepestdescent"](parameters())._step_supports_amp_scaling


def clip(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.5)


@pytest.mark.parametrize("twins", PLANNED_TWINS.values(), ids=list(PLANNED_TWINS))
def test_under_a_scaler_hooks_see_what_torchs_see(twins: Twins) -> None:
    """A pre-hook that clips, a count of post-hooks, and a skipped step: the same numbers as with torch's class."""
    runs = []
    for cls in twins:
        params = [torch.nn.Parameter(torch.linspace(0.5, 2.0, 12).view(4, 3))]
        optimizer, seen = cls(params), []
        optimizer.register_step_pre_hook(clip)
        optimizer.register_step_post_hook(lambda *_, seen=seen, p=params[0]: seen.append(p.grad.norm().item()))
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for step in range(4):
            g = torch.full((4, 3), torch.inf if step == 1 else 1.0 + step)
            params[0].grad = g * scaler.scale(torch.ones(()))
            scaler.step(optimizer)
            scaler.update()
        runs.append((params[0].detach(), seen))
    (ours, seen), (theirs, others) = runs
    assert len(seen) == len(others) == 3
    assert seen == pytest.approx(others, rel=1e-6)
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_step_that_raised_leaves_no_scale_behind() -> None:
    params, others = parameters(), parameters()
    optimizer, plain = CLASSES["adamw"](params, fused=True), CLASSES["adamw"](others)

    def fail() -> float:
        raise OSError("no data")

    optimizer.grad_scale, optimizer.found_inf = torch.tensor(1024.0), torch.tensor(0.0)
    with pytest.raises(OSError, match="no data"):
        optimizer.step(fail)
    for p, q, g in zip(params, others, gradients(0), strict=True):
        p.grad, q.grad = g, g.clone()
    optimizer.step()
    plain.step()
    assert_close(optimizer, plain)
