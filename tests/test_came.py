"""CAME: its first step, zeros, stacks of matrices, small numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from matrices import problem, trained
from steepest import CAME


def test_the_first_step_is_eleven_times_the_rate() -> None:
    """No average is corrected: 0.1 u over the root of 1e-4 (0.9 u)² is 11.1, so the rate needs a warm-up."""
    start, grads = problem([(40, 30)], 1)
    _, (p,) = trained(CAME, {"lr": 1e-3}, start, grads)
    step = (p.detach().numpy() - start[0]) / 1e-3
    assert math.sqrt((step**2).mean()) == pytest.approx(0.1 / (0.9 * math.sqrt(1e-4)), rel=0.2)


def test_zeros_from_the_start_move_nothing() -> None:
    start, _ = problem([(4, 3), (5,), ()], 1)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        optimizer, params = trained(CAME, {}, start, [[np.zeros_like(x) for x in start]] * 3, dtype)
        for p, x in zip(params, start, strict=True):
            assert torch.equal(p.detach(), torch.as_tensor(x).to(dtype))
            assert all(held.isfinite().all() for held in optimizer.state[p].values())


def test_gradients_whose_squares_half_precision_loses_still_step() -> None:
    """Means of 1e-10 are 0 in float16; the step's own are in float32, so nothing is divided by 0."""
    _, params = trained(CAME, {}, [np.ones((4, 3))], [[np.full((4, 3), 1e-5)]] * 3, torch.float16)
    assert params[0].isfinite().all()
    assert params[0].lt(1).all()


def test_a_row_of_zeros_stays() -> None:
    """Its mean is ε1, whose product with a column's mean of ε1 would be 0 in float32: roots are taken of each."""
    p = nn.Parameter(torch.ones(2, 3))
    optimizer = CAME([p])
    p.grad = torch.tensor([[1e-18, 0.0, 0.0], [0.0, 0.0, 0.0]])
    optimizer.step()
    assert p.isfinite().all()
    assert torch.equal(p[1], torch.ones(3))


def test_a_stack_is_its_matrices_but_for_the_common_clip() -> None:
    """The root mean square that is clipped is the whole tensor's, as in the authors' code."""
    start, grads = problem([(3, 4, 5)], 4)
    options = {"clip_threshold": 1e9}
    _, (whole,) = trained(CAME, options, start, grads)
    _, alone = trained(CAME, options, list(start[0]), [list(g[0]) for g in grads])
    torch.testing.assert_close(whole.detach(), torch.stack([p.detach() for p in alone]), rtol=1e-12, atol=1e-12)
    _, (clipped,) = trained(CAME, {}, start, grads)
    assert not torch.allclose(clipped, whole)


def test_vectors_have_no_confidence() -> None:
    start, grads = problem([(6,), (1, 6)], 3)
    optimizer, (vector, row) = trained(CAME, {}, start, grads)
    assert set(optimizer.state[vector]) == {"exp_avg", "exp_avg_sq"}
    assert "exp_avg_res_row" in optimizer.state[row]
