"""Sophia: estimates of the Hessian's diagonal that are fed between the steps."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import steepest
from cases import SWITCHES
from oracles import ORACLES
from steepest import Sophia
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import parse_config

STEPS = 12
every_executor = pytest.mark.parametrize("executor", ["reference", "foreach", "native"])


def numbers(seed: int, shape: tuple[int, ...] = (3, 4)) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(size=shape)


def fed(p: torch.nn.Parameter, estimates: dict[int, Tensor], **options: Any) -> Sophia:
    """An optimizer after twelve steps, with estimates before some of them."""
    optimizer = Sophia([p], **options)
    for step in range(STEPS):
        if step in estimates:
            optimizer.update_hessian([estimates[step]])
        p.grad = torch.from_numpy(numbers(100 + step)).to(p.dtype)
        optimizer.step()
    return optimizer


@every_executor
@pytest.mark.parametrize(
    "options", [{}, {"rho": 0.5, "batch_size": 3.0, "weight_decay": 0.0}, {"maximize": True}], ids=str
)
def test_it_is_the_oracle(executor: str, options: dict[str, Any]) -> None:
    p = torch.nn.Parameter(torch.from_numpy(numbers(0)))
    estimates = {step: numbers(50 + step) ** 2 for step in (0, 5, 9)}
    estimates[9] -= 1.0  # some entries are negative, as Hutchinson's may be
    given = {step: torch.from_numpy(x) for step, x in estimates.items()}
    optimizer = fed(p, given, lr=0.1, **options, **SWITCHES[executor])
    grads = [[numbers(100 + step)] for step in range(STEPS)]
    wanted = ORACLES["sophia"](
        [numbers(0)], grads, lr=0.1, **options, estimates=[estimates.get(s) for s in range(STEPS)]
    )
    for name, ours in {"param": p.detach(), **optimizer.state[p]}.items():
        np.testing.assert_allclose(ours.numpy(), wanted[0][name], rtol=1e-13, atol=1e-14)
    assert optimizer.executor == executor


@every_executor
def test_without_curvature_it_is_signum(executor: str) -> None:
    a, b = (torch.nn.Parameter(torch.from_numpy(numbers(0))) for _ in range(2))
    ours = Sophia([a], lr=0.1, weight_decay=0.0, **SWITCHES[executor])
    signum = steepest.Signum([b], lr=0.1, momentum=0.965, **SWITCHES[executor])
    for step in range(10):
        for p, optimizer in ((a, ours), (b, signum)):
            p.grad = torch.from_numpy(numbers(100 + step))
            optimizer.step()
    torch.testing.assert_close(a, b, rtol=0, atol=1e-15)


def test_the_squares_of_gradients_are_the_estimate_g() -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = Sophia([p], betas=(0.9, 0.75))
    p.grad = torch.tensor([1.0, 2.0, -3.0])
    optimizer.update_hessian()
    assert optimizer.state[p]["hessian"].tolist() == [0.25, 1.0, 2.25]
    assert p.tolist() == [0.0, 0.0, 0.0]
    assert p.grad.tolist() == [1.0, 2.0, -3.0]


def test_a_user_who_feeds_nothing_is_told_how_to() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = Sophia([p], hessian_interval=3)
    p.grad = torch.ones(2)
    for _ in range(3):
        optimizer.step()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"3 steps .*draw labels from the model's own output.*update_hessian"):
            optimizer.step()
    optimizer.update_hessian()
    for _ in range(5):
        optimizer.step()


def test_a_checkpoint_with_estimates_goes_on() -> None:
    p, q = (torch.nn.Parameter(torch.from_numpy(numbers(0))) for _ in range(2))
    first = fed(p, {2: torch.from_numpy(numbers(7) ** 2)}, lr=0.1)
    second = Sophia([q], lr=0.1)
    second.load_state_dict(first.state_dict())
    q.data.copy_(p.data)
    for step in range(15):
        for x, optimizer in ((p, first), (q, second)):
            x.grad = torch.from_numpy(numbers(200 + step))
            optimizer.step()
    assert torch.equal(p, q)


@pytest.mark.parametrize("state_dtype", ["bfloat16", "int8"])
@every_executor
def test_coded_curvature_is_averaged_too(executor: str, state_dtype: str) -> None:
    p = torch.nn.Parameter(torch.ones(80, 80))
    optimizer = Sophia([p], betas=(0.9, 0.5), state_dtype=state_dtype, **SWITCHES[executor])
    p.grad = torch.ones(80, 80)
    for _ in range(2):
        optimizer.step()
        optimizer.update_hessian([torch.full((80, 80), 4.0)])
    held = optimizer.plain_state_dict()["state"][0]["hessian"]
    torch.testing.assert_close(held, torch.full((80, 80), 3.0), rtol=0.01, atol=0.0)


@pytest.mark.parametrize(
    ("estimates", "error", "message"),
    [
        ([], ValueError, "for each of 1 parameters, not 0"),
        ([torch.ones(2)], ValueError, r"estimate 0 has shape \(2,\), and its parameter \(3,\)"),
        (None, RuntimeError, "run backward before it"),
        ([None], RuntimeError, "run backward before it"),
    ],
    ids=["none", "shape", "no gradients", "nothing"],
)
def test_estimates_that_do_not_fit_are_refused(estimates: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Sophia([torch.nn.Parameter(torch.zeros(3))]).update_hessian(estimates)


def test_it_finds_the_way_down_a_narrow_valley_with_its_exact_curvature() -> None:
    """On 500x² + y²/2 with the true Hessian and ρ = 1 every entry is a clipped Newton step."""
    p = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer = Sophia([p], lr=0.5, betas=(0.0, 0.0), rho=1.0, weight_decay=0.0)
    curvature = torch.tensor([1000.0, 1.0])
    for _ in range(30):
        optimizer.update_hessian([curvature])
        p.grad = curvature * p.detach()
        optimizer.step()
    assert p.detach().abs().max() < 1e-6


def test_a_study_says_that_it_cannot_feed_it() -> None:
    with pytest.raises(UsageError, match="sophia is fed with estimates of the curvature between its steps"):
        parse_config("sophia", {})
    assert steepest.info("sophia").needs == ("estimates",)


def test_the_example_learns_what_its_estimates_are_of(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(Path(__file__).parents[1] / "examples" / "sophia_g.py"))["main"]()
    told = capsys.readouterr().out.split()
    assert float(told[1].rstrip(";")) > 0.95
    assert float(told[4]) > 0
