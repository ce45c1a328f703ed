"""GaLore: its projection, sides, ranks, and what happens where singular vectors cannot be found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steepest
from cases import Options, same, through_file
from matrices import assert_oracle, assert_resumes, problem, refreshes, trained
from oracles import ORACLES
from steepest import GaLore

SHAPES = [(4, 6), (6, 4), (5, 5), (4, 6), (6,), ()]
TYPES = ["std", "reverse_std", "right", "left", "full"]
ROWS: list[Options] = [
    {},
    {"rank": None, "weight_decay": 0.1},
    {"rank": 1, "update_proj_gap": 1, "maximize": True},
    {"rank": 3, "update_proj_gap": 4, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "scale": 1.0},
    *({"rank": 2, "update_proj_gap": 3, "proj_type": name} for name in TYPES),
]


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("options", ROWS, ids=str)
def test_the_oracle(options: Options, foreach: bool | None) -> None:
    assert_oracle(GaLore, ORACLES["galore"], options, SHAPES, 12, foreach)


@pytest.mark.parametrize("name", TYPES)
def test_sides(name: str) -> None:
    """The longer side of a gradient is read from the gradient: reverse_std projects the other side than std."""
    optimizer, params = trained(GaLore, {"rank": 2, "proj_type": name}, *problem([(4, 6), (6, 4)], 2))
    kept = [tuple(optimizer.state[p]["exp_avg"].shape) for p in params]
    rows, columns, both = (2, 6), (4, 2), (2, 2)
    wide = {"std": rows, "reverse_std": columns, "right": columns, "left": rows, "full": both}[name]
    tall = {"std": (6, 2), "reverse_std": (2, 4), "right": (6, 2), "left": (2, 4), "full": both}[name]
    assert kept == [wide, tall]


def test_full_rank_is_adamw_in_rotated_coordinates_and_any_larger_rank_is_full() -> None:
    start, grads = problem([(4, 6)], 6)
    paths = [trained(GaLore, {"rank": r}, start, grads)[1][0].detach() for r in (4, 5, 128)]
    assert same(paths[0], paths[1])
    assert same(paths[0], paths[2])
    optimizer, (p,) = trained(GaLore, {"rank": 128}, start, grads)
    P = optimizer.state[p]["projector_0"]
    torch.testing.assert_close(P.mT @ P, torch.eye(4, dtype=P.dtype), rtol=0, atol=1e-12)
    _, (q,) = trained(
        GaLore, {"rank": None, "lr": 1e-2 * 0.25}, [P.mT.numpy() @ start[0]], [[P.mT.numpy() @ g[0]] for g in grads]
    )
    torch.testing.assert_close(P @ q.detach(), p.detach(), rtol=1e-10, atol=1e-10)


def test_without_a_rank_it_is_adamw_for_vectors_and_matrices() -> None:
    """ε is added before the correction, and decay comes after the step."""
    start, grads = problem([(4, 3), (5,)], 6)
    _, params = trained(GaLore, {"rank": None}, start, grads)
    _, usual = trained(steepest.Adam, {"lr": 1e-2, "eps": 1e-6, "eps_hat": True}, start, grads)
    for p, q in zip(params, usual, strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-12, atol=1e-12)


def test_steps_stay_in_the_projection_until_it_is_refreshed() -> None:
    start, grads = problem([(6, 5)], 4)
    _, (p,) = trained(GaLore, {"rank": 2, "update_proj_gap": 4}, start, grads)
    assert np.linalg.matrix_rank(p.detach().numpy() - start[0], tol=1e-9) == 2
    _, (p,) = trained(GaLore, {"rank": 2, "update_proj_gap": 2}, start, grads)
    assert np.linalg.matrix_rank(p.detach().numpy() - start[0], tol=1e-9) == 4


def test_refreshes() -> None:
    """At the first step and every few steps from there, as in the authors' package."""
    assert refreshes(GaLore, {"rank": 2, "update_proj_gap": 4}, "projector_1", 10) == [5, 9]


def test_a_singular_vector_keeps_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sign that an algorithm gives is chance: with any other the path is the same."""
    start, grads = problem([(4, 6), (6, 4)], 9)
    options = {"rank": 2, "update_proj_gap": 2}
    _, params = trained(GaLore, options, start, grads)
    svd, flips = torch.linalg.svd, iter([1.0, -1.0, -1.0, 1.0, -1.0] * 4)

    def turned(A: Tensor, full_matrices: bool) -> Any:
        found = svd(A, full_matrices=full_matrices)
        return type(found)((found.U * next(flips), found.S, found.Vh))

    monkeypatch.setattr(torch.linalg, "svd", turned)
    _, others = trained(GaLore, options, start, grads)
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-12, atol=1e-12)


def test_groups_with_their_own_projection() -> None:
    (a, b, bias), _ = problem([(4, 6), (4, 6), (6,)], 1)
    params = [nn.Parameter(torch.as_tensor(x)) for x in (a, b, bias)]
    optimizer = GaLore(
        [{"params": params[2:], "rank": None}, {"params": params[:1], "rank": 1}, {"params": params[1:2], "rank": 3}]
    )
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert [optimizer.state[p]["exp_avg"].shape[0] for p in params] == [1, 3, 6]


def test_the_projection_is_tensors_that_a_safe_load_takes() -> None:
    """ms-swift 10161: an object of a class of its own is refused by weights_only."""
    optimizer, _ = trained(GaLore, {"rank": 2}, *problem([(4, 6)], 2))
    held = through_file(optimizer.state_dict())["state"][0]
    assert all(isinstance(value, Tensor) for value in held.values())
    assert held["projector_0"].shape == (4, 2)


@pytest.mark.parametrize("edit", [{"rank": 3}, {"proj_type": "right"}, {"rank": None}], ids=str)
def test_a_projection_keeps_its_size_during_a_run(edit: Options) -> None:
    start, grads = problem([(4, 6)], 2)
    optimizer, (p,) = trained(GaLore, {"rank": 2}, start, grads)
    before = optimizer.param_groups[0].copy()
    optimizer.param_groups[0].update(edit)
    with pytest.raises(ValueError, match=r"state 'exp_avg' .* has shape \(2, 6\), and .* ask for .*; put them back"):
        optimizer.step()
    optimizer.param_groups[0].update(before)
    optimizer.step()
    assert p.isfinite().all()


# -- what cannot be found ----------------------------------------------------------------------------------------------


def test_zeros_from_the_start() -> None:
    start, _ = problem([(4, 3)], 1)
    optimizer, (p,) = trained(GaLore, {"rank": 2}, start, [[np.zeros((4, 3))]] * 3)
    assert same(p.detach(), torch.as_tensor(start[0]))
    assert optimizer.failures == 0


def test_a_bad_gradient_spoils_its_matrix_alone() -> None:
    start, grads = problem([(4, 4)] * 3, 4)
    grads[1][1][0, 0] = np.nan
    optimizer, params = trained(GaLore, {"rank": 2, "update_proj_gap": 1}, start, grads)
    assert [bool(p.isfinite().all()) for p in params] == [True, False, True]
    assert all(optimizer.state[p]["projector_1"].isfinite().all() for p in params)
    assert [int(optimizer.state[p]["failures"]) > 0 for p in params] == [False, True, False]


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_a_decomposition_that_fails_keeps_the_old_projection(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    start, grads = problem([shape] * 2, 6)
    _, once = trained(GaLore, {"rank": 2, "update_proj_gap": 100}, start, grads)
    svd, calls = torch.linalg.svd, iter(range(100))

    def failing(A: Tensor, full_matrices: bool) -> Any:
        if next(calls) > 0:
            raise torch.linalg.LinAlgError("the algorithm failed to converge")
        return svd(A, full_matrices=full_matrices)

    monkeypatch.setattr(torch.linalg, "svd", failing)
    optimizer, params = trained(GaLore, {"rank": 2, "update_proj_gap": 3}, start, grads)
    assert optimizer.failures == 2
    for p, q in zip(params, once, strict=True):
        assert same(p.detach(), q.detach())


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("saved_after", [1, 3, 4, 5])
def test_a_run_resumes_before_and_after_a_refresh(saved_after: int, dtype: torch.dtype) -> None:
    assert_resumes(GaLore, {"rank": 2, "update_proj_gap": 4}, saved_after, dtype)


def test_half_types_keep_a_wide_projection() -> None:
    optimizer, (p,) = trained(GaLore, {"rank": 2}, *problem([(4, 3)], 2), torch.bfloat16)
    held = optimizer.state[p]
    assert held["projector_1"].dtype == torch.float32
    assert held["exp_avg"].dtype == torch.bfloat16
