"""Rprop and ASGD: what no other rule has, and what the generic tests cannot know."""

from __future__ import annotations

import math

import pytest
import torch

import steepest
from cases import SWITCHES, every_pointwise_executor, same
from steepest.executors import reference

EVERY_WAY = [*({**switch} for switch in SWITCHES.values()), {"capturable": True}]


@pytest.fixture(autouse=True)
def _a_cpu_may_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_get_capturable_supported_devices", lambda: ["cpu"])


every_way = pytest.mark.parametrize("switch", EVERY_WAY, ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()))


def stepped(optimizer: torch.optim.Optimizer, grads: list[list[float]]) -> torch.Tensor:
    (p,) = optimizer.param_groups[0]["params"]
    for g in grads:
        p.grad = torch.tensor(g, dtype=p.dtype)
        optimizer.step()
    return p.detach()


# -- Rprop -----------------------------------------------------------------------------------------------------------


@every_way
def test_rprop_by_hand(switch: dict[str, bool]) -> None:
    """.1, .12 (same sign), .06 but it rests (turned), .06 (after a rest nothing is known), and on by 1.2 each."""
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = steepest.Rprop([p], lr=0.1, step_sizes=(1e-6, 0.08), **switch)
    assert stepped(optimizer, [[5.0]]).item() == pytest.approx(-0.08)  # the bound holds from the first step on
    optimizer = steepest.Rprop([p.detach().zero_().requires_grad_()], lr=0.1, step_sizes=(1e-6, 0.125), **switch)
    path = [stepped(optimizer, [[g]]).item() for g in (5.0, 0.01, -7.0, -3.0, -1e-3, -2.0, -2.0, -2.0)]
    sizes = [0.1, 0.12, 0.0, -0.06, -0.072, -0.0864, -0.10368, -0.124416]
    assert path == pytest.approx([-sum(sizes[: k + 1]) for k in range(len(sizes))])


@every_way
def test_rprop_has_torchs_nan(switch: dict[str, bool]) -> None:
    """A weight whose gradient is NaN rests, and its size stays; so it is where infinity meets the zero at the start."""
    bad = [[math.nan, math.inf, 1.0, -math.inf], [1.0, 1.0, math.inf, 1.0], [1.0, math.nan, -1.0, 1.0]]
    start = torch.ones(4)
    results = []
    for cls, options in ((steepest.Rprop, switch), (torch.optim.Rprop, {"foreach": False})):
        p = torch.nn.Parameter(start.clone())
        optimizer = cls([p], **options)
        stepped(optimizer, bad)
        results.append([p.detach(), optimizer.state[p]["prev"], optimizer.state[p]["step_size"]])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)
    assert results[0][0].isfinite().all()
    assert results[0][1].isnan().tolist() == [False, True, False, False]


@every_pointwise_executor
def test_rprop_reads_lr_once(executor: str) -> None:
    p, q = (torch.nn.Parameter(torch.zeros(3)) for _ in range(2))
    first, second = (steepest.Rprop([x], lr=0.5, **SWITCHES[executor]) for x in (p, q))
    second.param_groups[0]["lr"] = 0.5
    stepped(first, [[1.0, -1.0, 2.0]])
    stepped(second, [[1.0, -1.0, 2.0]])
    second.param_groups[0]["lr"] = 1e-3
    assert same(stepped(first, [[1.0, 1.0, 2.0]] * 3), stepped(second, [[1.0, 1.0, 2.0]] * 3))


def test_rprop_steps_a_complex_number_as_two() -> None:
    p = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    optimizer = steepest.Rprop([p], lr=0.25)
    p.grad = torch.tensor([1 + 2j, -3 - 1j])
    optimizer.step()
    assert p.tolist() == [-0.25 - 0.25j, 0.25 + 0.25j]
    assert optimizer.state[p]["step_size"].tolist() == [0.25 + 0.25j] * 2


@pytest.mark.parametrize("etas", [(1.0, 0.5), (0.0, 1.2), (0.5, 1.0), (-0.5, 1.2)], ids=str)
def test_rprops_factors_must_shrink_and_grow(etas: tuple[float, float]) -> None:
    for cls in (torch.optim.Rprop, steepest.Rprop):
        with pytest.raises(ValueError, match=rf"^Invalid eta values: {etas[0]}, {etas[1]}"):
            cls([torch.zeros(1)], etas=etas)


# -- ASGD ------------------------------------------------------------------------------------------------------------


@every_way
def test_asgds_rate_acts_one_step_late(switch: dict[str, bool]) -> None:
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = steepest.ASGD([p], lr=0.5, lambd=0.0, **switch)
    assert stepped(optimizer, [[1.0]]).item() == -0.5
    optimizer.param_groups[0]["lr"] = 0.125
    assert stepped(optimizer, [[1.0]]).item() == -1.0
    assert stepped(optimizer, [[1.0]]).item() == -1.125


@every_way
def test_asgd_averages_from_t0_on(switch: dict[str, bool]) -> None:
    """Up to step t0 + 2 ``ax`` is a copy bit by bit; then it is the mean of the weights from step t0 + 2 on."""
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = steepest.ASGD([p], lr=0.1, t0=3, **switch)
    seen = []
    for k in range(9):
        seen.append(stepped(optimizer, [[0.3 * k - 1, 0.7]]).clone())
        ax = optimizer.state[p]["ax"]
        if k <= 4:
            assert same(ax, seen[-1])
        else:
            torch.testing.assert_close(ax, torch.stack(seen[4:]).mean(0))
    assert not torch.allclose(ax, seen[-1])


@every_way
def test_asgds_rate_falls_as_declared(switch: dict[str, bool]) -> None:
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = steepest.ASGD([p], lr=0.1, lambd=0.5, alpha=0.9, t0=1, **switch)
    stepped(optimizer, [[0.0]] * 5)
    held = optimizer.state[p]
    assert held["eta"].item() == pytest.approx(0.1 / (1 + 0.5 * 0.1 * 5) ** 0.9, rel=1e-7)
    assert held["mu"].item() == pytest.approx(1 / 4, rel=1e-7)
    assert [held[name].dtype for name in ("step", "eta", "mu")] == [torch.float32] * 3
