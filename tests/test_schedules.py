"""steepest.schedules: rates at every step, against torch's schedulers where it has them and against the formulas."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as of_torch

import steepest
from steepest import schedules
from steepest.schedules import Warmup, WarmupCosine, WarmupInverseSqrt, WarmupLinear, WarmupStableDecay

STEPS = 40
EVERY: list[type[Warmup]] = [WarmupCosine, WarmupInverseSqrt, WarmupLinear, WarmupStableDecay]
every_class = pytest.mark.parametrize("cls", EVERY)


def optimizer(**options: Any) -> torch.optim.Optimizer:
    weight, bias = torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(2))
    return steepest.AdamW([{"params": [weight]}, {"params": [bias], "lr": 0.02}], lr=0.1, **options)


def rates(scheduler: Any, steps: int) -> list[list[float]]:
    """The rates with which each of so many steps is taken."""
    taken = []
    for _ in range(steps):
        taken.append([float(group["lr"]) for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return taken


EXPECTED: dict[type[Warmup], Callable[[int], float]] = {
    WarmupCosine: lambda x: 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * x / 36)),
    WarmupLinear: lambda x: 0.1 + 0.9 * (36 - x) / 36,
    WarmupStableDecay: lambda x: 1.0 if x <= 26 else 0.1 + 0.9 * (1 - math.sqrt((x - 26) / 10)),
}


@pytest.mark.parametrize("cls", EXPECTED)
def test_rates_follow_the_formula_and_then_stay(cls: type[Any]) -> None:
    lengths = {"cooldown": 10} if cls is WarmupStableDecay else {}
    found = rates(cls(optimizer(), STEPS, warmup=4, final=0.1, **lengths), STEPS + 5)
    expected = [(k + 1) / 4 for k in range(4)] + [EXPECTED[cls](k - 4) for k in range(4, STEPS)] + [0.1] * 5
    assert found == [pytest.approx([0.1 * factor, 0.02 * factor]) for factor in expected]


def test_the_inverse_root_is_continuous_and_ends() -> None:
    found = [one for one, _ in rates(WarmupInverseSqrt(optimizer(), STEPS, warmup=4), STEPS + 3)]
    assert found[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1 * math.sqrt(4 / 5)])
    assert found[15] == pytest.approx(0.05)
    assert found[STEPS:] == [found[STEPS]] * 3


def test_cosine_is_torchs_in_sequence() -> None:
    theirs = optimizer()
    rise = of_torch.LambdaLR(theirs, lambda k: (k + 1) / 4)
    scheduler = of_torch.SequentialLR(theirs, [rise, of_torch.CosineAnnealingLR(theirs, STEPS - 4)], [4])
    ours = rates(WarmupCosine(optimizer(), STEPS, warmup=4), STEPS)
    assert ours == [pytest.approx(both, abs=1e-12) for both in rates(scheduler, STEPS)]


@every_class
def test_a_share_is_of_all_steps(cls: type[Any]) -> None:
    assert rates(cls(optimizer(), STEPS, warmup=0.1), STEPS) == rates(cls(optimizer(), STEPS, warmup=4), STEPS)
    assert rates(cls(optimizer(), STEPS, warmup=0), 1) == [[0.1, 0.02]]


@every_class
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))])
def test_a_resumed_schedule_goes_on(cls: type[Any], copied: Callable[[Any], Any]) -> None:
    whole = rates(cls(optimizer(), STEPS), STEPS)
    first = cls(optimizer(), STEPS)
    rates(first, 13)
    second = optimizer()
    second.load_state_dict(copied(first.optimizer.state_dict()))
    resumed = cls(second, STEPS)
    resumed.load_state_dict(copied(first.state_dict()))
    second.load_state_dict(copied(first.optimizer.state_dict()))
    assert rates(resumed, STEPS - 13) == whole[13:]


def test_a_stable_run_is_prolonged_before_its_decay() -> None:
    first = WarmupStableDecay(optimizer(), STEPS, warmup=4, cooldown=10)
    before = rates(first, 30)
    longer = WarmupStableDecay(optimizer(), 2 * STEPS, warmup=4, cooldown=10, last_epoch=-1)
    assert rates(longer, 30) == before
    assert rates(longer, 40) == [[0.1, 0.02]] * 40


@every_class
def test_rates_that_are_tensors_stay_the_same_tensors(cls: type[Any]) -> None:
    rate = torch.tensor(0.1)
    made = steepest.AdamW([torch.nn.Parameter(torch.ones(2))], lr=rate)
    found = rates(cls(made, STEPS, warmup=4), 3)
    assert made.param_groups[0]["lr"] is rate
    assert [one for (one,) in found] == pytest.approx([0.025, 0.05, 0.075])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"total_steps": 0}, "total_steps must be a whole number of steps from 1 on, not 0"),
        ({"total_steps": 40.0}, "not 40.0"),
        ({"total_steps": True}, "not True"),
        ({"warmup": -1}, r"warmup must be a whole number of steps, or a share of the steps in \[0, 1\), not -1"),
        ({"warmup": 1.0}, "not 1.0"),
        ({"warmup": "4"}, "not '4'"),
        ({"cooldown": float("nan")}, "cooldown must be"),
        ({"final": 1.5}, "final, the factor at the end, must be a number from 0 to 1, not 1.5"),
        ({"final": None}, "not None"),
        ({"warmup": 30, "cooldown": 11}, "warmup=30 and cooldown=11 take 41 steps, and total_steps is 40"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        WarmupStableDecay(optimizer(), **{"total_steps": STEPS, **arguments})
    with pytest.raises(TypeError, match="warm_up"):
        WarmupStableDecay(optimizer(), STEPS, warm_up=3)  # type: ignore[call-arg]


def test_every_shape_has_a_scheduler() -> None:
    assert {cls.shape for cls in EVERY} == {schedules.cosine, schedules.linear, schedules.wsd, schedules.inverse_sqrt}
