"""Sharpness against eigenvalues that are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from steepest import study


@pytest.mark.parametrize("values", [(0.5, 3.0, 20.0), (-9.0, 1.0, 4.0), (0.0, 0.0, 2.0)])
def test_a_quadratic_function_has_its_largest_eigenvalue(values: tuple[float, ...]) -> None:
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    matrix = turn @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ turn.T
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    found = study.sharpness(lambda: x @ matrix @ x / 2, [x], iterations=200)
    assert found == pytest.approx(max(values, key=abs), rel=2e-3)


def test_a_network_has_the_eigenvalue_of_its_whole_hessian() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    inputs, targets = torch.randn(20, 3, dtype=torch.float64), torch.randn(20, 1, dtype=torch.float64)
    params = dict(model.named_parameters())
    flat = torch.cat([p.detach().reshape(-1) for p in params.values()])

    def loss_at(x: Tensor) -> Tensor:
        parts = x.split([p.numel() for p in params.values()])
        weights = {name: part.view_as(p) for (name, p), part in zip(params.items(), parts, strict=True)}
        return (torch.func.functional_call(model, weights, inputs) - targets).square().mean()

    hessian = torch.autograd.functional.hessian(loss_at, flat)
    expected = max(torch.linalg.eigvalsh(hessian).tolist(), key=abs)
    found = study.sharpness(lambda: (model(inputs) - targets).square().mean(), model.parameters(), iterations=300)
    assert found == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(
    "layer", [nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), nn.LSTM(8, 8, batch_first=True)]
)
def test_attention_and_recurrent_layers_have_second_derivatives(layer: nn.Module) -> None:
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))

    def loss() -> Tensor:
        made = layer(x)
        return (made[0] if isinstance(made, tuple) else made).square().mean()

    assert abs(study.sharpness(loss, layer.parameters())) > 0  # far from a minimum it may be negative


def test_functions_without_curvature_have_none() -> None:
    x, unused = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    assert study.sharpness(lambda: 2 * x.sum(), [x, unused]) == 0.0
    assert study.sharpness(lambda: (x * unused[0].detach()).square().sum(), [x, unused]) == pytest.approx(2.0)


def test_the_same_seed_gives_the_same_number() -> None:
    x = torch.tensor([0.3, -2.0, 1.0], requires_grad=True)
    first, second, other = (study.sharpness(lambda: x.pow(4).sum(), [x], iterations=2, seed=s) for s in (0, 0, 1))
    assert first == second != other
    state = torch.get_rng_state()
    study.sharpness(lambda: x.pow(4).sum(), [x])
    assert torch.equal(state, torch.get_rng_state())


def test_bad_arguments_are_refused() -> None:
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="iterations must be a whole number of at least 1, not 0"):
        study.sharpness(lambda: x.sum(), [x], iterations=0)
    with pytest.raises(ValueError, match="no parameter asks for a gradient"):
        study.sharpness(lambda: x.sum(), [x.detach()])
