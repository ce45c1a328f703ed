"""Averages made after the training: the mean of the latest weights, and power laws of any width from two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import steepest

F64 = torch.float64
TWO = {"narrow": steepest.PowerLaw.of_width(0.05), "wide": steepest.PowerLaw.of_width(0.1)}


def walking(optimizer: torch.optim.Optimizer, steps: int) -> Any:
    """Yield the weights after each of some steps, whose gradients have a drift and noise."""
    (p,) = optimizer.param_groups[0]["params"]
    for step in range(steps):
        p.grad = torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(step)) + 0.1
        optimizer.step()
        yield p.detach().clone()


def read(p: Tensor, block: Any) -> Tensor:
    before = p.detach().clone()
    with block:
        found = p.detach().clone()
    assert torch.equal(p.detach(), before)
    return found


def test_the_mean_is_that_of_the_latest_snapshots() -> None:
    optimizer = steepest.SGD([p := torch.nn.Parameter(torch.zeros(3, dtype=F64))], lr=0.1)
    snapshots = steepest.Snapshots(optimizer, keep=4)
    kept = []
    for step, weights in enumerate(walking(optimizer, 30)):
        if step % 3 == 0:
            snapshots.take()
            kept.append(weights)
    assert len(snapshots) == 4
    torch.testing.assert_close(read(p, snapshots.averaged()), torch.stack(kept[-4:]).mean(0), rtol=1e-15, atol=1e-15)


def test_half_precision_is_summed_in_float32() -> None:
    """The mean of 256 and 257 copies of 1 ± 2^-7 would stand still in bfloat16."""
    optimizer = steepest.SGD([p := torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))], lr=0.1)
    snapshots = steepest.Snapshots(optimizer, keep=None)
    for index in range(600):
        p.data.fill_(1.0 if index % 2 else 1.0 + 2.0**-6)
        snapshots.take()
    assert read(p, snapshots.averaged()).item() == 1.0 + 2.0**-7


@pytest.mark.parametrize(("width", "gamma"), [(0.05, 16.97219860), (0.1, 6.93720394), (0.2, 1.82621378)])
def test_the_power_law_of_a_width(width: float, gamma: float) -> None:
    """The largest root of γ³ + 7γ² + (16 - σ⁻²)γ + (12 - σ⁻²)."""
    assert steepest.PowerLaw.of_width(width).gamma == pytest.approx(gamma, rel=1e-8)
    assert steepest.PowerLaw.of_width(width).gamma == pytest.approx(
        max(np.roots([1, 7, 16 - width**-2, 12 - width**-2]).real), rel=1e-9
    )


def test_the_weights_of_a_power_law_have_its_width() -> None:
    """The standard deviation of the weights over the steps, by running the law on unit vectors: one part in 500."""
    law, steps = steepest.PowerLaw.of_width(0.15), 2_000
    weights = np.zeros(steps)
    for n in range(1, steps + 1):
        weights *= law(n)
        weights[n - 1] = 1 - law(n)
    places = np.arange(1, steps + 1) / steps
    mean = weights @ places
    assert np.sqrt(weights @ (places - mean) ** 2) == pytest.approx(0.15, rel=2e-3)


def history(steps: int = 400, every: int = 10) -> tuple[Tensor, steepest.PostHocEMA, list[Tensor]]:
    optimizer = steepest.SGD([p := torch.nn.Parameter(torch.zeros(3, dtype=F64))], lr=0.1, ema_decay=TWO)
    found, path = steepest.PostHocEMA(optimizer), []
    for step, weights in enumerate(walking(optimizer, steps), 1):
        path.append(weights)
        if step % every == 0:
            found.take()
    return p, found, path


def brute(path: list[Tensor], width: float) -> Tensor:
    """The average by its definition, over every step."""
    law = steepest.PowerLaw.of_width(width)
    average = path[0]
    for n, weights in enumerate(path[1:], 2):
        average = law(n) * average + (1 - law(n)) * weights
    return average


@pytest.mark.parametrize("width", [0.05, 0.1])
def test_a_kept_average_comes_back_as_it_is(width: float) -> None:
    p, found, path = history()
    torch.testing.assert_close(read(p, found.averaged(width)), brute(path, width), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("width", [0.06, 0.08, 0.15, 0.2, 0.25])
def test_any_other_width_is_close_to_the_average_itself(width: float) -> None:
    """Within 1 % of how far the weights have gone, where neither of the two kept averages is."""
    p, found, path = history()
    wanted = brute(path, width)
    scale = (path[-1] - path[0]).norm()
    assert (read(p, found.averaged(width)) - wanted).norm() < 0.01 * scale
    if width > 0.1:
        assert (brute(path, 0.1) - wanted).norm() > 0.02 * scale


def test_the_factors_are_the_least_squares_fit_of_the_profiles() -> None:
    """Against NumPy's least squares on a fine grid of times. The last factor is 1 less the others."""
    p, found, _ = history(steps=60, every=20)
    times = (np.arange(200_000) + 0.5) / 200_000 * 60

    def profile(n: float, gamma: float) -> Any:
        return np.where(times <= n, (gamma + 1) * (times / n) ** gamma / n, 0.0)

    kept = [(n, law.gamma) for n in (20.0, 40.0, 60.0) for law in TWO.values()]
    *columns, last = (profile(*each) for each in kept)
    target = profile(60.0, steepest.PowerLaw.of_width(0.2).gamma)
    free = np.linalg.lstsq(np.stack([each - last for each in columns], 1), target - last, rcond=None)[0]
    factors = [*free, 1 - free.sum()]
    weights = [each[name] for each in found.state_dict()["taken"] for name in ("ema", "ema_2")]
    wanted = sum(factor * w[0] for factor, w in zip(factors, weights, strict=True))
    torch.testing.assert_close(read(p, found.averaged(0.2)), wanted, rtol=1e-4, atol=1e-4)


def test_weights_that_stand_still_are_their_own_average() -> None:
    optimizer = steepest.SGD([p := torch.nn.Parameter(torch.full((3,), 7.0, dtype=F64))], lr=0.0, ema_decay=TWO)
    found = steepest.PostHocEMA(optimizer)
    for _ in walking(optimizer, 5):
        found.take()
    torch.testing.assert_close(read(p, found.averaged(0.2)), p.detach(), rtol=1e-12, atol=0)


def test_snapshots_are_saved_and_loaded() -> None:
    p, found, _ = history()
    other = steepest.PostHocEMA(found.optimizer)
    other.load_state_dict(found.state_dict())
    assert torch.equal(read(p, other.averaged(0.2)), read(p, found.averaged(0.2)))
    small = steepest.SGD([torch.nn.Parameter(torch.zeros(2, dtype=F64))], ema_decay=TWO)
    with pytest.raises(ValueError, match="of other shapes than the optimizer's 1 parameters"):
        steepest.PostHocEMA(small).load_state_dict(found.state_dict())


def test_copies_are_not_the_weights_themselves() -> None:
    optimizer = steepest.SGD([p := torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    snapshots = steepest.Snapshots(optimizer, device="cpu")
    snapshots.take()
    p.data.fill_(5.0)
    assert not read(p, snapshots.averaged()).any()


def test_what_cannot_be() -> None:
    optimizer = steepest.SGD([p := torch.nn.Parameter(torch.zeros(2))], lr=0.1, ema_decay=0.9)
    for keep in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=r"keep=.* must be a whole number of at least 1"):
            steepest.Snapshots(optimizer, keep=keep)  # type: ignore[arg-type]
    empty = steepest.Snapshots(optimizer)
    with pytest.raises(RuntimeError, match="there are 0 snapshots, and at least 1"):
        empty.averaged()
    with pytest.raises(ValueError, match=r"needs two power-law averages .* ema_decay is \['\(0.9,\)'\]"):
        steepest.PostHocEMA(optimizer)
    two = steepest.SGD([q := torch.nn.Parameter(torch.zeros(2))], lr=0.1, ema_decay=TWO)
    with pytest.raises(RuntimeError, match=r"have had \[0.0\] averagings"):
        steepest.PostHocEMA(two).take()
    for width in (0.0, 0.5, -1.0, float("nan")):
        with pytest.raises(ValueError, match="must be a relative width"):
            steepest.PostHocEMA(two).averaged(width)
    p.grad = torch.ones(2)
    optimizer.step()
    empty.take()
    with optimizer.averaged(), pytest.raises(RuntimeError, match=r"inside a `with \.\.\.averaged\(\):` block"):
        empty.take()
    with empty.averaged(), pytest.raises(RuntimeError, match="hold averages already"), empty.averaged():
        pass
    with empty.averaged(), pytest.raises(RuntimeError, match="would train the averaged weights"):
        optimizer.step()
    assert q.grad is None
