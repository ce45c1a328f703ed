"""QUAD: what its preconditioner becomes, its first step, its noise, its symmetries, and what bad gradients do to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cases import Options, give, same, through_file
from matrices import assert_copies_go_on, assert_oracle, assert_resumes, problem, trained
from oracles import ORACLES
from steepest import QUAD
from steepest.rules.quad import improved

SHAPES = [(4, 6), (6, 4), (5, 5), (5, 5), (4, 6), (6,), (), (1, 5), (5, 1), (1, 1), (0,), (0, 3), (1,)]
ROWS: list[Options] = [
    {},
    {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.8, "maximize": True},
    {"lr": 0.1, "lr_style": "rms", "preconditioner_lr": 0.35},
    {"lr": 0.1, "max_skew_dense": 2.0},
    {"lr": 0.1, "max_size_dense": 4, "max_skew_dense": 0.7},
    {"lr": 0.1, "noise_scale": 0.3},
]


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("options", ROWS, ids=str)
def test_the_oracle(options: Options, foreach: bool | None) -> None:
    assert_oracle(QUAD, ORACLES["quad"], options, SHAPES, 12, foreach)


def test_the_oracle_where_sides_are_balanced() -> None:
    assert_oracle(QUAD, ORACLES["quad"], {"lr": 0.1, "momentum": 0.5}, [(4, 4), (3, 5)], 101, None)


def whole(Q: Tensor) -> Tensor:
    """A side's Q as a matrix."""
    return Q if Q.shape[-1] == Q.shape[-2] else torch.diag(Q.flatten())


# -- the preconditioner ------------------------------------------------------------------------------------------------


def test_it_stays_symmetric_and_positive() -> None:
    optimizer, params = trained(QUAD, {"preconditioner_lr": 1.0}, *problem([(5, 5), (4, 6)], 200))
    for p in params:
        for name in ("Q_0", "Q_1"):
            Q = whole(optimizer.state[p][name])
            assert same(Q, Q.T)
            assert torch.linalg.eigvalsh(Q).min() > 0


def test_gradients_of_a_quadratic_are_whitened() -> None:
    """Of g = H x K for fixed H and K and white x: P becomes the inverse root of their squares, up to one factor."""
    rng = np.random.default_rng(3)
    U, V = (np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(2))
    H, K = (W * np.geomspace(1, 30, 5) @ W.T for W in (U, V))
    grads = [[H @ rng.standard_normal((5, 5)) @ K] for _ in range(300)]
    options: Options = {"momentum": 0.0, "lr": 0.0, "preconditioner_lr": 0.3}
    found = []
    for steps in (1, 300):
        optimizer, (p,) = trained(QUAD, options, [np.zeros((5, 5))], grads[:steps])
        P = [(optimizer.state[p][name] @ optimizer.state[p][name]).numpy() for name in ("Q_0", "Q_1")]
        roots = [np.linalg.cholesky(A) for A in (H, K)]
        found.append([np.linalg.cond(R.T @ A @ R) for R, A in zip(roots, P, strict=True)])
    assert min(found[0]) > 15
    assert max(found[1]) < 3
    sizes = [np.square(P[0] @ g[0] @ P[1]).mean() for g in grads[-100:]]
    assert 0.7 < np.mean(sizes) < 1.4


def test_steps_become_white_at_once() -> None:
    """The first P divides by the gradient's root mean square."""
    start, (grads,) = problem([(4, 6), (5, 5), (7,), ()], 1)
    for size in (1e-5, 1.0, 1e5):
        options: Options = {"lr": 1.0, "weight_decay": 0.0, "preconditioner_lr": 0.3}
        _, params = trained(QUAD, options, start, [[size * g for g in grads]])
        for p, x in zip(params, start, strict=True):
            step = float((p.detach() - torch.as_tensor(x)).square().mean().sqrt())
            assert 0.1 < step <= 0.2 * 1.05 * (1 + 1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (5, 5), (5,), (1, 4)])
@pytest.mark.parametrize("factor", [1e-3, 1e4])
def test_the_scale_of_the_loss_does_not_matter(shape: tuple[int, ...], factor: float) -> None:
    start, grads = problem([shape], 30)
    options: Options = {"lr": 0.1, "noise_scale": 1e-30}
    _, (p,) = trained(QUAD, options, start, grads)
    _, (q,) = trained(QUAD, options, start, [[factor * g for g in of_step] for of_step in grads])
    torch.testing.assert_close(q.detach(), p.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(5, 5), (4, 6), (1, 6)])
def test_a_transposed_problem_has_the_transposed_path(shape: tuple[int, int]) -> None:
    (start,), grads = problem([shape], 20)
    _, (p,) = trained(QUAD, {"lr": 0.1}, [start], grads)
    _, (q,) = trained(QUAD, {"lr": 0.1}, [start.T], [[g[0].T] for g in grads])
    torch.testing.assert_close(q.detach().T, p.detach(), rtol=1e-10, atol=1e-10)


def test_a_rotated_problem_has_the_rotated_path() -> None:
    """But for the bound of a norm, which starts at the longest row: within a few hundredths of the way."""
    (start,), grads = problem([(5, 5)], 20)
    rng = np.random.default_rng(8)
    U, V = (np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(2))
    options: Options = {"lr": 0.1, "weight_decay": 0.0}
    _, (p,) = trained(QUAD, options, [start], grads)
    _, (q,) = trained(QUAD, options, [U @ start @ V], [[U @ g[0] @ V] for g in grads])
    way = np.abs(p.detach().numpy() - start).max()
    np.testing.assert_allclose(U.T @ q.detach().numpy() @ V.T, p.detach().numpy(), rtol=0, atol=0.05 * way)


@pytest.mark.parametrize(
    ("shape", "options", "sides"),
    [
        ((4, 4), {}, ((4, 4), (4, 4))),
        ((3, 5), {}, ((3, 3), (1, 5))),
        ((5, 3), {}, ((5, 1), (3, 3))),
        ((5, 3), {"max_skew_dense": 2.0}, ((5, 5), (3, 3))),
        ((4, 4), {"max_size_dense": 3}, ((4, 1), (1, 4))),
        ((4, 1), {}, ((4, 1), None)),
        ((1, 4), {}, (None, (1, 4))),
        ((4,), {}, ((4, 1), None)),
        ((), {}, ((1, 1), None)),
    ],
)
def test_sides_and_their_shapes(shape: tuple[int, ...], options: Options, sides: tuple[Any, Any]) -> None:
    optimizer, (p,) = trained(QUAD, options, *problem([shape], 1))
    held = optimizer.state[p]
    assert tuple(tuple(held[n].shape) if n in held else None for n in ("Q_0", "Q_1")) == sides
    assert ["L_0" in held, "L_1" in held] == [side is not None for side in sides]


# -- the noise ---------------------------------------------------------------------------------------------------------


def test_the_noise_enters_by_the_mean_of_its_products() -> None:
    """A move without noise, averaged over noisy gradients, is the move that the rule makes: for a small rate it is
    linear in (PG)(PG)'.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    QL, QR = (torch.eye(3, dtype=torch.float64) + 0.1 * (x + x.T) for x in (normal(3, 3), normal(3, 3)))
    G, bound = normal(3, 3), torch.full((1, 1), 1e6, dtype=torch.float64)
    moved = improved(QL, QR, bound, bound, G, 1.0, 0.5)
    count = 200_000
    noisy = G + 0.5 * normal(count, 3, 3)
    many = improved(QL.expand(count, 3, 3), QR.expand(count, 3, 3), bound, bound, noisy, 1.0, 0.0)
    for new, mean, old in zip(moved[:2], (x.mean(0) for x in many[:2]), (QL, QR), strict=True):
        torch.testing.assert_close((new - old) * 1e6, (mean - old) * 1e6, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (6,), (1, 3)])
def test_a_gradient_that_stays_zero_moves_nothing(shape: tuple[int, ...]) -> None:
    """Neither the weights nor Q, which is where the noise is white."""
    start = [np.ones(shape)]
    optimizer, (p,) = trained(QUAD, {"weight_decay": 0.0}, start, [[np.zeros(shape)]] * 300, torch.float32)
    assert same(p.detach(), torch.ones(shape))
    first, (q,) = trained(QUAD, {}, start, [[np.zeros(shape)]], torch.float32)
    for name in first.state[q].keys() & {"Q_0", "Q_1"}:
        torch.testing.assert_close(optimizer.state[p][name], first.state[q][name], rtol=1e-3, atol=0)


@pytest.mark.parametrize("options", [{}, {"max_size_dense": 1}], ids=["dense", "diagonal"])
def test_a_row_without_a_gradient_keeps_q_finite(options: Options) -> None:
    """Without any noise P doubles at each step there, until it is infinite. With it, P times the noise is white."""
    dead = np.ones((4, 4))
    dead[1] = 0
    rng = np.random.default_rng(0)
    grads = [[dead * rng.standard_normal((4, 4))] for _ in range(600)]
    optimizer, (p,) = trained(QUAD, {"lr": 0.1, **options}, [np.ones((4, 4))], grads, torch.float32)
    assert p.isfinite().all()
    left, right = (whole(optimizer.state[p][name]) for name in ("Q_0", "Q_1"))
    P = (left @ left)[1, 1] * (right @ right).square().mean(0).sum().sqrt()
    assert 0.5e9 < P < 2e9


def test_nothing_is_random() -> None:
    before = torch.get_rng_state()
    start, grads = problem([(4, 4), (4, 4)], 5)
    same_grads = [[g[0], g[0]] for g in grads]
    _, (p, q) = trained(QUAD, {}, [start[0]] * 2, same_grads)
    assert same(p.detach(), q.detach())
    assert torch.equal(torch.get_rng_state(), before)


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("saved_after", [1, 2, 5])
def test_a_run_resumes(saved_after: int, dtype: torch.dtype) -> None:
    assert_resumes(QUAD, {}, saved_after, dtype)


@pytest.mark.parametrize("saved_after", [98, 99, 100])
def test_a_run_resumes_around_the_balancing(saved_after: int) -> None:
    start, grads = problem([(4, 4), (3, 5)], 103)
    _, whole_run = trained(QUAD, {}, start, grads)
    first, params = trained(QUAD, {}, start, grads[:saved_after])
    fresh = QUAD(loaded := [nn.Parameter(p.detach().clone()) for p in params])
    fresh.load_state_dict(through_file(first.state_dict()))
    for of_step in grads[saved_after:]:
        give(loaded, of_step)
        fresh.step()
    assert all(same(p.detach(), q.detach()) for p, q in zip(loaded, whole_run, strict=True))


def test_a_copy_goes_on_as_the_original() -> None:
    assert_copies_go_on(QUAD)


# -- bad gradients, shapes, arguments ----------------------------------------------------------------------------------


def test_a_bad_gradient_spoils_its_matrix_only() -> None:
    start, grads = problem([(4, 4)] * 3, 4)
    _, clean = trained(QUAD, {}, start, grads)
    grads[1][1][0, 0] = np.nan
    _, params = trained(QUAD, {}, start, grads)
    assert not params[1].isfinite().any()
    assert all(same(params[i].detach(), clean[i].detach()) for i in (0, 2))


def test_stacks_are_their_members() -> None:
    start, grads = problem([(4, 6), (5, 5), (4, 6), (5, 5), (6,), (6,)], 8)
    for options in ({"lr": 0.1}, {"lr": 0.1, "max_size_dense": 1}, {"lr": 0.1, "max_skew_dense": 2.0}):
        _, stacked = trained(QUAD, options, start, grads)
        _, alone = trained(QUAD, {**options, "foreach": False}, start, grads)
        for p, q in zip(stacked, alone, strict=True):
            torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-11, atol=1e-11)


def test_stacks_and_heads_are_separate_matrices() -> None:
    (stack,), grads = problem([(3, 4, 4)], 12)
    _, (batch,) = trained(QUAD, {"matrices": "batch"}, [stack], grads)
    _, alone = trained(QUAD, {}, list(stack), [list(g[0]) for g in grads])
    for x, p in zip(batch.detach(), alone, strict=True):
        torch.testing.assert_close(x, p.detach(), rtol=1e-10, atol=1e-10)
    _, (fused,) = trained(QUAD, {"heads": 3}, [stack.reshape(12, 4)], [[g[0].reshape(12, 4)] for g in grads])
    torch.testing.assert_close(fused.detach().reshape(3, 4, 4), batch.detach(), rtol=1e-10, atol=1e-10)


def test_a_convolution_is_its_matrix() -> None:
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((4, 2, 3, 3)), [rng.standard_normal((4, 2, 3, 3)) for _ in range(6)]
    _, (p,) = trained(QUAD, {"lr": 0.1}, [start], [[g] for g in grads])
    _, (q,) = trained(QUAD, {"lr": 0.1}, [start.reshape(4, 18)], [[g.reshape(4, 18)] for g in grads])
    assert same(p.detach().reshape(4, 18), q.detach())


def test_three_dimensions_need_a_word() -> None:
    with pytest.raises(ValueError, match=r"QUAD only supports 2D .* matrices='flatten' .* or matrices='batch'"):
        QUAD([nn.Parameter(torch.zeros(2, 3, 4))])


def test_half_types_keep_wide_preconditioners() -> None:
    optimizer, params = trained(QUAD, {}, *problem([(4, 3), (3,)], 2), torch.bfloat16)
    for p in params:
        wide = {x.dtype for name, x in optimizer.state[p].items() if name.startswith(("Q", "L"))}
        assert wide == {torch.float32}
        assert optimizer.state[p]["momentum_buffer"].dtype == torch.bfloat16


def test_the_package_s_none_is_a_word_here() -> None:
    assert QUAD([nn.Parameter(torch.zeros(2))], lr_style=None).param_groups[0]["lr_style"] == "rms"


@pytest.mark.parametrize(("name", "value"), [("preconditioner_lr", 0.2), ("noise_scale", 0.0)])
def test_values_without_effect_or_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number >"):
        QUAD([nn.Parameter(torch.zeros(2))], **{name: value})
