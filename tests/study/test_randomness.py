"""Models that draw random numbers: trials stay paired, repeatable and resumable, and disturb nobody."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steepest.study.declaration import Metric
from steepest.study.optimizers import sources
from steepest.study.planning.plan import Plan
from steepest.study.running.store import StudyFolder
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event, run_trial

from .small import net, planned, small
from .support import Crash, dropped, evaluations, events_of, record_bytes, run_with_checkpoints


def noise() -> float:
    return float(torch.randn(())) + np.random.randn() + random.gauss()


class Sampling(nn.Module):
    """It samples in training and in evaluation, as a variational autoencoder does, from all generators."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()
        with torch.no_grad():
            self.net[0].weight.add_(np.random.rand() + random.random())

    def forward(self, x: Tensor) -> Any:
        return self.net(x + noise())


class Dropping(nn.Module):
    """It drops units in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor) -> Any:
        return self.net(nn.functional.dropout(x, 0.5, self.training))


@pytest.fixture
def plan() -> Plan:
    return planned(small(model=Sampling), "sgd[lr=0]", "adam[lr=0]", epochs_wanted=3)


def figures(plan: Plan, number: int) -> list[dict[str, Any]]:
    records = [event.record for event in events_of(evaluations(plan)[number], plan.task)]
    return [record for record in records if record["kind"] != "trial"]


def disturb() -> None:
    torch.rand(3)
    np.random.rand(5)
    random.random()


def test_optimizers_of_a_seed_see_the_same_draws(plan: Plan) -> None:
    """With a learning rate of 0 weights are equal, so every figure is equal only if everything that is drawn is."""
    found = figures(plan, 0)
    disturb()
    assert figures(plan, 1) == found
    losses = [record["validation_loss"] for record in found if record["kind"] == "epoch"]
    assert len(set(losses)) == len(losses) == 4  # every evaluation draws anew


def test_what_was_measured_before_changes_no_evaluation(plan: Plan) -> None:
    often = planned(small(model=Sampling, evaluations=2), "sgd[lr=0]", epochs_wanted=3)
    rare, many = (
        {record["step"]: record for record in figures(one, 0) if record["kind"] == "epoch"} for one in (plan, often)
    )
    assert len(many) > len(rare)
    assert all(many[step]["validation_loss"] == rare[step]["validation_loss"] for step in rare)
    assert figures(often, 0)[-1]["test_loss"] == figures(plan, 0)[-1]["test_loss"]


def test_training_draws_the_same_however_often_is_measured(plan: Plan) -> None:
    often = planned(small(model=Sampling, evaluations=3), "sgd[lr=0]", epochs_wanted=3)
    one, two = ([record for record in figures(made, 0) if record["kind"] == "step"] for made in (plan, often))
    assert one == two


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StudyFolder]:
    study = StudyFolder(tmp_path / "study")
    with study.writing():
        yield study


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs[lr=0.5,max_iter=3]", "torch.optim:SGD[lr=0.1]"])
def test_a_resumed_trial_draws_what_an_uninterrupted_one_does(folder: StudyFolder, optimizer: str) -> None:
    made = planned(small(model=Sampling), optimizer, epochs_wanted=3)
    spec: TrialSpec = evaluations(made)[0]
    for step in (3, 9):
        dropped(spec, made.task, folder, step)
        disturb()
    first, *_ = run_with_checkpoints(spec, made.task, folder)
    assert first.record["kind"] == "resumed"
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, made.task))


def test_the_caller_gets_its_own_generators_back(plan: Plan) -> None:
    spec = evaluations(plan)[0]
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    events_of(spec, plan.task)
    told: list[Event] = []

    def crash(event: Event) -> None:
        told.append(event)
        if len(told) == 4:
            raise Crash

    with pytest.raises(Crash):
        run_trial(spec, plan.task, crash)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_a_metric_that_draws_is_seeded_too() -> None:
    guess = Metric("guess", "maximize", lambda outputs, targets: torch.rand(len(targets)) + np.random.rand())
    plan = planned(small(metric=guess), "sgd")
    found = figures(plan, 0)
    disturb()
    assert figures(plan, 0) == found


class Langevin(torch.optim.SGD):
    """It adds noise of its own to every gradient."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.add_(torch.randn_like(p))
        return super().step(closure)


class Searching(torch.optim.SGD):
    """It evaluates the loss twice in a step, and draws before, between and after."""

    def step(self, closure: Any) -> Any:
        torch.rand(3)
        losses = [closure(), torch.rand(3), closure()]
        torch.rand(3)
        super().step()
        assert losses[0].item() == losses[2].item()  # the same function
        return losses[0]


@pytest.mark.parametrize("noisy", [Langevin, Searching])
def test_what_an_optimizer_draws_changes_nobody_elses_draws(noisy: Any) -> None:
    """Again nothing moves, so all losses are those of a plain optimizer."""
    made = planned(small(model=Dropping), "torch.optim:SGD[lr=0]", f"{sources.give(noisy.__name__, noisy)}[lr=0]")
    steps = [[record for record in figures(made, number) if record["kind"] == "step"] for number in (0, 1)]
    assert len({record["loss"] for record in steps[0]}) == len(steps[0])
    assert steps[0] == steps[1]


@pytest.mark.parametrize("noisy", [Langevin, Searching])
def test_a_resumed_optimizer_draws_on(folder: StudyFolder, noisy: Any) -> None:
    made = planned(small(model=Dropping), sources.give(noisy.__name__, noisy), epochs_wanted=4)
    spec = evaluations(made)[0]
    dropped(spec, made.task, folder, 13)
    first, *_ = run_with_checkpoints(spec, made.task, folder)
    assert first.record["kind"] == "resumed"
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, made.task))
