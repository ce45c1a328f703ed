"""Primal averaging: GPA and Schedule-Free around any rule, against what they are identical with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import steepest
from cases import SWITCHES, Options
from steepest import Optimizer

F64 = torch.float64
EXECUTORS = ("reference", "foreach", "native")
every_executor = pytest.mark.parametrize("executor", EXECUTORS)
Made = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def steps(make: Made, number: int = 40, rates: Callable[[int], float] | None = None) -> torch.optim.Optimizer:
    """Steps on a noisy quadratic from one start."""
    p = torch.nn.Parameter(drawn(5, 4, seed=0))
    optimizer = make([p])
    root = drawn(5, 5, seed=1)
    for step in range(number):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates(step)
        p.grad = root @ root.T @ p.detach() + 0.1 * drawn(5, 4, seed=100 + step)
        optimizer.step()
    return optimizer


def trained(optimizer: torch.optim.Optimizer) -> Tensor:
    return optimizer.param_groups[0]["params"][0].detach().clone()


def averaged(optimizer: torch.optim.Optimizer) -> Tensor:
    assert isinstance(optimizer, Optimizer)
    with optimizer.averaged():
        return trained(optimizer)


def close(ours: Tensor, wanted: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(ours, wanted, rtol=0, atol=atol)


# -- identities of the paper -------------------------------------------------------------------------------------------


@every_executor
def test_gpa_with_gradients_at_x_is_heavy_ball(executor: str) -> None:
    """GPA with μy = 1, μx = β and a step of η/(1 - β)."""
    ours = steps(lambda p: steepest.SGD(p, lr=0.01 / 0.1, gpa=(0.9, 1.0), **SWITCHES[executor]))
    wanted = trained(steps(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9)))
    close(averaged(ours), wanted)
    close(trained(ours), wanted)


@every_executor
def test_gpa_with_equal_parts_is_nesterov(executor: str) -> None:
    """GPA with μx = μy = β and a step of η/(1 - β): gradients are taken where torch's NAG takes them."""
    ours = steps(lambda p: steepest.SGD(p, lr=0.01 / 0.1, gpa=(0.9, 0.9), **SWITCHES[executor]))
    close(trained(ours), trained(steps(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True))))


@pytest.mark.parametrize("rates", [None, lambda k: 0.02 if k < 20 else 0.005, lambda k: 0.0 if k < 5 else 0.01])
@every_executor
def test_schedule_free_around_a_rule_without_momentum_is_its_class(executor: str, rates: Any) -> None:
    """The largest rate and the sum of weights are kept in float32, as all numbers of a parameter: 1e-7."""
    inner = {"betas": (0.0, 0.999), "weight_decay": 0.1}
    ours = steps(lambda p: steepest.AdamW(p, lr=0.01, schedule_free=0.9, **inner, **SWITCHES[executor]), rates=rates)
    wanted = steps(lambda p: steepest.AdamWScheduleFree(p, lr=0.01, betas=(0.9, 0.999), weight_decay=0.1), rates=rates)
    close(trained(ours), trained(wanted), 1e-7)
    close(averaged(ours), averaged(wanted), 1e-7)
    sgd = steps(lambda p: steepest.SGD(p, lr=0.01, schedule_free=0.8, **SWITCHES[executor]), rates=rates)
    other = steps(lambda p: steepest.SGDScheduleFree(p, lr=0.01, momentum=0.8), rates=rates)
    close(averaged(sgd), averaged(other), 1e-7)


@pytest.mark.parametrize("make", [steepest.Adam, steepest.Muon, steepest.SOAP], ids=lambda cls: cls.__name__)
def test_gpa_is_its_three_lines_around_any_rule(make: type[Optimizer]) -> None:
    """The three sequences by hand, with the rule itself at y: it moves z by what it would move y."""
    rule = make([q := torch.nn.Parameter(drawn(5, 4, seed=0))], lr=0.01)
    x, z = q.detach().clone(), q.detach().clone()
    root = drawn(5, 5, seed=1)
    for step in range(40):
        y = 0.7 * x + 0.3 * z
        q.data.copy_(y)
        q.grad = root @ root.T @ y + 0.1 * drawn(5, 4, seed=100 + step)
        rule.step()
        z = z + q.detach() - y
        x = 0.95 * x + 0.05 * z
    ours = steps(lambda p: make(p, lr=0.01, gpa=(0.95, 0.7)))
    close(averaged(ours), x, 1e-9)
    close(trained(ours), 0.7 * x + 0.3 * z, 1e-9)


@every_executor
def test_with_nothing_averaged_it_is_the_rule(executor: str) -> None:
    ours = steps(lambda p: steepest.AdamW(p, lr=0.01, gpa=(0.0, 0.6), **SWITCHES[executor]))
    wanted = trained(steps(lambda p: torch.optim.AdamW(p, lr=0.01)))
    close(trained(ours), wanted)
    close(averaged(ours), wanted)


# -- as its user -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"gpa": (0.9, 0.7)}, {"schedule_free": 0.9}], ids=str)
def test_a_resumed_run_has_the_same_bits(options: Options) -> None:
    whole = steps(lambda p: steepest.AdamW(p, lr=0.01, **options), 40)

    def resumed(params: list[torch.nn.Parameter]) -> Optimizer:
        return steepest.AdamW(params, lr=0.01, **options)

    first = steps(resumed, 15)
    p = torch.nn.Parameter(trained(first))
    second = resumed([p])
    second.load_state_dict(first.state_dict())
    root = drawn(5, 5, seed=1)
    for step in range(15, 40):
        p.grad = root @ root.T @ p.detach() + 0.1 * drawn(5, 4, seed=100 + step)
        second.step()
    assert torch.equal(trained(whole), p.detach())
    assert torch.equal(averaged(whole), averaged(second))


def test_the_average_is_smoother_than_where_gradients_are_taken() -> None:
    """With noise alone, x of constant weights has the variance of an average, which y and z have not."""
    p = torch.nn.Parameter(torch.zeros(4_000, dtype=F64))
    optimizer = steepest.SGD([p], lr=0.1, gpa=(0.95, 0.2))
    for step in range(200):
        p.grad = p.detach() + drawn(4_000, seed=step)
        optimizer.step()
    assert averaged(optimizer).std() < 0.6 * optimizer.state[p]["gpa_z"].std()


def test_before_the_first_step_nothing_is_swapped() -> None:
    optimizer = steepest.SGD([p := torch.nn.Parameter(torch.ones(2))], lr=0.1, gpa=(0.9, 0.7))
    with optimizer.averaged():
        assert torch.equal(p.detach(), torch.ones(2))


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (steepest.AdamW, {"gpa": (1.0, 0.7)}, r"gpa=\(1.0, 0.7\) must be \(μx, μy\)"),
        (steepest.AdamW, {"gpa": (0.9, 0.0)}, r"gpa=\(0.9, 0.0\) must be"),
        (steepest.AdamW, {"gpa": (0.9, 1.5)}, r"gpa=\(0.9, 1.5\) must be"),
        (steepest.AdamW, {"schedule_free": 0.0}, "schedule_free=0.0 must be"),
        (steepest.AdamW, {"schedule_free": 1.5}, "schedule_free=1.5 must be"),
        (steepest.AdamW, {"gpa": (0.9, 0.7), "schedule_free": 0.9}, "give one"),
        (steepest.AdamW, {"gpa": (0.9, 0.7), "ema_decay": 0.9}, "ema_decay=0.9; give one"),
        (steepest.AdamW, {"schedule_free": 0.9, "lookahead": (5, 0.5)}, r"lookahead=\(5, 0.5\); give one"),
        (steepest.AdamW, {"gpa": (0.9, 0.7), "hyperball": True, "weight_decay": 0.0}, "hyperball=True keeps norms"),
        (steepest.AdamWScheduleFree, {"gpa": (0.9, 0.7)}, "does so itself"),
        (steepest.LBFGS, {"schedule_free": 0.9}, "finds its own"),
    ],
    ids=str,
)
def test_contradictions_are_refused(cls: type[Optimizer], options: Options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls([torch.nn.Parameter(torch.ones(2, 2))], **options)
