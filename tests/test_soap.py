"""SOAP: its bases, its clock, its symmetries, and what happens where a basis cannot be found."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steepest
from cases import Options, executors_of, same, structures
from matrices import assert_oracle, assert_resumes, problem, refreshes, trained
from oracles import ORACLES
from steepest import SOAP, spectral

STEPS = 23


ROWS = [
    {},
    {"precondition_frequency": 1, "weight_decay": 0.1, "lr": 0.05},
    {"precondition_frequency": 3, "betas": (0.9, 0.99), "shampoo_beta": 0.8},
    {"normalize_grads": True, "correct_bias": False, "precondition_frequency": 2},
    {"kl": True, "precondition_frequency": 1},
    {"kl": True, "precondition_frequency": 4, "eps": 1e-4},
    {"max_precond_dim": 4, "precondition_frequency": 2},
]


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("options", ROWS, ids=str)
def test_the_oracle(options: Options, foreach: bool | None) -> None:
    assert_oracle(SOAP, ORACLES["soap"], options, [(4, 4), (5, 5), (4, 4), (6,)], STEPS, foreach)


def test_the_first_step_moves_nothing_and_does_not_count() -> None:
    start, grads = problem([(4, 3), (5,)], 1)
    optimizer, params = trained(SOAP, {"weight_decay": 0.5}, start, grads)
    for p, x in zip(params, start, strict=True):
        assert same(p.detach(), torch.as_tensor(x))
        assert optimizer.state[p]["exp_avg"].eq(0).all()
    assert optimizer.state[params[0]]["GG_0"].ne(0).all()


def diagonal(values: list[float]) -> Tensor:
    return torch.diag(torch.tensor(values, dtype=torch.float64))


def test_diagonal_gradients_make_it_adam_one_call_later() -> None:
    """The bases are the axes, up to order. The first gradient enters the bases alone."""
    p, q = (nn.Parameter(diagonal([1.0, 2.0, 3.0])) for _ in range(2))
    ours = SOAP([p], lr=0.1, weight_decay=0.0, betas=(0.9, 0.99), precondition_frequency=1)
    adam = steepest.Adam([q], lr=0.1, betas=(0.9, 0.99), eps=1e-8, eps_hat=True)
    for t in range(12):
        g = diagonal([3.0 + t, 2.0 - 0.1 * t, 1.0 + 0.01 * t])
        p.grad, q.grad = g.clone(), g.clone()
        ours.step()
        if t:
            adam.step()
    torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kl", [False, True])
def test_a_rotated_problem_has_the_rotated_path(kl: bool) -> None:
    """For p → U p V and g → U g V with orthogonal U and V."""
    (start,), grads = problem([(5, 5)], STEPS)
    rng = np.random.default_rng(8)
    U, V = (np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(2))
    options: Options = {"precondition_frequency": 1, "kl": kl}
    _, (p,) = trained(SOAP, options, [start], grads)
    _, (q,) = trained(SOAP, options, [U @ start @ V], [[U @ g[0] @ V] for g in grads])
    np.testing.assert_allclose(q.detach().numpy(), U @ p.detach().numpy() @ V, rtol=0, atol=1e-8)


def test_a_transposed_problem_has_the_transposed_path() -> None:
    (start,), grads = problem([(4, 4)], STEPS)
    _, (p,) = trained(SOAP, {"precondition_frequency": 2}, [start], grads)
    _, (q,) = trained(SOAP, {"precondition_frequency": 2}, [start.T], [[g[0].T] for g in grads])
    np.testing.assert_allclose(q.detach().numpy().T, p.detach().numpy(), rtol=0, atol=1e-9)


def test_second_moments_move_with_the_columns_of_their_basis() -> None:
    """Where the largest direction changes, a basis that is sorted alone gives v to other directions."""
    p = nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    optimizer = SOAP([p], lr=0.0, betas=(0.5, 0.5), precondition_frequency=1)
    for size in (1.0, 1.0, 100.0, 100.0):
        p.grad = diagonal([2.0, size])
        optimizer.step()
    held = optimizer.state[p]
    QL, QR, v = held["Q_0"], held["Q_1"], held["exp_avg_sq"]
    of_axes = (QL.square() @ v @ QR.square().mT).diagonal()
    assert of_axes[0] == pytest.approx(4 * (1 - 0.5**3))
    assert of_axes[1] == pytest.approx(10_000 * 0.75 + 1 * 0.125)


def test_bases_are_refreshed_every_few_steps_only() -> None:
    """The first step does not count."""
    assert refreshes(SOAP, {"precondition_frequency": 5}, "Q_0", 13) == [6, 11]


# -- shapes ------------------------------------------------------------------------------------------------------------


def test_a_convolution_is_its_matrix() -> None:
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((4, 2, 3, 3)), [rng.standard_normal((4, 2, 3, 3)) for _ in range(12)]
    _, (p,) = trained(SOAP, {"precondition_frequency": 3}, [start], [[g] for g in grads])
    _, (q,) = trained(SOAP, {"precondition_frequency": 3}, [start.reshape(4, 18)], [[g.reshape(4, 18)] for g in grads])
    assert same(p.detach().reshape(4, 18), q.detach())


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (4, 1, 3, 3), (4, 3, 1, 1)], ids=str)
def test_a_convolution_in_another_memory_format_steps_the_same(shape: tuple[int, ...]) -> None:
    """Also of one channel, of which the matrix is a view with other strides, and state is handed back as it is."""
    rng = np.random.default_rng(0)
    x = torch.as_tensor(rng.standard_normal(shape))
    params = [nn.Parameter(x.clone()), nn.Parameter(x.clone().contiguous(memory_format=torch.channels_last))]
    optimizers = [SOAP([p]) for p in params]
    for _ in range(4):
        g = torch.as_tensor(rng.standard_normal(shape))
        for p, optimizer in zip(params, optimizers, strict=True):
            p.grad = g.clone()
            optimizer.step()
    assert params[1].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(params[0].detach(), params[1].detach(), rtol=1e-12, atol=1e-12)


def test_stacks_and_heads_are_separate_matrices() -> None:
    (stack,), grads = problem([(3, 4, 4)], 12)
    _, (whole,) = trained(SOAP, {"matrices": "batch"}, [stack], grads)
    _, alone = trained(SOAP, {}, list(stack), [list(g[0]) for g in grads])
    for x, p in zip(whole.detach(), alone, strict=True):
        torch.testing.assert_close(x, p.detach(), rtol=1e-10, atol=1e-10)
    _, (fused,) = trained(SOAP, {"heads": 3}, [stack.reshape(12, 4)], [[g[0].reshape(12, 4)] for g in grads])
    torch.testing.assert_close(fused.detach().reshape(3, 4, 4), whole.detach(), rtol=1e-10, atol=1e-10)


def test_three_dimensions_need_a_word() -> None:
    with pytest.raises(ValueError, match=r"SOAP only supports 2D .* matrices='flatten' .* or matrices='batch'"):
        SOAP([nn.Parameter(torch.zeros(2, 3, 4))])


# -- what cannot be found ----------------------------------------------------------------------------------------------


def test_zeros_from_the_start() -> None:
    start, grads = problem([(4, 3)], 3)
    optimizer, (p,) = trained(SOAP, {"weight_decay": 0.0}, start, [[np.zeros((4, 3))] for _ in grads])
    assert same(p.detach(), torch.as_tensor(start[0]))
    assert optimizer.failures == 0


def test_a_bad_gradient_spoils_its_matrix_alone() -> None:
    start, grads = problem([(4, 4)] * 3, 4)
    grads[1][1][0, 0] = np.nan
    optimizer, params = trained(SOAP, {"precondition_frequency": 1}, start, grads)
    assert [bool(p.isfinite().all()) for p in params] == [True, False, True]
    assert all(optimizer.state[p]["Q_0"].isfinite().all() for p in params)
    assert optimizer.failures > 0
    assert [int(optimizer.state[p]["failures"]) > 0 for p in params] == [False, True, False]


def test_an_algorithm_that_fails_is_tried_in_double_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """First it fails in float32 alone; then always: the old basis, the identity, stays."""
    eigh = torch.linalg.eigh

    def failing(A: Tensor) -> Any:
        if A.dtype == torch.float32 or broken:
            raise torch.linalg.LinAlgError("the algorithm failed to converge")
        return eigh(A)

    monkeypatch.setattr(torch.linalg, "eigh", failing)
    start, grads = problem([(4, 4)] * 2, 3)
    broken = False
    optimizer, params = trained(SOAP, {}, start, grads, torch.float32)
    assert optimizer.failures == 0
    monkeypatch.setattr(torch.linalg, "eigh", eigh)
    _, usual = trained(SOAP, {}, start, grads, torch.float32)
    torch.testing.assert_close(params[0].detach(), usual[0].detach(), rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(torch.linalg, "eigh", failing)
    broken = True
    optimizer, params = trained(SOAP, {}, start, grads, torch.float32)
    assert optimizer.failures == 4
    assert all(same(optimizer.state[p]["Q_0"], torch.eye(4)) for p in params)
    assert all(p.isfinite().all() for p in params)


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
def test_inverse_roots(power: float) -> None:
    rng = np.random.default_rng(1)
    A = torch.as_tensor(rng.standard_normal((3, 5, 5)))
    A = A @ A.mT + 0.1 * torch.eye(5)
    root, failed = spectral.inverse_root(A, torch.eye(5, dtype=A.dtype).expand(3, 5, 5), power, 1e-12)
    product = root
    for _ in range(round(1 / power) - 1):
        product = product @ root
    torch.testing.assert_close(product @ A, torch.eye(5, dtype=A.dtype).expand(3, 5, 5), rtol=0, atol=1e-8)
    assert failed.eq(0).all()


def test_inverse_roots_of_what_is_not_quite_positive() -> None:
    """Eigenvalues that rounding made negative are raised to eps."""
    A = torch.diag(torch.tensor([-1e-3, 1.0, 4.0], dtype=torch.float64))
    root, _ = spectral.inverse_root(A, torch.eye(3, dtype=A.dtype), 0.5, 1e-2)
    assert root.isfinite().all()
    assert root[0, 0].item() <= 1 / math.sqrt(1e-2) + 1e-9


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("saved_after", [1, 3, 4, 5])
def test_a_run_resumes_before_and_after_a_refresh(saved_after: int, dtype: torch.dtype) -> None:
    assert_resumes(SOAP, {"precondition_frequency": 4}, saved_after, dtype)


def test_half_types_keep_wide_bases() -> None:
    optimizer, (p,) = trained(SOAP, {}, *problem([(4, 3)], 2), torch.bfloat16)
    held = optimizer.state[p]
    assert {name: x.dtype for name, x in held.items() if name.startswith(("GG", "Q"))} == dict.fromkeys(
        ("GG_0", "GG_1", "Q_0", "Q_1"), torch.float32
    )
    assert held["exp_avg"].dtype == torch.bfloat16


def test_every_row_of_options_is_tried() -> None:
    """Against the executors: stacks give what single matrices give."""
    assert executors_of(SOAP) == ("reference", "stacked")
    start, grads = problem([(4, 4)] * 3, 13)
    for options in structures(SOAP, ("normalize_grads", "correct_bias", "kl", "maximize")):
        _, stacked = trained(SOAP, options, start, grads)
        _, alone = trained(SOAP, {**options, "foreach": False}, start, grads)
        for p, q in zip(stacked, alone, strict=True):
            torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-9, atol=1e-9)
