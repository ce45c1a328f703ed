"""The loss goes the right way, under every configuration, schedule and layout, and groups keep to their own options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from .support import (
    OURS,
    TORCHS,
    Configuration,
    Problem,
    assert_close,
    configurations,
    every_configuration,
    every_input,
    grouped,
    skipped_by_torch,
    source,
    state_of,
    takes,
    values,
)

STEPS = 12
"""The data base's schedules change their rate at the tenth step at the latest."""


def train(
    problem: Problem, optimizer: torch.optim.Optimizer, schedulers: list[Any], steps: int = STEPS
) -> tuple[float, float, list[float]]:
    """The loss before and after some steps, each followed by one of every scheduler; and the rates of the steps."""
    first = problem.closure().item()
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        loss = problem.advance(optimizer)
        for scheduler in schedulers:
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(loss)
            else:
                scheduler.step()
    return first, problem.closure().item(), rates


def assert_right_way(configuration: Configuration, first: float, last: float) -> None:
    if configuration.maximizes:
        assert last > first
    else:
        assert last < first


@pytest.mark.thin("info", "way")
@every_configuration()
def test_the_loss_goes_the_right_way(configuration: Configuration) -> None:
    problem = Problem(configuration)
    optimizer = configuration.build(problem.params)
    first, last, _ = train(problem, optimizer, [], steps=6)
    assert_right_way(configuration, first, last)


def every_schedule() -> list[Any]:
    """Every configuration with one of its class's schedules, in turn; there are at most seven."""
    return [
        pytest.param(configuration, turn % len(info.scheduler_inputs), id=f"{info.name}-{configuration.description}")
        for info in OURS.values()
        for turn, configuration in enumerate(configurations(info))
    ]


@pytest.mark.thin("info", "way")
@pytest.mark.parametrize(("configuration", "schedule"), every_schedule())
def test_with_schedulers(configuration: Configuration, schedule: int) -> None:
    """The data base's own, in its combinations, on parameters with strides; the plateau scheduler gets the loss."""
    problem = Problem(configuration, contiguous=False)
    optimizer = configuration.build(problem.params)
    given = float(optimizer.param_groups[0]["lr"])
    made = [make(optimizer) for make in configuration.info.scheduler_inputs[schedule]]
    assert not problem.params[0].is_contiguous()
    first, last, rates = train(problem, optimizer, made)
    assert_right_way(configuration, first, last)
    assert set(rates) - {given}, "no schedule moved the rate"


@every_input(grouped)
def test_groups_with_schedulers(configuration: Configuration) -> None:
    """The second group at a rate of its own, from which its schedule starts."""
    problem = Problem(configuration)
    odd = configuration.leaves([torch.ones(3, 2, dtype=torch.float64)])[0]
    given = float(configuration.build([odd]).param_groups[0]["lr"])
    optimizer = configuration.build([{"params": problem.params}, {"params": [odd], "lr": given / 2}])
    schedulers = [make(optimizer) for make in configuration.info.scheduler_inputs[0]]
    started = [float(group["lr"]) for group in optimizer.param_groups]
    first, last, _ = train(problem, optimizer, schedulers)
    assert_right_way(configuration, first, last)
    ended = [float(group["lr"]) for group in optimizer.param_groups]
    assert ended[0] / started[0] == pytest.approx(ended[1] / started[1])
    assert ended[0] != started[0]


def gradients(configuration: Configuration, params: list[torch.Tensor], seed: int) -> None:
    draw = source(seed)
    for p in params:
        g = torch.randn(p.shape, generator=draw, dtype=p.dtype)
        p.grad = g.to_sparse() if configuration.info.only_supports_sparse_grads else g


def shapes(configuration: Configuration) -> list[tuple[int, ...]]:
    return [shape for shape in ((3, 2), (4,)) if takes(configuration.cls, shape)]


def own_options(configuration: Configuration) -> list[dict[str, Any]]:
    """Rates and decays of two groups, in the form in which the configuration has them."""
    rate = torch.tensor if isinstance(configuration.given.get("lr"), torch.Tensor) else float
    decays = [{"weight_decay": value} for value in (0.0, 0.25)]
    if "weight_decay" not in configuration.cls.fields:
        decays = [{}, {}]
    return [{"lr": rate(value), **decay} for value, decay in zip((0.01, 0.25), decays, strict=True)]


@pytest.mark.thin("info", "way")
@every_configuration(grouped)
def test_a_group_keeps_to_its_own_options(configuration: Configuration) -> None:
    """Two groups in one optimizer step as two optimizers do, and not as each other."""
    own = own_options(configuration)
    starts = [torch.randn(shape, generator=source(5), dtype=torch.float64) for shape in shapes(configuration)]
    together, alone = ([configuration.leaves([x.clone() for x in starts]) for _ in own] for _ in range(2))
    groups = [{"params": params, **options} for params, options in zip(together, own, strict=True)]
    one = configuration.build(groups)
    several = [configuration.build(params, **options) for params, options in zip(alone, own, strict=True)]
    for seed in range(2):
        for params in (*together, *alone):
            gradients(configuration, params, seed)
        for optimizer in (one, *several):
            optimizer.step()
    for mine, others in zip(together, alone, strict=True):
        assert_close(values(mine), values(others))
    with pytest.raises(AssertionError):
        assert_close(values(together[0]), values(together[1]), 64)


@every_input(grouped)
def test_a_tiny_rate_outside_rules_what_has_none_of_its_own(configuration: Configuration) -> None:
    """lr is 1e-28 for the group that says nothing. Rprop and Adafactor have least steps of their own: hence 1e-4."""
    problem = Problem(configuration)
    (idle,) = configuration.leaves([torch.randn(3, 2, generator=source(2), dtype=torch.float64)])
    before = idle.detach().clone()
    lr = float(configuration.build([idle.detach().clone()]).param_groups[0]["lr"])
    options = {"lr": torch.tensor(1e-28) if isinstance(configuration.given.get("lr"), torch.Tensor) else 1e-28}
    idle_group = {"params": [idle], **({"weight_decay": 0} if "weight_decay" in configuration.cls.fields else {})}
    optimizer = configuration.build([{"params": problem.params, "lr": lr}, idle_group], **options)
    first = problem.closure().item()
    for seed in range(5):
        gradients(configuration, [idle], seed)
        problem.advance(optimizer)
    assert_right_way(configuration, first, problem.closure().item())
    torch.testing.assert_close(idle.detach(), before, rtol=0.0, atol=1e-4)


@pytest.mark.thin("info", "way")
@every_configuration()
def test_a_tensor_rate_is_a_float_rate(configuration: Configuration) -> None:
    """0-dim or 1-element; parameters and state. Where torch's class refuses one (foreach), so does ours."""
    with_float = Problem(configuration)
    other = configuration.build(with_float.params, lr=0.0078125)
    with_float.advance(other, 3)
    for shape in ((), (1, 1)):
        rate = torch.full(shape, 0.0078125, dtype=torch.float64)
        with_tensor = Problem(configuration)
        if refused := torchs_refusal(configuration, rate):
            with pytest.raises(type(refused), match=str(refused)):
                configuration.build(with_tensor.params, lr=rate)
            continue
        ours = configuration.build(with_tensor.params, lr=rate)
        with_tensor.advance(ours, 3)
        assert ours.param_groups[0]["lr"] is rate
        assert_close(values(with_tensor.params), values(with_float.params), 16)
        assert_close(state_of(ours), state_of(other), 16)


def torchs_refusal(configuration: Configuration, rate: torch.Tensor) -> ValueError | None:
    try:
        configuration.build_torchs(Problem(configuration).params, lr=rate)
    except ValueError as error:
        return error
    return None


def test_the_data_base_skips_what_it_should() -> None:
    """The reader of torch's own skips works: ASGD moves with zero gradients, Adam does not."""
    assert "zero grad" in skipped_by_torch(TORCHS["ASGD"], "test_step_is_noop_for_zero_grads")
    assert skipped_by_torch(TORCHS["Adam"], "test_step_is_noop_for_zero_grads") == ""
