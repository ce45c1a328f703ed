"""What a run gives a training function and what it refuses: groups, rates, weights to measure, the end."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steepest
from steepest.study import no_decay
from steepest.study.declaration import Experiment, Metric
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import parse_config
from steepest.study.planning.rehearsal import Rehearsal, is_deaf_to_seeds, rehearse
from steepest.study.trials.run import Run
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import ExperimentTask

from .support import events_of, trial_of_experiment

LOSS = Metric("loss", "minimize")


def task(function: Callable[[Run], None]) -> ExperimentTask:
    return ExperimentTask(Experiment(function=function, metric=LOSS))


def trial(optimizer: str = "adam", schedule: str = "constant") -> TrialSpec:
    return trial_of_experiment(optimizer, schedule)


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
    loss = model(torch.randn(8, 3)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def trained(made: Callable[[Run, nn.Module], torch.optim.Optimizer], steps: int = 5) -> Callable[[Run], None]:
    """Return a training function whose optimizer is made like this."""

    def function(run: Run) -> None:
        model = nn.Linear(3, 1)
        optimizer = made(run, model)
        for _ in run.steps(steps, keep={"model": model}):
            run.step(stepped(model, optimizer))
        with run.evaluating():
            measured = model(torch.ones(8, 3)).square().mean()
        run.validate(loss=measured)
        with run.evaluating("test"):
            measured = model(torch.ones(8, 3)).square().mean()
        run.test(loss=measured)

    return function


def test_an_optimizer_is_made_of_a_model_of_parameters_or_of_groups() -> None:
    ways = [
        lambda run, model: run.optimizer(model),
        lambda run, model: run.optimizer(model.parameters()),
        lambda run, model: run.optimizer([{"params": [model.weight]}, {"params": [model.bias]}]),
    ]
    for optimizer in ("adam", "torch.optim:Adam"):
        ends = [events_of(trial(optimizer), task(trained(way)))[-1].record for way in ways]
        assert ends[0] == ends[1] == ends[2]


def test_groups_may_have_options_of_their_own_but_no_rate() -> None:
    assert no_decay is steepest.groups.no_decay

    def without_decay(run: Run, model: nn.Linear) -> torch.optim.Optimizer:
        made = run.optimizer([{"params": [model.weight]}, {"params": [model.bias], "weight_decay": 0.0}])
        assert [group["weight_decay"] for group in made.param_groups] == [0.1, 0.0]
        return made

    events_of(trial("adamw[weight_decay=0.1]"), task(trained(without_decay)))
    own = trained(lambda run, model: run.optimizer([{"params": [model.weight], "lr": 0.5}]))
    with pytest.raises(UsageError, match=r"groups with rates of their own \(lr\), which the study sets; leave them"):
        events_of(trial(), task(own))


@pytest.mark.parametrize("schedule", ["constant", "linear[warmup=0]"])
def test_a_share_of_the_rate_holds_under_any_schedule(schedule: str) -> None:
    seen: list[list[float]] = []

    def halved(run: Run, model: nn.Linear) -> torch.optim.Optimizer:
        made = run.optimizer([{"params": [model.weight]}, {"params": [model.bias]}])
        made.param_groups[1]["lr"] /= 2
        made.register_step_pre_hook(lambda one, *_: seen.append([group["lr"] for group in one.param_groups]))
        return made

    events_of(trial("sgd[lr=0.1]", schedule), task(trained(halved, steps=4)))
    factors = [1.0] * 4 if schedule == "constant" else [1.0, 0.75, 0.5, 0.25]
    assert seen[-4:] == [pytest.approx([0.1 * factor, 0.05 * factor]) for factor in factors]


def test_a_factory_that_takes_the_model_is_not_given_parameters(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_model.py").write_text(
        "import torch\ndef whole(model, lr=0.1):\n    return torch.optim.SGD(model.parameters(), lr=lr)\n"
    )
    spec = trial("of_model.py:whole")
    events_of(spec, task(trained(lambda run, model: run.optimizer(model))))
    with pytest.raises(
        UsageError, match=r"of_model\.py:whole takes a model; give run\.optimizer the model in place of"
    ):
        events_of(spec, task(trained(lambda run, model: run.optimizer(model.parameters()))))


def with_scheduler(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    made = run.optimizer(model)
    torch.optim.lr_scheduler.StepLR(made, 2)
    return made


def test_two_schedules_of_one_rate_are_refused() -> None:
    events_of(trial(schedule="constant"), task(trained(with_scheduler)))
    with pytest.raises(
        UsageError, match=r"scheduler is attached .* the study's schedule cosine .* --schedule constant"
    ):
        events_of(trial(schedule="cosine"), task(trained(with_scheduler)))


def test_averaged_weights_are_measured_in_a_block_before_every_report() -> None:
    def half_right(run: Run) -> None:
        model = nn.Linear(3, 1)
        optimizer = run.optimizer(model)
        for _ in run.steps(3):
            run.step(stepped(model, optimizer))
        with run.evaluating():
            measured = model(torch.ones(8, 3)).square().mean()
        run.validate(loss=measured)
        run.test(loss=model(torch.ones(8, 3)).square().mean())  # of the raw weights

    events_of(trial("adam"), task(half_right))
    with pytest.raises(
        UsageError, match=r"has other weights for evaluation .* before every run\.test: with run\.evalu"
    ):
        events_of(trial("adam[ema_decay=0.9]"), task(half_right))


def test_steps_that_do_not_fill_their_epochs_are_refused() -> None:
    def uneven(run: Run) -> None:
        run.optimizer(nn.Linear(3, 1))
        next(iter(run.steps(50, per_epoch=20)))

    with pytest.raises(
        UsageError, match=re.escape("run.steps(50, per_epoch=20) ends in the middle of an epoch; take a")
    ):
        events_of(trial(), task(uneven))


def swallowing(after: list[int]) -> Callable[[Run], None]:
    """Return a training function that catches everything, and goes on for a while."""

    def function(run: Run) -> None:
        model = nn.Linear(3, 1)
        optimizer = run.optimizer(model)
        for step in run.steps(20, keep={"model": model}):
            with suppress(BaseException):
                loss = stepped(model, optimizer)
                run.step(loss * float("nan") if step == 4 else loss)
                after.append(step)
        raise RuntimeError("the trainer is confused")

    return function


def test_a_run_that_is_over_stays_over_where_its_end_is_swallowed() -> None:
    after: list[int] = []
    *_, end = events_of(trial(), task(swallowing(after)))
    assert (end.record["status"], end.record["step"]) == ("diverged", 5)
    assert after[-4:] == [0, 1, 2, 3]


def rehearsed(function: Callable[[Run], None]) -> Rehearsal:
    return rehearse(parse_config("adam", {}), trial(), task(function), Path(__file__))


def test_a_mistake_in_the_function_is_told_with_its_line() -> None:
    def mistaken(run: Run) -> None:
        model = nn.Linear(3, 1)
        run.optimizer(model)
        for _ in run.steps(3):
            run.step(model(torch.ones(1, 4)))

    line = mistaken.__code__.co_firstlineno + 4
    assert str(rehearsed(mistaken).report.skipped).endswith(f"(line {line} of {__file__})")


def test_figures_may_be_tensors_with_gradients() -> None:
    def careless(run: Run) -> None:
        model = nn.Linear(3, 1)
        optimizer = run.optimizer(model)
        for _ in run.steps(3):
            loss = stepped(model, optimizer)
            run.step(loss, twice=2 * loss)
            run.log(thrice=3 * loss)
        run.validate(loss=loss)
        run.test(loss=loss)

    records = [event.record for event in events_of(trial(), task(careless))]
    losses = [record["loss"] for record in records if record["kind"] == "step"]
    (epoch,) = [record for record in records if record["kind"] == "epoch"]
    assert epoch["train_twice"] == pytest.approx(2 * sum(losses) / 3)
    assert [record["thrice"] for record in records if record["kind"] == "log"] == pytest.approx([3 * x for x in losses])
    assert records[-1]["test_loss"] == losses[-1]


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (lambda run: run.step(torch.ones(2)), "run.step takes one number, not a Tensor of shape (2,)"),
        (
            lambda run: run.step(1.0, seen=torch.ones(2)),
            "run.step(..., seen=...) takes one number, not a Tensor of shape",
        ),
        (lambda run: run.validate(loss=None), "run.validate(loss=...) takes one number, not a NoneType None"),
        (lambda run: run.validate(los=1.0), "run.validate takes the study's metric 'loss' and 'loss', not 'los'"),
        (lambda run: run.log(loss="high"), "run.log(loss=...) takes one number, not a str 'high'"),
        (lambda run: run.test(loss=1.0), "run.test was called before the loop ended"),
        (lambda run: run.optimizer(nn.Linear(1, 1)), "run.optimizer is called before the loop begins"),
    ],
)
def test_a_report_that_makes_no_sense_is_refused(report: Callable[[Run], None], told: str) -> None:
    def function(run: Run) -> None:
        run.optimizer(nn.Linear(3, 1))
        for _ in run.steps(3):
            report(run)

    with pytest.raises(UsageError, match=re.escape(told)):
        events_of(trial(), task(function))


def test_a_function_that_steps_another_optimizer_is_told() -> None:
    def another(run: Run, model: nn.Module) -> torch.optim.Optimizer:
        run.optimizer(model)
        return torch.optim.SGD(model.parameters(), lr=0.1)

    (problem,) = rehearsed(trained(another)).report.problems
    assert problem.startswith("run.step was called, and the run's optimizer has taken no step: call step() of the opt")
    assert rehearsed(trained(lambda run, model: run.optimizer(model))).report.problems == ()


@pytest.mark.parametrize("seeded", [False, True])
def test_a_function_that_seeds_itself_is_told(seeded: bool) -> None:
    def function(run: Run) -> None:
        if seeded:
            torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = run.optimizer(model)
        for step in run.steps(3):
            if seeded and step == 0:
                torch.manual_seed(1)
            run.step(stepped(model, optimizer))

    config, facts = parse_config("adam", {}), rehearsed(function).facts
    assert is_deaf_to_seeds(config, trial(), task(function), facts) is seeded


def test_an_optimizers_own_weight_decay_holds_for_groups_without_one() -> None:
    found: list[float] = []

    def grouped(run: Run, model: nn.Module) -> torch.optim.Optimizer:
        optimizer = run.optimizer(no_decay(model))
        found.extend(group["weight_decay"] for group in optimizer.param_groups)
        return optimizer

    events_of(trial("adamw[weight_decay=0.25]"), task(trained(grouped)))
    assert set(found) == {0.25, 0}


@pytest.mark.parametrize("count", [0, -3, 2.5, True, "10"])
def test_a_count_of_steps_is_a_whole_number(count: Any) -> None:
    def function(run: Run) -> None:
        run.every(count)

    with pytest.raises(
        ValueError, match=re.escape(f"run.every takes a whole number of steps of at least 1, not {count!r}")
    ):
        events_of(trial(), task(function))


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_every_epoch_has_the_steps_that_the_loop_says(wrong: int) -> None:
    def function(run: Run) -> None:
        model = nn.Linear(3, 1)
        optimizer = run.optimizer(model)
        for epoch in run.epochs(3, steps=4, keep={"model": model}):
            for _ in range(3 if epoch == wrong else 4):
                run.step(stepped(model, optimizer))
            run.validate(loss=0.5)
        run.test(loss=0.5)

    with pytest.raises(UsageError, match="an epoch had 3 steps, and the loop says 4"):
        events_of(trial(), task(function))


def test_one_optimizer_of_a_task_is_warmed_up_once_in_a_process() -> None:
    calls: list[int] = []

    def function(run: Run) -> None:
        calls.append(run.seed)
        trained(lambda run, model: run.optimizer(model))(run)

    one = task(function)
    for optimizer, counted in (("adam", 2), ("adam[lr=0.1]", 1), ("sgd", 2)):
        calls.clear()
        events_of(trial(optimizer), one)
        assert len(calls) == counted
