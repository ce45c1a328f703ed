"""Every scheduler of torch's, with float and tensor rates, takes our class along as it takes torch's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler, swa_utils

from .support import OURS, TORCHS, Configuration, Info, Problem, assert_close, assert_states_close, rounding, values

STEPS = 12

SCHEDULERS: dict[str, Callable[..., Any]] = {
    name: cls
    for module in (lr_scheduler, swa_utils)
    for name, cls in vars(module).items()
    if inspect.isclass(cls) and issubclass(cls, lr_scheduler.LRScheduler) and cls is not lr_scheduler.LRScheduler
    if not name.startswith("_")
}


def two_schedules(optimizer: torch.optim.Optimizer) -> list[Any]:
    """For the schedulers that combine others."""
    return [lr_scheduler.ConstantLR(optimizer, 0.5, 3), lr_scheduler.ExponentialLR(optimizer, 0.9)]


ARGUMENTS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "lr_lambda": lambda optimizer: lambda epoch: 0.9**epoch,
    "step_size": lambda optimizer: 3,
    "milestones": lambda optimizer: [2, 5],
    "gamma": lambda optimizer: 0.5,
    "schedulers": lambda optimizer: [
        lr_scheduler.ConstantLR(optimizer, 0.5, 3),
        lr_scheduler.ExponentialLR(optimizer, 0.9),
    ],
    "T_max": lambda optimizer: 5,
    "T_0": lambda optimizer: 3,
    "base_lr": lambda optimizer: 0.01,
    "max_lr": lambda optimizer: 0.1,
    "swa_lr": lambda optimizer: 0.02,
    "total_steps": lambda optimizer: 20,
    "patience": lambda optimizer: 0,
    "cycle_momentum": lambda optimizer: has_momentum(optimizer),
}
"""A value for every argument that some scheduler needs, or that shows more than its default; a new one is missed."""


def has_momentum(optimizer: torch.optim.Optimizer) -> bool:
    """Whether there is something to cycle."""
    return bool(optimizer.defaults.get("betas") or optimizer.defaults.get("momentum"))


def made(name: str, optimizer: torch.optim.Optimizer) -> Any:
    """The scheduler over ``optimizer``."""
    parameters = inspect.signature(SCHEDULERS[name]).parameters
    needed = {n for n, p in parameters.items() if p.default is p.empty and n != "optimizer"}
    given = {n: ARGUMENTS[n](optimizer) for n in parameters if n in needed | ARGUMENTS.keys()}
    if "milestones" in given and "schedulers" in given:
        given["milestones"] = [4]
    if "optimizer" in parameters:
        given["optimizer"] = optimizer
    return SCHEDULERS[name](**given)


def course(configuration: Configuration, cls: type[torch.optim.Optimizer], name: str) -> tuple[Any, ...]:
    """Rates and momenta of every step, and where they lead to."""
    problem = Problem(configuration)
    optimizer = cls(problem.params, **configuration.options)
    rate = optimizer.param_groups[0]["lr"]
    scheduler = made(name, optimizer)
    numbers = []
    for step in range(STEPS):
        problem.advance(optimizer)
        metric = {"metrics": 1.0 + step % 3} if "metrics" in inspect.signature(scheduler.step).parameters else {}
        scheduler.step(**metric)
        group = optimizer.param_groups[0]
        numbers.append([float(group["lr"]), group.get("betas"), group.get("momentum")])
    if isinstance(rate, torch.Tensor):
        assert optimizer.param_groups[0]["lr"] is rate
    return numbers, problem, optimizer


def options(info: Info) -> dict[str, Any]:
    """With momentum where it is an option, for the schedulers that cycle it; few evaluations within a step."""
    return {name: value for name, value in {"momentum": 0.9, "max_iter": 2}.items() if name in info.optim_cls.fields}


@cache
def torchs_course(info: Info, name: str) -> tuple[Any, ...]:
    """With a float rate; once for all rates."""
    return course(Configuration(info, "scheduled", {**options(info), "lr": 0.03125}), TORCHS[info.name].optim_cls, name)


@pytest.mark.thin("rate", "name")
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("rate", [float, partial(torch.tensor, dtype=torch.float64)], ids=["float", "tensor"])
@pytest.mark.parametrize("info", OURS.values(), ids=list(OURS))
def test_the_course_is_torchs(info: Info, rate: Callable[[float], Any], name: str) -> None:
    """With a tensor rate, too, the course of torch's class is the one that it takes with a float rate: its LBFGS keeps
    the rate tensor itself as the step that it took, and a schedule that writes into it makes the curvature wrong.
    """
    ours = course(Configuration(info, "scheduled", {**options(info), "lr": rate(0.03125)}), info.optim_cls, name)
    theirs = torchs_course(info, name)
    assert ours[0] == theirs[0]
    assert len({lr for lr, *_ in ours[0]}) > 1, "the schedule moves nothing"
    assert_close(values(ours[1].params), values(theirs[1].params), rounding(info.optim_cls))
    assert_states_close(ours[2], theirs[2], rounding(info.optim_cls))
