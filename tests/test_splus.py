"""SPlus: its signs, its clock, its average."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cases import Options
from matrices import assert_oracle, assert_resumes, problem, refreshes, trained
from oracles import ORACLES
from steepest import SPlus

ROWS = [
    {},
    {"precondition_frequency": 4, "ema_rate": 0.9, "betas": (0.8, 0.9), "weight_decay": 0.1},
    {"max_precond_dim": 4, "nonstandard_constant": 0.01, "maximize": True},
]


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("options", ROWS, ids=str)
def test_the_oracle(options: Options, foreach: bool | None) -> None:
    assert_oracle(SPlus, ORACLES["splus"], options, [(4, 4), (5, 5), (4, 4), (6,), ()], 12, foreach)


def test_the_first_step_is_the_sign_of_the_gradient() -> None:
    """With a rate of 2 / (n + m), whatever the size of the gradient."""
    start, grads = problem([(4, 3)], 1)
    for size in (1e-6, 1.0, 1e6):
        _, (p,) = trained(SPlus, {"lr": 0.7, "weight_decay": 0.0}, start, [[grads[0][0] * size]])
        np.testing.assert_allclose(p.detach().numpy(), start[0] - 0.7 * 2 / 7 * np.sign(grads[0][0]), rtol=1e-12)


def test_bases_are_found_at_the_first_step_and_then_rarely() -> None:
    assert refreshes(SPlus, {"precondition_frequency": 4}, "Q_0", 9) == [4, 8]


def test_what_is_evaluated_is_the_average_of_the_weights_before_their_decay() -> None:
    start, grads = problem([(4, 4)], 5)
    seen: list[np.ndarray] = []
    for count in range(1, 6):
        _, (p,) = trained(SPlus, {"weight_decay": 0.0}, start, grads[:count])
        seen.append(p.detach().numpy())
    optimizer, (p,) = trained(SPlus, {"weight_decay": 0.0, "ema_rate": 0.5}, start, grads)
    weights = 0.5 ** np.arange(5, 0, -1)
    with optimizer.averaged():
        wanted = sum(w * x for w, x in zip(weights, seen, strict=True)) / weights.sum()
        np.testing.assert_allclose(p.detach().numpy(), wanted, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("saved_after", [1, 3, 4, 5])
def test_a_run_resumes_before_and_after_a_refresh(saved_after: int, dtype: torch.dtype) -> None:
    assert_resumes(SPlus, {"precondition_frequency": 4}, saved_after, dtype)
