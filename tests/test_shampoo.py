"""Shampoo: its roots, its clock, its graft, and what it becomes where its matrices are diagonal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import steepest
from cases import Options, same
from matrices import assert_oracle, assert_resumes, problem, refreshes, trained
from oracles import ORACLES
from steepest import Shampoo

ROWS = [
    {},
    {"betas": (0.9, 0.95), "graft": "adam", "precondition_frequency": 3, "eps": 1e-6, "weight_decay": 0.1},
    {"graft": "adagrad", "start_preconditioning_step": 5, "precondition_frequency": 2, "beta3": 0.81},
    {"graft": "rmsprop", "graft_beta2": 0.9, "correct_bias": False, "betas": (0.8, 0.9), "eps": 1e-4},
    {"graft": "sgd", "exponent": 0.5, "eps": 1e-3},
    {"max_precond_dim": 4, "eps": 1e-6},
    {"weight_decay": 0.1, "decoupled_weight_decay": False, "maximize": True, "eps": 1e-6},
]


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("options", ROWS, ids=str)
def test_the_oracle(options: Options, foreach: bool | None) -> None:
    shapes = [(4, 3), (5, 5), (4, 3), (6,), (), (3, 2, 2, 1)]
    assert_oracle(Shampoo, ORACLES["shampoo"], {"eps": 1e-8, **options}, shapes, 14, foreach)


def test_a_matrix_of_one_element_is_adagrad() -> None:
    """L^(-1/4) g R^(-1/4) with L = R = Σg² is g / √Σg²; a vector of one element too, by its one root of 1/2."""
    for shape in ((1, 1), (1,)):
        p, q = nn.Parameter(torch.ones(shape, dtype=torch.float64)), nn.Parameter(torch.ones(1, dtype=torch.float64))
        ours = Shampoo([p], lr=0.1, betas=(0.0, 1.0), eps=1e-300)
        adagrad = steepest.Adagrad([q], lr=0.1, eps=0.0)
        for g in (3.0, -1.0, 0.5):
            p.grad, q.grad = torch.full_like(p, g), torch.full_like(q, g)
            ours.step()
            adagrad.step()
        assert p.item() == pytest.approx(q.item(), rel=1e-12)


def test_a_vector_is_full_matrix_adagrad() -> None:
    (start,), grads = problem([(4,)], 6)
    _, (p,) = trained(Shampoo, {"betas": (0.0, 1.0), "lr": 0.1, "eps": 1e-10}, [start], grads)
    x, G = np.array(start), np.zeros((4, 4))
    for (g,) in grads:
        G += np.outer(g, g)
        values, vectors = np.linalg.eigh(G + 1e-10 * np.eye(4))
        x = x - 0.1 * (vectors * values**-0.5) @ vectors.T @ g
    np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-6)


@pytest.mark.parametrize("graft", ["adam", "sgd", "adagrad", "rmsprop"])
def test_a_step_has_the_length_of_the_graft(graft: str) -> None:
    """And the direction is another one. Before the start both are the graft's."""
    start, grads = problem([(4, 4)], 1)
    for first in (1, 5):
        options: Options = {"graft": graft, "start_preconditioning_step": first, "lr": 1.0, "betas": (0.0, 0.9)}
        _, (p,) = trained(Shampoo, options, start, grads)
        step = (torch.as_tensor(start[0]) - p.detach()).numpy()
        own = ORACLES["shampoo"](start, grads, **{**options, "start_preconditioning_step": 9})[0]["param"]
        usual = start[0] - own
        assert np.linalg.norm(step) == pytest.approx(np.linalg.norm(usual), rel=1e-9)
        assert np.allclose(step, usual) == (first == 5)


def test_roots_are_stale_between_refreshes() -> None:
    assert refreshes(Shampoo, {"precondition_frequency": 4}, "inverse_root_0", 9) == [4, 8]


def test_a_transposed_problem_has_the_transposed_path() -> None:
    (start,), grads = problem([(4, 3)])
    options: Options = {"graft": "adam", "eps": 1e-6}
    _, (p,) = trained(Shampoo, options, [start], grads)
    _, (q,) = trained(Shampoo, options, [start.T], [[g[0].T] for g in grads])
    np.testing.assert_allclose(q.detach().numpy().T, p.detach().numpy(), rtol=1e-8)


def test_zeros_and_bad_gradients() -> None:
    """Zeros move nothing, with any graft. What is not finite keeps the old root, is counted, and spoils one matrix."""
    start, grads = problem([(4, 4)] * 3, 3)
    for graft in (None, "sgd", "adam"):
        _, params = trained(Shampoo, {"graft": graft}, start, [[np.zeros((4, 4))] * 3] * 2)
        assert all(same(p.detach(), torch.as_tensor(x)) for p, x in zip(params, start, strict=True))
    grads[1][1][0, 0] = np.inf
    optimizer, params = trained(Shampoo, {"graft": "adam"}, start, grads)
    assert [bool(p.isfinite().all()) for p in params] == [True, False, True]
    assert optimizer.failures == 4
    assert optimizer.state[params[1]]["inverse_root_0"].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("saved_after", [1, 3, 4, 5])
def test_a_run_resumes_before_and_after_a_refresh(saved_after: int, dtype: torch.dtype) -> None:
    assert_resumes(Shampoo, {"precondition_frequency": 4, "graft": "adam"}, saved_after, dtype)
