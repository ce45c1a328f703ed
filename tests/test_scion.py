"""Scion: the ball of each norm, convolutions, weights that stay inside, and a start on the boundary."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steepest import Muon, Scion

EXACT: dict[str, Any] = {"ns_dtype": "float64", "ns_coefficients": "polar8"}
NORMS = ("spectral", "sign", "col_norm", "row_norm", "bias_rms")

every_norm = pytest.mark.parametrize("norm", NORMS)


def drawn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step(g: Tensor, **options: Any) -> Tensor:
    """The point of the unit ball that a gradient sends a parameter at zero to."""
    p = nn.Parameter(torch.zeros_like(g))
    p.grad = g.clone()
    Scion([p], **{**EXACT, "lr": 1.0, "momentum": 1.0, "scale": 1.0, **options}).step()
    return -p.detach()


def norm_of(x: Tensor, norm: str) -> Tensor:
    """The norm whose unit ball is meant, of a matrix."""
    n, m = x.shape
    if norm == "spectral":
        return torch.linalg.matrix_norm(x, 2) * math.sqrt(m / n)
    if norm == "sign":
        return x.abs().max() * m
    if norm == "col_norm":
        return x.square().mean(0).sqrt().max()
    if norm == "row_norm":
        return x.square().mean(1).sqrt().max() * m
    return x.square().mean().sqrt()


def dual(g: Tensor, norm: str) -> Tensor:
    """The largest product of a gradient with a point of the ball."""
    n, m = g.shape
    if norm == "spectral":
        return torch.linalg.matrix_norm(g, "nuc") * math.sqrt(n / m)
    if norm == "sign":
        return g.abs().sum() / m
    if norm == "col_norm":
        return g.norm(dim=0).sum() * math.sqrt(n)
    if norm == "row_norm":
        return g.norm(dim=1).sum() / math.sqrt(m)
    return g.norm() * math.sqrt(n * m)


@every_norm
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5), (7, 1), (1, 7)], ids=str)
def test_the_step_is_the_farthest_point_of_the_ball(norm: str, shape: tuple[int, int]) -> None:
    g = drawn(shape)
    point = step(g, norm=norm)
    torch.testing.assert_close(norm_of(point, norm), torch.ones_like(point).mean(), rtol=1e-6, atol=0)
    torch.testing.assert_close((point * g).sum(), dual(g, norm), rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(6,), ()], ids=str)
def test_vectors_have_a_root_mean_square_and_no_companion(shape: tuple[int, ...]) -> None:
    point = step(drawn(shape))
    torch.testing.assert_close(point.square().mean().sqrt(), torch.ones((), dtype=torch.float64), rtol=1e-6, atol=0)
    assert step(drawn(shape), norm="sign").eq(drawn(shape).sign()).all()


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (4, 8, 1, 1), (6, 3, 2, 5)], ids=str)
def test_convolutions_count_channels_and_divide_by_the_kernel(shape: tuple[int, ...]) -> None:
    """√(out/in)/k² times the polar factor of the matrix with a row for each output channel."""
    g = drawn(shape)
    left, _, right = torch.linalg.svd(g.flatten(1), full_matrices=False)
    wanted = math.sqrt(shape[0] / shape[1]) / (shape[2] * shape[3]) * left @ right
    torch.testing.assert_close(step(g).flatten(1), wanted, rtol=1e-4, atol=1e-4)


def test_one_dimension_of_space_needs_a_choice() -> None:
    g = drawn((6, 3, 5))
    with pytest.raises(ValueError, match=r"Scion only supports 2D parameters .* matrices='flatten'"):
        step(g)
    torch.testing.assert_close(step(g, matrices="flatten"), step(g[..., None])[..., 0])
    for point, matrix in zip(step(g, matrices="batch"), g, strict=True):
        torch.testing.assert_close(point, step(matrix), rtol=1e-9, atol=1e-9)


def test_heads_are_matrices_of_their_own() -> None:
    g = drawn((6, 4))
    together = step(g, heads=3)
    for index in range(3):
        part = slice(2 * index, 2 * index + 2)
        torch.testing.assert_close(together[part], step(g[part]), rtol=1e-9, atol=1e-9)


@every_norm
def test_constrained_weights_stay_in_the_ball(norm: str) -> None:
    """A convex combination of points of the ball; without the constraint they leave it."""
    ends = {}
    for unconstrained in (False, True):
        p = nn.Parameter(torch.zeros(4, 6, dtype=torch.float64))
        optimizer = Scion([p], lr=0.2, scale=3.0, norm=norm, unconstrained=unconstrained, **EXACT)
        for _ in range(30):
            p.grad = drawn((4, 6))
            optimizer.step()
        ends[unconstrained] = float(norm_of(p.detach(), norm))
    assert ends[False] <= 3.0 * (1 + 1e-6)
    assert ends[True] > 5.0


def test_momentum_is_the_weight_of_the_new_gradient() -> None:
    """0.05 is torch's 0.95: with a rate to match Muon's plain form moves alike."""
    p, q = (nn.Parameter(torch.zeros(4, 6, dtype=torch.float64)) for _ in range(2))
    ours = Scion([p], lr=0.1, momentum=0.05, scale=1.0, unconstrained=True, ns_dtype="float64")
    theirs = Muon(
        [q], lr=0.1, momentum=0.95, nesterov=False, weight_decay=0, adjust_lr_fn="spectral", ns_dtype="float64"
    )
    for seed in range(4):
        p.grad = drawn((4, 6), seed)
        q.grad = drawn((4, 6), seed)
        ours.step()
        theirs.step()
    torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_all_of_a_network_trains_under_one_rule() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(32, 1, 4, 4)
    y = (x.mean((1, 2, 3)) > 0).long()
    *hidden, weight, bias = model.parameters()
    head = {"params": [weight, bias], "norm": "sign", "scale": 20.0}
    optimizer = Scion([{"params": hidden}, head], lr=0.01, scale=5.0)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@every_norm
def test_a_start_on_the_boundary(norm: str) -> None:
    p, v = nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.ones(4))
    optimizer = Scion([{"params": [p], "norm": norm}, {"params": [v]}], scale=7.0)
    optimizer.init_norm_ball(torch.Generator().manual_seed(0))
    first = p.detach().clone()
    assert float(norm_of(first.double(), norm)) == pytest.approx(7.0, rel=1e-3)
    assert v.eq(0.0).all()
    optimizer.init_norm_ball(torch.Generator().manual_seed(0))
    assert torch.equal(p.detach(), first)
    optimizer.init_norm_ball(torch.Generator().manual_seed(1))
    assert not torch.equal(p.detach(), first)
    assert not optimizer.state


def test_a_start_of_convolutions_and_half_parameters() -> None:
    conv, half = nn.Parameter(torch.zeros(4, 3, 3, 3)), nn.Parameter(torch.zeros(4, 6, dtype=torch.bfloat16))
    Scion([conv, half], scale=1.0).init_norm_ball()
    values = torch.linalg.svdvals(conv.detach().flatten(1))
    torch.testing.assert_close(values, torch.full_like(values, math.sqrt(4 / 3) / 9), rtol=1e-2, atol=0)
    assert half.dtype == torch.bfloat16
    assert half.ne(0.0).all()


@every_norm
def test_a_zero_gradient_only_shrinks(norm: str) -> None:
    p = nn.Parameter(torch.ones(4, 6))
    p.grad = torch.zeros_like(p)
    Scion([p], lr=0.25, norm=norm).step()
    assert p.eq(0.75).all()


def test_what_is_refused() -> None:
    p = [nn.Parameter(torch.ones(2, 2))]
    for options, message in (
        ({"norm": "nuclear"}, "norm must be one of 'spectral'"),
        ({"momentum": 1.5}, "momentum must be a number >= 0 and <= 1"),
        ({"scale": -1.0}, "scale must be a number >= 0"),
        ({"ns_coefficients": "polar8", "ns_steps": 6}, "leave ns_steps out"),
    ):
        with pytest.raises(ValueError, match=message):
            Scion(p, **options)
