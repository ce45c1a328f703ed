"""APOLLO: what it scales, by how much, in which projection."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import steepest
from cases import Options, same
from matrices import assert_oracle, assert_resumes, problem, trained
from oracles import ORACLES
from steepest import APOLLO
from steepest.functional import pair

SHAPES = [(4, 6), (6, 4), (5, 5), (4, 6), (6,), ()]
MINI: Options = {"rank": 1, "scale": 128.0, "scale_type": "tensor"}
ROWS: list[Options] = [
    {},
    {"rank": None, "weight_decay": 0.1},
    {"rank": 2, "update_proj_gap": 1, "maximize": True},
    {"rank": 3, "update_proj_gap": 4, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "scale": 4.0},
    {"rank": 2, "scale": 4.0, "scale_front": True, "seed": 7},
    MINI,
]


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("options", ROWS, ids=str)
def test_the_oracle(options: Options, foreach: bool | None) -> None:
    assert_oracle(APOLLO, ORACLES["apollo"], options, SHAPES, 12, foreach)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_the_gradient_is_scaled_and_not_its_projection(shape: tuple[int, int]) -> None:
    """pytorch_optimizer scales the projected gradient and projects it back: its steps have the projection's rank."""
    start, grads = problem([shape], 1)
    _, (p,) = trained(APOLLO, {"rank": 1}, start, grads)
    step = p.detach().numpy() - start[0]
    assert np.linalg.matrix_rank(step, tol=1e-12) == 4
    ratio = step / grads[0][0]  # one number for each row or column of the longer side
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio.mean(axis=np.argmin(shape), keepdims=True), shape))
    assert len(set(np.round(ratio.ravel(), 12))) == 6


def test_the_scale_acts_once_by_its_root() -> None:
    """pytorch_optimizer multiplies by √α, and by α where it projects back."""
    start, grads = problem([(4, 6)], 5)
    steps = [trained(APOLLO, {"rank": 2, "scale": s}, start, grads)[1][0].detach().numpy() - start[0] for s in (1, 9)]
    np.testing.assert_allclose(steps[1], 3 * steps[0], rtol=1e-12)


def test_a_tensor_has_one_scale_in_its_mini_form() -> None:
    start, grads = problem([(4, 6)], 1)
    _, (p,) = trained(APOLLO, MINI, start, grads)
    ratio = (p.detach().numpy() - start[0]) / grads[0][0]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-10)
    optimizer = steepest.create("apollomini", [nn.Parameter(torch.zeros(2, 2))])
    assert {name: optimizer.param_groups[0][name] for name in MINI} == MINI


def test_a_step_grows_by_a_hundredth_at_most() -> None:
    start, grads = problem([(4, 6)], 1)
    path = [start[0]]
    for count in range(1, 5):
        growing = [[grads[0][0] * 10.0**k] for k in range(count)]
        optimizer, (p,) = trained(APOLLO, {"rank": 2, "betas": (0.0, 0.0), "eps": 1e-12}, start, growing)
        path.append(p.detach().numpy())
    assert float(optimizer.state[p]["scaled_grad"]) > 0
    lengths = [float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(path)]
    assert all(b <= 1.01 * a * (1 + 1e-6) for a, b in itertools.pairwise(lengths))


def test_a_first_gradient_of_zero_does_not_hold_the_steps_down() -> None:
    start, grads = problem([(4, 6)], 2)
    _, (p,) = trained(APOLLO, {"rank": 2}, start, [[np.zeros((4, 6))], *grads])
    assert np.abs(p.detach().numpy() - start[0]).max() > 1e-4


# -- random numbers ----------------------------------------------------------------------------------------------------


def test_projections_differ_by_parameter_and_by_seed() -> None:
    (start, *_), (grads, *_) = problem([(4, 6)], 1)
    _, (p, q) = trained(APOLLO, {"rank": 1}, [start, start], [[grads[0]] * 2])
    assert not torch.allclose(p.detach(), q.detach())
    _, (r, _) = trained(APOLLO, {"rank": 1, "seed": 1}, [start, start], [[grads[0]] * 2])
    assert not torch.allclose(p.detach(), r.detach())
    _, (again, _) = trained(APOLLO, {"rank": 1}, [start, start], [[grads[0]] * 2])
    assert same(p.detach(), again.detach())


def test_projections_change_when_they_are_refreshed() -> None:
    """Without memory the average is the projected gradient: of one gradient for ever it changes at steps 4 and 7."""
    start, (grads,) = problem([(4, 6)], 1)
    options: Options = {"rank": 1, "update_proj_gap": 3, "betas": (0.0, 0.0)}
    path = []
    for t in range(1, 9):
        optimizer, (p,) = trained(APOLLO, options, start, [grads] * t)
        path.append(optimizer.state[p]["exp_avg"])
    assert [t for t in range(2, 9) if not same(path[t - 1], path[t - 2])] == [4, 7]


def test_nothing_is_drawn_from_torchs_generators() -> None:
    before = torch.get_rng_state()
    trained(APOLLO, {"rank": 2}, *problem([(4, 6)], 3))
    assert torch.equal(torch.get_rng_state(), before)


def test_stacks_have_the_projections_of_single_matrices() -> None:
    start, grads = problem([(4, 6)] * 3 + [(6, 4)], 6)
    _, stacked = trained(APOLLO, {"rank": 2, "update_proj_gap": 2}, start, grads)
    _, alone = trained(APOLLO, {"rank": 2, "update_proj_gap": 2, "foreach": False}, start, grads)
    for p, q in zip(stacked, alone, strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-12, atol=1e-12)


def test_a_pure_step_has_the_same_projections() -> None:
    start, grads = problem([(4, 6), (4, 6)], 4)
    _, params = trained(APOLLO, {"rank": 2, "update_proj_gap": 2, "seed": 3}, start, grads)
    init, step = pair(APOLLO, rank=2, update_proj_gap=2, seed=3)
    held = {str(i): torch.as_tensor(x) for i, x in enumerate(start)}
    state = init(held)
    for of_step in grads:
        held, state = step(held, {str(i): torch.as_tensor(g) for i, g in enumerate(of_step)}, state)
    for p, x in zip(params, held.values(), strict=True):
        torch.testing.assert_close(p.detach(), x, rtol=1e-12, atol=1e-12)


def test_a_copy_goes_on_as_the_original() -> None:
    start, grads = problem([(4, 6)], 3)
    optimizer, (p,) = trained(APOLLO, {"rank": 2, "update_proj_gap": 2}, start, grads)
    twin = copy.deepcopy(optimizer)
    (q,) = twin.param_groups[0]["params"]
    for x, each in ((p, optimizer), (q, twin)):
        x.grad = torch.ones_like(x)
        each.step()
    assert same(p.detach(), q.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("saved_after", [1, 3, 4, 5])
def test_a_run_resumes_before_and_after_a_refresh(saved_after: int, dtype: torch.dtype) -> None:
    assert_resumes(APOLLO, {"rank": 2, "update_proj_gap": 4}, saved_after, dtype)
