"""torch's schedulers drive our classes as they drive torch's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cases import (
    SWITCHES,
    Twins,
    every_planned_class,
    train,
)
from shell import (
    assert_near,
    every_twin,
    tensors,
)
from steepest import Optimizer

SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "LambdaLR": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: 0.9**k),
    "MultiplicativeLR": lambda o: torch.optim.lr_scheduler.MultiplicativeLR(o, lambda k: 0.9),
    "StepLR": lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5], 0.5),
    "ConstantLR": lambda o: torch.optim.lr_scheduler.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.2, total_iters=4),
    "ExponentialLR": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingLR": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: torch.optim.lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=has_momentum(o)),
    "OneCycleLR": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20, cycle_momentum=has_momentum(o)),
    "SequentialLR": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [torch.optim.lr_scheduler.ConstantLR(o, 0.5, 3), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)],
        milestones=[4],
    ),
    "ChainedScheduler": lambda o: torch.optim.lr_scheduler.ChainedScheduler(
        [torch.optim.lr_scheduler.ConstantLR(o, 0.5, 3), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=0),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.02, anneal_epochs=3),
}


def has_momentum(optimizer: torch.optim.Optimizer) -> bool:
    return "betas" in optimizer.defaults or "momentum" in optimizer.defaults


def test_every_scheduler_of_torchs_is_tried() -> None:
    own = {
        name
        for name, cls in vars(torch.optim.lr_scheduler).items()
        if inspect.isclass(cls) and issubclass(cls, torch.optim.lr_scheduler.LRScheduler) and not name.startswith("_")
    }
    assert own - {"LRScheduler"} <= set(SCHEDULERS)


def scheduled(optimizer: torch.optim.Optimizer, name: str) -> list[tuple[float, Any]]:
    """The curve of rates, and of what stands for momentum, over ten steps."""
    scheduler = SCHEDULERS[name](optimizer)
    curve = []
    for k in range(10):
        train(optimizer, 1)
        metric = {"metrics": 1.0 + (k % 3)} if "metrics" in inspect.signature(scheduler.step).parameters else {}
        scheduler.step(**metric)
        group = optimizer.param_groups[0]
        curve.append((float(group["lr"]), group.get("betas", group.get("momentum"))))
    return curve


@pytest.mark.thin
@pytest.mark.parametrize("name", SCHEDULERS)
@every_twin
def test_schedulers_take_the_same_course_as_with_torch(twins: Twins, name: str) -> None:
    """With momentum on where it is an option, since CyclicLR and OneCycleLR move it."""
    options = {"lr": 0.05} | ({"momentum": 0.9} if "momentum" in twins[0].fields else {})
    ours, theirs = (cls(tensors(), **options) for cls in twins)
    assert scheduled(ours, name) == scheduled(theirs, name)
    assert_near(ours, theirs)


@pytest.mark.thin
@pytest.mark.parametrize("name", SCHEDULERS)
@every_planned_class
def test_schedulers_act_alike_on_both_executors(cls: type[Optimizer], name: str) -> None:
    fast, plain = (cls(tensors(torch.float64), lr=0.05, **SWITCHES[e]) for e in ("foreach", "reference"))
    assert scheduled(fast, name) == scheduled(plain, name)
    assert_near(fast, plain, 1e-12)
