"""One trial: equal trials are equal bytes, equal seeds start equal, and what goes wrong is told exactly."""

import dataclasses
import json
import math
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steepest.study.data.splits import Sizes
from steepest.study.declaration import Metric
from steepest.study.errors import UsageError
from steepest.study.planning.plan import Plan
from steepest.study.records import records
from steepest.study.trials import performance
from steepest.study.trials.performance import perform
from steepest.study.trials.run import Ended, Run, Watcher
from steepest.study.trials.trial import Event

from .small import fitted, planned, small
from .support import PlanMaker, evaluations, events_of

Lines = list[dict[str, Any]]


def run(plan: Plan, number: int = 0, **changes: Any) -> list[Event]:
    return events_of(dataclasses.replace(evaluations(plan)[number], **changes), plan.task)


def lines(events: list[Event], kind: str | None = None) -> Lines:
    return [event.record for event in events if kind in (None, event.record["kind"])]


def stored(events: list[Event]) -> bytes:
    return b"".join(records.encode(event.record) for event in events)


def test_the_records_of_a_trial(plan: PlanMaker) -> None:
    events = run(plan("adam", epochs_wanted=2))
    sampled, epoch = ["step", "step", "behaviour", "epoch"], ["step", "step", "epoch"]
    assert [line["kind"] for line in lines(events)] == ["trial", "epoch", *sampled, *epoch, "end"]
    first, *others = lines(events, "epoch")
    assert set(first) == {"kind", "epoch", "step", "evaluations", "validation_loss", "validation_accuracy"}
    assert [(line["epoch"], line["step"]) for line in others] == [(1, 2), (2, 4)]
    assert set(others[0]) == {*first, "train_loss", "train_accuracy"}
    end = lines(events)[-1]
    assert (end["status"], end["step"], end["epoch"], end["evaluations"]) == ("finished", 4, 2, 4)
    assert {"test_loss", "test_accuracy"} <= set(end)


def test_the_specification_is_complete_and_is_json(plan: PlanMaker) -> None:
    made = plan("adam[lr=0.02]")
    spec = json.loads(records.encode(lines(run(made))[0]))["spec"]
    assert spec["optimizer"]["options"]["lr"] == 0.02
    assert spec["optimizer"]["options"]["betas"] == [0.9, 0.999]
    assert spec["data"]["sha256"]["digits"]
    assert spec["versions"]["torch"] == torch.__version__
    assert spec["threads"] == torch.get_num_threads()
    for key in ("seed", "epochs", "batch_size", "precision", "workload", "model", "metric"):
        assert key in spec
    assert evaluations(made)[0].id.startswith("adam-evaluation-seed0-")


def test_the_identity_depends_on_everything(plan: PlanMaker) -> None:
    spec = evaluations(plan("adam"))[0]
    changed = [
        evaluations(plan("adam[lr=0.02]"))[0],
        evaluations(plan("adam", precision="bf16"))[0],
        evaluations(plan("adam", all_train=True))[0],
        dataclasses.replace(spec, seed=1),
        dataclasses.replace(spec, epochs=9),
    ]
    assert len({one.id for one in (spec, *changed)}) == 6
    assert evaluations(plan("adam"))[0].id == spec.id


@pytest.mark.parametrize("optimizer", ["adam", "steepestdescent"])
def test_equal_trials_are_equal_bytes(plan: PlanMaker, optimizer: str) -> None:
    assert stored(run(plan(optimizer))) == stored(run(plan(optimizer)))


def test_records_hold_no_time_and_no_path(plan: PlanMaker) -> None:
    text = stored(run(plan("adam"))).decode()
    assert "seconds" not in text
    assert "/" not in text


def test_all_optimizers_of_a_seed_see_the_same_things(plan: PlanMaker) -> None:
    """With a learning rate of 0 nothing moves: then every loss of every step is equal only if weights, batches and
    dropped units are.
    """
    made = plan("sgd[lr=0]", "adam[lr=0]", "rmsprop[lr=0]", "novograd[lr=0]", epochs_wanted=3)
    steps = [lines(run(made, number), "step") for number in range(4)]
    assert len(steps[0]) == 6
    assert steps[0] == steps[1] == steps[2] == steps[3]


def test_another_seed_sees_other_things(plan: PlanMaker) -> None:
    made = plan("sgd", seeds=2)
    assert lines(run(made, 0), "epoch")[0] != lines(run(made, 1), "epoch")[0]


def test_the_order_changes_from_epoch_to_epoch(plan: PlanMaker) -> None:
    losses = [line["loss"] for line in lines(run(plan("sgd[lr=0]", workload="mini-batch", epochs_wanted=2)), "step")]
    assert losses[: len(losses) // 2] != losses[len(losses) // 2 :]
    assert len(set(losses)) == len(losses)


def test_the_warm_up_leaves_nothing(plan: PlanMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    warm = stored(run(plan("adam")))
    monkeypatch.setattr(performance, "WARM_UP_STEPS", 0)
    assert stored(run(plan("adam"))) == warm


def test_torch_is_left_as_it_was(plan: PlanMaker) -> None:
    before = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    run(plan("adam", precision="bf16"))
    after = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_train_figures_are_running_means_over_the_epoch(plan: PlanMaker) -> None:
    events = run(plan("sgd"))
    losses = [line["loss"] for line in lines(events, "step")]
    assert lines(events, "epoch")[1]["train_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-12)


def test_evaluation_uses_running_statistics_and_no_dropout(plan: PlanMaker) -> None:
    """Evaluating again gives the same, and training goes on as if nobody had looked."""
    made = plan("sgd", epochs_wanted=2)
    blind = dataclasses.replace(made.task.splits, validation=made.task.splits.validation.at(torch.arange(0)))
    unseen = events_of(evaluations(made)[0], dataclasses.replace(made.task, splits=blind))
    assert lines(unseen, "step") == lines(run(made), "step")
    assert "validation_loss" not in lines(unseen, "epoch")[-1]


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_clock_stands_still_during_metrics_and_evaluation(plan: PlanMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    made = plan("sgd")

    def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
        clock.now += 10.0
        return made.task.metric.of(outputs, targets)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        clock.now += 1.0 if torch.is_grad_enabled() else 100.0
        return made.task.loss(outputs, targets)

    task = dataclasses.replace(made.task, loss=loss, metric=Metric("accuracy", "maximize", accuracy))
    timing = events_of(evaluations(made)[0], task)[-1].timing
    assert timing is not None
    assert timing["train_seconds"] == 2.0  # two steps
    warm_up, measured = 2 * 11.0, 3 * 110.0  # two validations and a test
    assert timing["total_seconds"] == warm_up + measured + 2 * 11.0


def test_times_count_examples_and_name_the_executor(plan: PlanMaker) -> None:
    events = run(plan("adam[foreach=false]", epochs_wanted=2))
    timings = [event.timing for event in events if event.timing and event.record["kind"] == "epoch"]
    assert [(timing["epoch"], timing["examples"]) for timing in timings] == [(1, 128), (2, 256)]
    assert timings[0]["train_seconds"] < timings[1]["train_seconds"]
    assert events[-1].timing is not None
    assert events[-1].timing["executor"] == "reference"


@pytest.mark.parametrize("workload", ["digits", "linear-regression"])
def test_divergence_ends_the_trial_at_its_step(plan: PlanMaker, workload: str) -> None:
    events = run(plan("sgd[lr=1e20]", workload=workload, epochs_wanted=3))
    *finite, last = [float(line["loss"]) for line in lines(events, "step")]
    end = lines(events)[-1]
    assert not math.isfinite(last)
    assert all(map(math.isfinite, finite))
    assert (end["status"], end["step"]) == ("diverged", len(finite) + 1)
    assert end["reason"] == f"loss is {last} at step {end['step']}"
    assert "test_accuracy" not in end


def test_a_validation_loss_that_is_no_number_is_divergence_too(plan: PlanMaker) -> None:
    made = plan("sgd")

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        honest = made.task.loss(outputs, targets)
        return honest if torch.is_grad_enabled() else honest * math.inf

    events = events_of(evaluations(made)[0], dataclasses.replace(made.task, loss=loss))
    assert lines(events)[-1]["reason"] == "validation loss is inf at step 0"
    assert [line["kind"] for line in lines(events)] == ["trial", "epoch", "end"]


def test_a_rule_that_asks_for_gradients_gets_a_closure_and_is_counted(plan: PlanMaker) -> None:
    end = lines(run(plan("steepestdescent", workload="full-batch", epochs_wanted=3)))[-1]
    assert (end["status"], end["step"]) == ("finished", 3)
    assert end["evaluations"] > 3


def test_look_ahead_takes_its_gradient_in_the_same_trial(plan: PlanMaker) -> None:
    end = lines(run(plan("nag[true_lookahead=true]")))[-1]
    assert (end["status"], end["step"]) == ("finished", 2)


def test_averaged_weights_are_what_is_measured(plan: PlanMaker) -> None:
    plain, averaged = run(plan("adam")), run(plan("adam[ema_decay=0.5]"))
    assert lines(plain, "step") == lines(averaged, "step")
    assert lines(plain, "epoch")[0] == lines(averaged, "epoch")[0]
    assert lines(plain, "epoch")[1]["validation_loss"] != lines(averaged, "epoch")[1]["validation_loss"]


def test_bf16_is_another_experiment_with_close_numbers(plan: PlanMaker) -> None:
    full, half = (lines(run(plan("sgd", precision=one)), "step")[0]["loss"] for one in ("fp32", "bf16"))
    assert full != half
    assert half == pytest.approx(full, rel=0.02)  # bfloat16 keeps 8 bits


def test_any_other_trouble_raises(plan: PlanMaker) -> None:
    made = plan("sgd")
    broken = dataclasses.replace(made.task, model=lambda: torch.nn.Linear(3, 3))
    with pytest.raises(RuntimeError, match="shape"):
        events_of(evaluations(made)[0], broken)


def quadratic(**changes: Any) -> Plan:
    """Plan a linear model whose batches differ in size: 45 examples in batches of 16."""
    made = fitted(lambda: nn.Linear(4, 1), squared, sizes=Sizes(45, 20, 15), horizon=2, **changes)
    return planned(made, "sgd[lr=0.1]", behaviour=False)


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.squeeze(1) - targets).square().mean()


@pytest.mark.parametrize("parts", [2, 3, 16])
def test_accumulated_parts_add_up_to_the_batch(parts: int) -> None:
    whole, divided = (
        lines(events_of(evaluations(plan)[0], plan.task)) for plan in (quadratic(), quadratic(accumulate=parts))
    )
    assert divided[0]["spec"]["accumulate"] == parts
    assert "accumulate" not in whole[0]["spec"]
    for one, other in zip(whole[1:], divided[1:], strict=True):
        numbers = [{key: value for key, value in line.items() if not isinstance(value, str)} for line in (one, other)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)


def test_a_long_gradient_is_scaled_down() -> None:
    """With a rate of 1 the weights move by the norm; here in one step."""
    found: list[float] = []
    before = {}

    class Moves(Watcher):
        measures = False

        def begun(self, run: Run) -> None:
            before.update({name: value.detach().clone() for name, value in run.loop.keep["model"].named_parameters()})

        def stepped(self, run: Run, loss: float) -> None:
            moves = [value.detach() - before[name] for name, value in run.loop.keep["model"].named_parameters()]
            found.append(math.sqrt(sum(float(move.square().sum()) for move in moves)))
            raise Ended

    for norm in (0.01, 1e9, None):
        plan = planned(fitted(lambda: nn.Linear(4, 1), squared, max_norm=norm), "sgd[lr=1.0]")
        perform(plan.task, evaluations(plan)[0], Moves())
    assert found[0] == pytest.approx(0.01, rel=1e-4)
    assert found[1] == found[2] > 0.1


def test_evaluations_may_come_every_few_steps() -> None:
    events = events_of(evaluations(plan := quadratic(evaluate_every=2))[0], plan.task)
    assert [line["step"] for line in lines(events, "epoch")] == [0, 2, 4, 6]
    assert [line["epoch"] for line in lines(events, "epoch")] == [0, pytest.approx(2 / 3), pytest.approx(4 / 3), 2]
    assert plan.document.config.evaluate_every == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"accumulate": 17}, "accumulate=17 divides a batch of 16 into more parts than it has examples"),
        ({"accumulate": 0}, "accumulate of a workload must be a whole number of at least 1, not 0"),
        ({"max_norm": 0}, "max_norm of a workload must be a number above 0, not 0"),
        ({"evaluate_every": 0}, "evaluate_every of a workload must be a whole number of at least 1, not 0"),
        ({"evaluate_every": 2, "evaluations": 2}, "evaluations and evaluate_every both say when to evaluate"),
    ],
)
def test_loops_that_make_no_sense_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        small(**options)
