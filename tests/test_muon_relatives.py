"""NorMuon, AdaMuon and Muon²: the properties that tell them from Muon and from each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steepest import AdaMuon, Muon, Muon2, NorMuon

EXACT: dict[str, Any] = {"ns_dtype": "float64", "weight_decay": 0.0}


def drawn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved(cls: Any, grads: list[Tensor], **options: Any) -> Tensor:
    """The last of some steps, over the rate."""
    p = nn.Parameter(torch.zeros_like(grads[0]))
    optimizer = cls([p], lr=1.0, **{**EXACT, **options})
    before = p.detach().clone()
    for g in grads:
        before = p.detach().clone()
        p.grad = g.clone()
        optimizer.step()
    return before - p.detach()


def rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


EVERY = [NorMuon, AdaMuon, Muon2]
every_relative = pytest.mark.parametrize("cls", EVERY)


# -- NorMuon ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 6)], ids=str)
@pytest.mark.parametrize("beta2", [0.0, 0.95])
def test_the_first_step_has_equal_rows_and_muons_norm(shape: tuple[int, int], beta2: float) -> None:
    """The average's start at zero is a factor of all rows, which the norm takes away again."""
    g = drawn(shape)
    ours, muons = moved(NorMuon, [g], beta2=beta2), moved(Muon, [g])
    lengths = ours.norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, float(lengths[0])), rtol=1e-8, atol=0)
    torch.testing.assert_close(ours.norm(), muons.norm())
    assert muons.norm(dim=1).std() > 1e-3


def test_every_step_keeps_muons_norm_and_the_rows_directions() -> None:
    grads = [drawn((5, 7), seed) for seed in range(6)]
    ours, muons = moved(NorMuon, grads), moved(Muon, grads)
    torch.testing.assert_close(ours.norm(), muons.norm())
    cosines = torch.cosine_similarity(ours, muons, dim=1)
    torch.testing.assert_close(cosines, torch.ones_like(cosines))


def test_the_papers_form_has_one_size_whatever_the_rank() -> None:
    for g in (drawn((4, 6)), torch.outer(drawn((4,)), drawn((6,), 1))):
        size = rms(moved(NorMuon, [g], adjust_lr_fn="rms_norm"))
        torch.testing.assert_close(size, torch.full_like(size, 0.2))


def test_rows_are_averaged_and_not_the_longer_side() -> None:
    """modded-nanogpt averages columns of a tall matrix, the authors' code the kernel's last dimension."""
    p, conv = nn.Parameter(torch.zeros(9, 4)), nn.Parameter(torch.zeros(4, 3, 2, 2))
    optimizer = NorMuon([p, conv])
    p.grad, conv.grad = torch.ones_like(p), torch.ones_like(conv)
    optimizer.step()
    assert optimizer.state[p]["second_momentum_buffer"].shape == (9, 1)
    assert optimizer.state[conv]["second_momentum_buffer"].shape == (4, 1)


def test_the_average_of_half_parameters_is_kept_in_float32_and_survives_a_file() -> None:
    def made() -> tuple[nn.Parameter, NorMuon]:
        p = nn.Parameter(drawn((4, 6)).bfloat16())
        p.grad = drawn((4, 6), 1).bfloat16()
        return p, NorMuon([p])

    p, optimizer = made()
    optimizer.step()
    assert optimizer.state[p]["second_momentum_buffer"].dtype == torch.float32
    q, other = made()
    other.load_state_dict(optimizer.state_dict())
    held = [each.state[x]["second_momentum_buffer"] for each, x in ((optimizer, p), (other, q))]
    assert torch.equal(*held)
    assert held[1].dtype == torch.float32


# -- AdaMuon ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (4, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("sign", [True, False])
def test_every_step_has_adamws_size(shape: tuple[int, ...], sign: bool) -> None:
    """Also for convolutions, whose steps were up to 512 times too small elsewhere."""
    for count in (1, 4):
        size = rms(moved(AdaMuon, [drawn(shape, seed) for seed in range(count)], sign=sign))
        torch.testing.assert_close(size, torch.full_like(size, 0.2))


def test_the_first_step_is_a_sign() -> None:
    """O / √((1 - β)O²) has one size for all elements."""
    for sign in (True, False):
        first = moved(AdaMuon, [drawn((4, 6))], sign=sign).abs()
        torch.testing.assert_close(first, torch.full_like(first, 0.2), rtol=1e-4, atol=0)


def test_with_the_sign_the_sizes_of_gradients_are_nothing() -> None:
    g = drawn((4, 6))
    for sign in (True, False):
        scaled = moved(AdaMuon, [g * torch.logspace(-2, 2, 24, dtype=g.dtype).view(4, 6)], sign=sign)
        assert torch.allclose(scaled, moved(AdaMuon, [g], sign=sign)) == sign


def test_the_average_forgets_as_the_momentum_does_unless_told() -> None:
    grads = [drawn((4, 6), seed) for seed in range(5)]
    usual = moved(AdaMuon, grads, momentum=0.8)
    torch.testing.assert_close(moved(AdaMuon, grads, momentum=0.8, beta2=0.8), usual, rtol=0, atol=0)
    assert not torch.allclose(moved(AdaMuon, grads, momentum=0.8, beta2=0.95), usual)


# -- Muon² -----------------------------------------------------------------------------------------------------------


def test_gradients_of_one_size_are_muons() -> None:
    grads = [drawn((4, 6), seed).sign() for seed in range(4)]
    torch.testing.assert_close(moved(Muon2, grads), moved(Muon, grads), rtol=1e-6, atol=1e-6)


def test_the_sizes_of_elements_are_nothing() -> None:
    """As in Adam: each element's scale cancels, before the iteration mixes them."""
    scales = torch.logspace(-2, 2, 24, dtype=torch.float64).view(4, 6)
    grads = [drawn((4, 6), seed) for seed in range(4)]
    ours = [moved(Muon2, [g * s for g in grads]) for s in (scales, torch.ones_like(scales))]
    torch.testing.assert_close(*ours, rtol=1e-6, atol=1e-6)
    muons = [moved(Muon, [g * s for g in grads]) for s in (scales, torch.ones_like(scales))]
    assert not torch.allclose(*muons, atol=0.1)


# -- all -------------------------------------------------------------------------------------------------------------


@every_relative
def test_a_zero_gradient_moves_nothing_even_at_first(cls: Any) -> None:
    assert moved(cls, [torch.zeros(4, 6, dtype=torch.float64)] * 2).eq(0.0).all()


@every_relative
def test_a_row_of_zeros_rests_at_first(cls: Any) -> None:
    g = drawn((4, 6))
    g[1] = 0.0
    step = moved(cls, [g])
    assert step.isfinite().all()
    assert step[1].abs().max() < 1e-6


@every_relative
@pytest.mark.parametrize("foreach", [False, True])
def test_a_bad_gradient_spoils_its_matrix_alone(cls: Any, foreach: bool) -> None:
    params = [nn.Parameter(torch.ones(3, 2)) for _ in range(3)]
    for p in params:
        p.grad = torch.ones_like(p)
    params[1].grad[0, 0] = torch.nan  # type: ignore[index]
    optimizer = cls(params, foreach=foreach)
    optimizer.step()
    spoilt = [p.detach().isfinite().all() & optimizer.state[p]["momentum_buffer"].isfinite().all() for p in params]
    assert [bool(fine) for fine in spoilt] == [True, False, True]  # torch's sign of NaN is 0: AdaMuon's buffer has it


@pytest.mark.parametrize("cls", [Muon, *EVERY])
def test_wrong_numbers_of_iterations_are_refused(cls: Any) -> None:
    for options in ({"ns_coefficients": "polar8", "ns_steps": 6}, {"ns_steps": 100}):
        with pytest.raises(ValueError, match="ns_steps"):
            cls([nn.Parameter(torch.ones(2, 2))], **options)
