"""PSGD-Kron: what its preconditioner becomes, when it moves, its random numbers, and what bad gradients do to it."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cases import Options, give, parameters, same, through_file
from matrices import assert_copies_go_on, assert_oracle, assert_resumes, problem, trained
from oracles import ORACLES
from steepest import PSGDKron
from steepest.functional import pair
from steepest.rules import psgd_kron
from steepest.spectral import norm_bound

SHAPES = [(4, 6), (6, 4), (5, 5), (4, 6), (6,), (), (1, 5), (5, 1), (0,), (0, 3), (1,)]
ROWS: list[Options] = [
    {},
    {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.8, "maximize": True},
    {"lr": 0.1, "memory_save_mode": "one_diag", "precond_lr": 0.5},
    {"lr": 0.1, "memory_save_mode": "smart_one_diag", "precond_init_scale": 0.01},
    {"lr": 0.1, "memory_save_mode": "all_diag"},
    {"lr": 0.1, "max_size_triangular": 4},
    {"lr": 0.1, "momentum_into_precond_update": False, "seed": 7},
    {"lr": 0.1, "preconditioner_update_probability": 0.3},
]


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("options", ROWS, ids=str)
def test_the_oracle(options: Options, foreach: bool | None) -> None:
    assert_oracle(PSGDKron, ORACLES["psgdkron"], options, SHAPES, 12, foreach)


# -- the preconditioner ------------------------------------------------------------------------------------------------


def whole(Q: Tensor) -> Tensor:
    """A side's Q as a matrix."""
    return Q if Q.shape[-1] == Q.shape[-2] else torch.diag(Q.flatten())


def with_condition(size: int, condition: float, seed: int) -> np.ndarray:
    """A symmetric matrix without axes among its eigenvectors."""
    U = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]
    return np.asarray(U * np.geomspace(1, condition, size) @ U.T)


def condition(P: Tensor, H: np.ndarray) -> float:
    """The largest over the smallest eigenvalue of PH."""
    return float(np.linalg.cond(np.linalg.cholesky(H).T @ P.numpy() @ np.linalg.cholesky(H)))


@pytest.mark.parametrize("mode", [None, "smart_one_diag", "all_diag"])
def test_it_stays_positive_in_its_group(mode: str | None) -> None:
    optimizer, (p,) = trained(PSGDKron, {"memory_save_mode": mode, "precond_lr": 0.5}, *problem([(4, 6)], 60))
    for name in ("Q_0", "Q_1"):
        Q = whole(optimizer.state[p][name])
        assert same(Q, Q.triu())
        assert Q.diagonal().min() > 0
        assert torch.linalg.eigvalsh(Q.T @ Q).min() > 0


def test_gradients_of_a_quadratic_are_whitened() -> None:
    """Of g = H x K for fixed H and K and white x: P becomes the inverse root of their squares, up to one factor."""
    H, K = with_condition(4, 30.0, 1), with_condition(5, 30.0, 2)
    rng = np.random.default_rng(3)
    grads = [[H @ rng.standard_normal((4, 5)) @ K] for _ in range(600)]
    optimizer, (p,) = trained(PSGDKron, {"momentum": 0.0, "lr": 0.0}, [np.zeros((4, 5))], grads[:1])

    def conditions() -> list[float]:
        sides = zip(("Q_0", "Q_1"), (H, K), strict=True)
        return [condition(optimizer.state[p][name].T @ optimizer.state[p][name], A) for name, A in sides]

    assert min(conditions()) > 20
    for rate, some, bound in ((0.2, grads[1:250], 5.0), (0.03, grads[250:], 1.5)):
        optimizer.param_groups[0]["precond_lr"] = rate
        for of_step in some:
            give([p], of_step)
            optimizer.step()
        assert max(conditions()) < bound
    QL, QR = (optimizer.state[p][name].numpy() for name in ("Q_0", "Q_1"))
    sizes = [np.square(QL.T @ QL @ g[0] @ QR.T @ QR).mean() for g in grads[-100:]]
    assert 0.7 < np.mean(sizes) < 1.4


def test_a_vector_is_whitened_by_element() -> None:
    h = np.geomspace(0.1, 10, 5)
    rng = np.random.default_rng(0)
    grads = [[h * rng.standard_normal(5)] for _ in range(300)]
    optimizer, (p,) = trained(PSGDKron, {"momentum": 0.0}, [np.zeros(5)], grads)
    assert optimizer.state[p]["Q_0"].shape == (5, 1)
    np.testing.assert_allclose(optimizer.state[p]["Q_0"].flatten().square().numpy() * h, 1.0, rtol=0.5)


@pytest.mark.parametrize("shape", [(4, 6), (5,)])
@pytest.mark.parametrize("factor", [1e-4, 256.0])
def test_the_scale_of_the_loss_is_that_of_the_first_preconditioner(shape: tuple[int, ...], factor: float) -> None:
    start, grads = problem([shape], 30)
    options: Options = {"lr": 0.1, "momentum_into_precond_update": True}
    _, (p,) = trained(PSGDKron, options, start, grads)
    larger = [[factor * g for g in of_step] for of_step in grads]
    _, (q,) = trained(PSGDKron, {**options, "precond_init_scale": factor**-0.5}, start, larger)
    torch.testing.assert_close(q.detach(), p.detach(), rtol=1e-9, atol=1e-9)


def test_a_transposed_problem_has_the_transposed_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the transposed random numbers."""
    (start,), grads = problem([(4, 6)], 20)
    _, (p,) = trained(PSGDKron, {"lr": 0.1}, [start], grads)
    drawn = psgd_kron.normal

    def transposed(stream: Any, draw: int, shape: tuple[int, ...], **place: Any) -> Tensor:
        return drawn(stream, draw, (*shape[:-2], shape[-1], shape[-2]), **place).mT

    monkeypatch.setattr(psgd_kron, "normal", transposed)
    _, (q,) = trained(PSGDKron, {"lr": 0.1}, [start.T], [[g[0].T] for g in grads])
    torch.testing.assert_close(q.detach().T, p.detach(), rtol=1e-10, atol=1e-10)


def test_what_one_side_gains_and_the_other_loses_changes_nothing() -> None:
    """So balancing at other times than kron_torch is the same rule."""
    start, grads = problem([(4, 6)], 20)
    paths = []
    for factor in (1.0, 4.0):
        optimizer, (p,) = trained(PSGDKron, {"lr": 0.1}, start, grads[:10])
        optimizer.state[p]["Q_0"].mul_(factor)
        optimizer.state[p]["Q_1"].div_(factor)
        for of_step in grads[10:]:
            give([p], of_step)
            optimizer.step()
        left, right = (optimizer.state[p][name].abs().max() for name in ("Q_0", "Q_1"))
        assert 0.5 < float(left / right) < 2.0
        paths.append(p.detach().clone())
    torch.testing.assert_close(paths[1], paths[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("mode", "shape", "triangular"),
    [
        (None, (3, 5), (True, True)),
        ("smart_one_diag", (3, 5), (True, False)),
        ("smart_one_diag", (5, 3), (False, True)),
        ("smart_one_diag", (4, 4), (True, True)),
        ("one_diag", (5, 3), (False, True)),
        ("one_diag", (4, 4), (True, False)),
        ("all_diag", (4, 4), (False, False)),
    ],
)
def test_sides_that_are_diagonal(mode: str | None, shape: tuple[int, int], triangular: tuple[bool, bool]) -> None:
    optimizer, (p,) = trained(PSGDKron, {"memory_save_mode": mode}, *problem([shape], 1))
    n, m = shape
    assert optimizer.state[p]["Q_0"].shape == ((n, n) if triangular[0] else (n, 1))
    assert optimizer.state[p]["Q_1"].shape == ((m, m) if triangular[1] else (1, m))


# -- the step ----------------------------------------------------------------------------------------------------------


def test_a_step_has_a_bounded_root_mean_square() -> None:
    start, grads = problem([(4, 6), (5,)], 1)
    _, params = trained(PSGDKron, {"lr": 0.01}, start, [[1e6 * g for g in grads[0]]])
    for p, x in zip(params, start, strict=True):
        assert float((p.detach() - torch.as_tensor(x)).square().mean().sqrt()) == pytest.approx(0.011)


def test_the_noise_moves_the_preconditioner_and_not_the_weights() -> None:
    """kron_torch adds it to the momentum in place: its step then has a part of 3e-4 of it."""
    start, (grads,) = problem([(4, 6)], 1)
    _, (p,) = trained(PSGDKron, {"precond_lr": 1e-9, "lr": 1.0}, start, [[0.1 * grads[0]]])
    np.testing.assert_allclose(p.detach().numpy(), start[0] - 0.1 * grads[0], rtol=0, atol=1e-8)


def test_matrices_decay_and_vectors_do_not() -> None:
    params = parameters([np.full((2, 2), 4.0), np.full(2, 4.0), np.array(4.0)])
    optimizer = PSGDKron(params, lr=0.5, weight_decay=0.25)
    give(params, [np.zeros((2, 2)), np.zeros(2), np.array(0.0)])
    optimizer.step()
    assert [p.detach().flatten()[0].item() for p in params] == [3.5, 4.0, 4.0]


# -- when it moves -----------------------------------------------------------------------------------------------------


def moves(first: int, steps: int, options: Options) -> list[int]:
    """The steps after ``first`` in which Q moves."""
    (p,) = parameters([np.ones(1)])
    optimizer = PSGDKron([p], **options)
    give([p], [np.ones(1)])
    optimizer.step()
    optimizer.state[p]["step"].fill_(first)
    optimizer.state[p]["update_counter"].zero_()
    found = []
    for t in range(first + 1, first + steps + 1):
        before = optimizer.state[p]["Q_0"].clone()
        give([p], [np.ones(1) * t])
        optimizer.step()
        found += [] if same(before, optimizer.state[p]["Q_0"]) else [t]
    return found


def test_it_moves_at_every_step_and_then_ever_more_rarely() -> None:
    """A step is due as soon as 1/π steps have gone by, so every second one from where π is below 1."""
    assert moves(490, 20, {}) == [*range(491, 502), 503, 505, 507, 509]
    assert moves(1183, 16, {}) == [1185, 1187, 1189, 1191, 1193, 1196, 1199]  # 1/π passes 2 at step 1195
    assert np.diff(moves(10_000, 110, {})).tolist() == [34, 34]
    assert np.diff(moves(1, 20, {"preconditioner_update_probability": 0.21})).tolist() == [5, 5, 5]
    assert len(moves(1, 20, {"preconditioner_update_probability": 1.0})) == 20


@pytest.mark.parametrize("saved_after", range(7))
def test_a_run_resumes_between_two_moves(saved_after: int) -> None:
    """In the middle of the schedule, where Q moves at every fifth step."""
    start, grads = problem([(4, 3), (5,), ()], 14)

    def aged() -> tuple[Any, list[nn.Parameter]]:
        optimizer, params = trained(PSGDKron, {"lr": 0.1}, start, grads[:3])
        for p in params:
            optimizer.state[p]["step"].fill_(2050)
        return optimizer, params

    def go_on(optimizer: Any, params: list[nn.Parameter], some: list[Any]) -> None:
        for of_step in some:
            give(params, of_step)
            optimizer.step()

    first, params = aged()
    go_on(first, params, grads[3 : 3 + saved_after])
    fresh = PSGDKron(loaded := [nn.Parameter(p.detach().clone()) for p in params])
    fresh.load_state_dict(through_file(first.state_dict()))
    go_on(fresh, loaded, grads[3 + saved_after :])
    whole_run, whole = aged()
    go_on(whole_run, whole, grads[3:])
    assert all(same(p.detach(), q.detach()) for p, q in zip(loaded, whole, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("saved_after", [1, 2, 5])
def test_a_run_resumes(saved_after: int, dtype: torch.dtype) -> None:
    assert_resumes(PSGDKron, {"preconditioner_update_probability": 0.5}, saved_after, dtype)


def test_a_copy_goes_on_as_the_original() -> None:
    assert_copies_go_on(PSGDKron)


# -- random numbers ----------------------------------------------------------------------------------------------------


def test_nothing_is_drawn_from_any_generator() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    trained(PSGDKron, {}, *problem([(4, 6), (5,)], 3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    np.testing.assert_array_equal(np.random.get_state()[1], before[2])


def test_numbers_differ_by_parameter_and_by_seed() -> None:
    (start, *_), (grads, *_) = problem([(4, 6)], 1)

    def factors(**options: Any) -> list[Tensor]:
        optimizer, params = trained(PSGDKron, options, [start] * 2, [[grads[0]] * 2])
        return [optimizer.state[p]["Q_0"] for p in params]

    (one, other), (seeded, _), (again, _) = factors(), factors(seed=1), factors()
    assert not torch.allclose(one, other)
    assert not torch.allclose(one, seeded)
    assert same(one, again)


def test_stacks_and_pure_steps_have_the_numbers_of_single_matrices() -> None:
    start, grads = problem([(4, 6), (4, 6), (6, 4), (4, 6), (5,), (5,)], 8)
    _, stacked = trained(PSGDKron, {"lr": 0.1}, start, grads)
    _, alone = trained(PSGDKron, {"lr": 0.1, "foreach": False}, start, grads)
    init, step = pair(PSGDKron, lr=0.1)
    held = {str(i): torch.as_tensor(x) for i, x in enumerate(start)}
    state = init(held)
    for of_step in grads:
        held, state = step(held, {str(i): torch.as_tensor(g) for i, g in enumerate(of_step)}, state)
    for p, q, x in zip(stacked, alone, held.values(), strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(x, q.detach(), rtol=1e-12, atol=1e-12)


# -- bad gradients, shapes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 3), (3, 4), (5,)])
def test_a_gradient_that_stays_zero_moves_nothing(shape: tuple[int, ...]) -> None:
    """kron_torch's Q grows by a tenth each time, and is infinite after some hundred steps: 0 times it is NaN."""
    start = [np.ones(shape)]
    optimizer, (p,) = trained(PSGDKron, {"lr": 0.1}, start, [[np.zeros(shape)]] * 50, torch.float32)
    assert same(p.detach(), torch.ones(shape))
    assert same(whole(optimizer.state[p]["Q_0"]), torch.eye(shape[0]))
    give([p], [np.ones(shape)])
    optimizer.step()
    assert p.isfinite().all()
    assert not same(p.detach(), torch.ones(shape))


def test_a_row_without_a_gradient_keeps_q_finite() -> None:
    dead = np.ones((4, 3))
    dead[1] = 0
    rng = np.random.default_rng(0)
    grads = [[dead * rng.standard_normal((4, 3))] for _ in range(250)]
    optimizer, (p,) = trained(PSGDKron, {"lr": 0.1}, [np.ones((4, 3))], grads, torch.float32)
    assert optimizer.state[p]["Q_0"].max() < 1e3
    assert p.isfinite().all()


def test_a_bad_gradient_spoils_its_matrix_only() -> None:
    start, grads = problem([(4, 4)] * 3, 4)
    _, clean = trained(PSGDKron, {"lr": 0.1}, start, grads)
    grads[1][1][0, 0] = np.nan
    _, params = trained(PSGDKron, {"lr": 0.1}, start, grads)
    assert not params[1].isfinite().any()
    assert all(same(params[i].detach(), clean[i].detach()) for i in (0, 2))


def test_half_types_keep_wide_preconditioners() -> None:
    optimizer, params = trained(
        PSGDKron, {"memory_save_mode": "smart_one_diag"}, *problem([(4, 3), (3,)], 2), torch.bfloat16
    )
    for p in params:
        assert {x.dtype for name, x in optimizer.state[p].items() if name.startswith("Q")} == {torch.float32}
        assert optimizer.state[p]["momentum_buffer"].dtype == torch.bfloat16


def test_a_convolution_is_its_matrix() -> None:
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((4, 2, 3, 3)), [rng.standard_normal((4, 2, 3, 3)) for _ in range(6)]
    _, (p,) = trained(PSGDKron, {"lr": 0.1}, [start], [[g] for g in grads])
    _, (q,) = trained(PSGDKron, {"lr": 0.1}, [start.reshape(4, 18)], [[g.reshape(4, 18)] for g in grads])
    assert same(p.detach().reshape(4, 18), q.detach())


def test_three_dimensions_need_a_word() -> None:
    with pytest.raises(ValueError, match=r"PSGDKron only supports 2D .* matrices='flatten' .* or matrices='batch'"):
        PSGDKron([nn.Parameter(torch.zeros(2, 3, 4))])
    for word, left in (("flatten", (2, 2)), ("batch", (2, 3, 3))):
        optimizer, (p,) = trained(PSGDKron, {"matrices": word}, *problem([(2, 3, 4)], 2))
        assert optimizer.state[p]["Q_0"].shape == left
        assert p.isfinite().all()


# -- the bound ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_bound_of_a_norm_is_near_and_below(scale: float) -> None:
    x = torch.randn(20, 8, 8, generator=torch.Generator().manual_seed(0))
    A = x @ x.mT * scale
    ratio = norm_bound(A) / torch.linalg.matrix_norm(A.double(), 2)[..., None, None]
    assert ratio.shape == (20, 1, 1)
    assert ratio.min() > 0.7
    assert ratio.max() <= 1 + 1e-6


def test_the_bound_of_zeros_is_zero_and_nan_stays_where_it_is() -> None:
    A = torch.stack([torch.zeros(3, 3), torch.eye(3), torch.full((3, 3), math.nan)])
    found = norm_bound(A).flatten().tolist()
    assert found[:2] == [0.0, 1.0]
    assert math.isnan(found[2])


def test_every_row_of_options_is_tried_on_stacks() -> None:
    start, grads = problem([(4, 6)] * 3 + [(5, 5)] * 2 + [(6,)] * 2, 6)
    for mode, into in itertools.product((None, "one_diag", "all_diag"), (True, False)):
        options: Options = {"lr": 0.1, "memory_save_mode": mode, "momentum_into_precond_update": into}
        _, stacked = trained(PSGDKron, options, start, grads)
        _, alone = trained(PSGDKron, {**options, "foreach": False}, start, grads)
        for p, q in zip(stacked, alone, strict=True):
            torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-11, atol=1e-11)
