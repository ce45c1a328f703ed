"""Samples of how optimizers move: right figures, no effect on anything else, equal bytes after an interruption."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steepest.study.declaration import Experiment, Metric
from steepest.study.errors import UsageError
from steepest.study.records.format import FIGURES
from steepest.study.running.store import StudyFolder
from steepest.study.trials.behaviour import Behaviour, part_of_pair, samples
from steepest.study.trials.clock import Clock
from steepest.study.trials.run import Run
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import ExperimentTask
from steepest.study.trials.trial import Event

from .small import planned, small
from .support import dropped, evaluations, events_of, record_bytes, run_with_checkpoints, trial_of_experiment

LR = 0.1
LOSS = Metric("loss", "minimize")
INPUTS = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))


def spec(optimizer: str = f"sgd[lr={LR}]", behaviour: bool = True) -> TrialSpec:
    return trial_of_experiment(optimizer, behaviour=behaviour)


def network() -> nn.Linear:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        for number, p in enumerate(model.parameters(), 1):
            p.copy_(torch.arange(1.0, p.numel() + 1).reshape(p.shape) / (7 * number))
    return model


def task(steps: int = 40, *, of: Callable[[nn.Module], Any] = lambda model: model, lazy: int = 0) -> ExperimentTask:
    """A training function on one batch; its optimizer does not step in step number `lazy`."""

    def train(run: Run) -> None:
        model = network()
        optimizer = run.optimizer(of(model))

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = model(INPUTS).tanh().square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        for step in run.steps(steps, keep={"model": model}):
            loss = closure()
            if step + 1 != lazy:
                optimizer.step(closure)  # type: ignore[arg-type]
            run.step(loss)
        with run.evaluating():
            run.validate(loss=model(INPUTS).square().mean())
        with run.evaluating("test"):
            run.test(loss=model(INPUTS).square().mean())

    return ExperimentTask(Experiment(function=train, metric=LOSS))


def sampled(events: list[Event]) -> dict[int, dict[str, Any]]:
    """The samples of a trial by step."""
    return {event.record["step"]: event.record for event in events if event.record["kind"] == "behaviour"}


def by_hand(steps: int) -> dict[int, dict[str, list[float]]]:
    """Gradient descent in NumPy, in double: the figures of every step, of both tensors and of them together."""
    x = INPUTS.double().numpy()
    model = network()
    w, b = (p.detach().double().numpy().copy() for p in (model.weight, model.bias))
    last: list[np.ndarray] = []
    found = {}
    for step in range(1, steps + 1):
        out = np.tanh(x @ w.T + b)
        slope = 2 * out * (1 - out**2) / out.size
        grads = [slope.T @ x, slope.sum(0)]
        moves = [-LR * g for g in grads]
        parts = [grads, moves, [w.copy(), b.copy()], last or [np.full_like(g, np.nan) for g in grads]]
        flat = [np.concatenate([part.ravel() for part in each]) for each in parts]
        found[step] = {
            "": figures(*flat),
            "weight": figures(*(part[0].ravel() for part in parts)),
            "bias": figures(*(part[1].ravel() for part in parts)),
        }
        w, b, last = w + moves[0], b + moves[1], moves
    return found


def figures(g: np.ndarray, u: np.ndarray, w: np.ndarray, before: np.ndarray) -> list[float]:
    norm = np.linalg.norm
    return [float(norm(g)), float(norm(u)), float(norm(w)), float(u @ before / norm(u) / norm(before))]


def test_the_figures_are_those_of_a_loop_by_hand() -> None:
    expected, found = by_hand(40), sampled(events_of(spec(), task()))
    assert list(found) == [2, 34]
    for step, record in found.items():
        assert [record[name] for name in FIGURES] == pytest.approx(expected[step][""], rel=1e-5, abs=1e-5)
        assert list(record["layers"]) == ["weight", "bias"]
        for name, layer in record["layers"].items():
            assert list(layer) == pytest.approx(expected[step][name], rel=1e-5, abs=1e-5)


def test_nothing_else_of_the_record_changes() -> None:
    with_samples, without = (events_of(spec(behaviour=on), task()) for on in (True, False))
    rest = [event for event in with_samples if event.record["kind"] != "behaviour"]
    assert record_bytes(rest[1:]) == record_bytes(without[1:])
    assert len(rest) < len(with_samples)


@pytest.mark.parametrize("at", [1, 32, 33, 34])
@pytest.mark.parametrize("optimizer", [f"sgd[lr={LR}]", "lbfgs[lr=0.1,max_iter=2]", "torch.optim:Adam"])
def test_a_pair_that_is_interrupted_ends_in_the_same_bytes(tmp_path: Path, optimizer: str, at: int) -> None:
    folder = StudyFolder(tmp_path / "study")
    with folder.writing():
        dropped(spec(optimizer), task(), folder, at + 1)
        run_with_checkpoints(spec(optimizer), task(), folder)
        assert record_bytes(folder, spec(optimizer)) == record_bytes(events_of(spec(optimizer), task()))


def test_a_step_that_was_not_taken_leaves_the_angle_open() -> None:
    found = sampled(events_of(spec(), task(lazy=33)))
    assert math.isnan(found[34]["cosine"])
    assert all(math.isnan(layer[-1]) for layer in found[34]["layers"].values())
    assert found[34]["update_norm"] > 0
    assert not math.isnan(found[2]["cosine"])
    assert list(sampled(events_of(spec(), task(lazy=34)))) == [2]


@pytest.mark.parametrize(
    ("of", "names"),
    [
        (lambda model: model.parameters(), ["0.0", "0.1"]),
        (lambda model: [{"params": [model.weight]}, {"params": [model.bias]}], ["0.0", "1.0"]),
        (lambda model: model.named_parameters(), ["weight", "bias"]),
    ],
)
def test_parameters_have_names_of_model_group_or_place(of: Callable[[nn.Module], Any], names: list[str]) -> None:
    assert list(sampled(events_of(spec(), task(of=of)))[2]["layers"]) == names


def test_several_optimizers_are_one_vector() -> None:
    def train(run: Run) -> None:
        model = network()
        parts = [run.optimizer([model.weight], "first"), run.optimizer([model.bias], "second")]
        for _ in run.steps(2, keep={"model": model}):
            loss = model(INPUTS).tanh().square().mean()
            model.zero_grad()
            loss.backward()
            for part in parts:
                part.step()
            run.step(loss)
        run.validate(loss=0.0)
        run.test(loss=0.0)

    record = sampled(events_of(spec(), ExperimentTask(Experiment(function=train, metric=LOSS))))[2]
    assert list(record["layers"]) == ["first.0.0", "second.0.0"]
    assert [record[name] for name in FIGURES] == pytest.approx(by_hand(2)[2][""], rel=1e-5)


class Steps:
    """Steps of parameters, watched. After each of them `afterwards` is called with the optimizer."""

    def __init__(
        self,
        p: Tensor,
        *moves: Tensor,
        grad: Tensor | None = None,
        scale: Tensor | None = None,
        afterwards: Callable[[Any], object] = lambda optimizer: None,
    ) -> None:
        p.grad = grad
        optimizer: Any = SimpleNamespace(param_groups=[{"params": [p]}], grad_scale=scale)
        self.taken = 0
        self.behaviour = Behaviour(Clock(), lambda: self.taken)
        watched = self.behaviour.watch("optimizer", optimizer, [p])
        for move in moves:
            watched.begin()
            p.data.add_(move)
            watched.end()
            self.taken += 1
            afterwards(optimizer)
        self.layers = (self.behaviour.sample() or {})["layers"]
        self.layer = dict(zip(FIGURES, self.layers["0.0"], strict=True))


def test_odd_parameters_have_their_norms() -> None:
    z = torch.zeros(2, dtype=torch.complex64)
    steps = Steps(z, torch.tensor([3.0, 4.0j]), torch.tensor([3.0j, 0.0]), grad=torch.tensor([1 + 2j, 2.0]))
    assert steps.layer == {"gradient_norm": 3.0, "update_norm": 3.0, "weight_norm": 5.0, "cosine": 0.0}
    rows = torch.sparse_coo_tensor([[1, 1]], [[3.0], [1.0]], (3, 1))
    assert Steps(torch.zeros(3, 1), torch.ones(3, 1), torch.ones(3, 1), grad=rows).layer["gradient_norm"] == 4.0
    assert Steps(torch.zeros(()), torch.tensor(2.0), torch.tensor(-1.0)).layer["cosine"] == -1.0
    assert Steps(torch.zeros(()), torch.tensor(2.0), torch.tensor(-1.0)).layer["gradient_norm"] == 0.0
    assert Steps(torch.zeros(0), torch.zeros(0), torch.zeros(0)).layer["update_norm"] == 0.0


def test_squares_neither_overflow_nor_vanish() -> None:
    for size in (1e30, 1e-30):
        x = torch.full((4,), size)
        layer = Steps(x.clone(), x, x, grad=x).layer
        assert layer["gradient_norm"] == pytest.approx(2 * size, rel=1e-5)
        assert layer["cosine"] == pytest.approx(1.0, rel=1e-5)


def test_a_parameter_that_does_not_move_has_no_angle() -> None:
    assert math.isnan(Steps(torch.ones(2), torch.zeros(2), torch.zeros(2)).layer["cosine"])


def test_gradients_are_divided_by_the_scale_that_the_optimizer_divides_by() -> None:
    steps = Steps(torch.ones(1), *torch.zeros(2, 1), grad=torch.full((1,), 8.0), scale=torch.tensor(4.0))
    assert steps.layer["gradient_norm"] == 2.0
    assert steps.behaviour.sample() is None


def test_a_parameter_that_joins_between_two_steps_is_left_to_the_next_pair() -> None:
    steps = Steps(
        torch.zeros(1),
        *torch.ones(2, 1),
        afterwards=lambda optimizer: optimizer.param_groups.append({"params": [torch.zeros(1)]}),
    )
    assert steps.layer["cosine"] == 1.0
    assert math.isnan(steps.layers["1.0"][-1])
    assert len(steps.layers) == 2


def test_pairs_become_rarer() -> None:
    pairs = [step for step in range(1, 100_001) if part_of_pair(step) == 2]
    assert all(part_of_pair(step - 1) == 1 for step in pairs)
    assert len(pairs) == samples(100_000) == 77
    gaps = [(later - step) / step for step, later in pairwise(pairs) if step > 512]
    assert max(gaps) <= 1 / 8 < 1 / 4 < 2 * max(gaps) + 0.01


def test_a_workload_samples_its_evaluation_and_no_search() -> None:
    plan = planned(small(), "sgd", trials_wanted=2)
    assert plan.search_trials
    assert not any(trial.spec.behaviour for trial in plan.search_trials)
    plan = planned(small(), "sgd")
    assert not any(trial.spec.behaviour for trial in replace(plan, timing_rounds=1).timing_trials(plan.given))
    (evaluation,) = evaluations(plan)
    assert evaluation.behaviour
    assert set(sampled(events_of(evaluation, plan.task))[2]["layers"]) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    (without,) = evaluations(planned(small(), "sgd", behaviour=False))
    assert not sampled(events_of(without, plan.task))
    assert "behaviour" not in without.document()
    assert TrialSpec.read(evaluation.document()) == evaluation


def test_sharpness_stands_in_the_log_of_every_evaluation() -> None:
    plan = planned(small(), "sgd", sharpness=True)
    (evaluation,) = evaluations(plan)
    events = events_of(evaluation, plan.task)
    logs = [event.record for event in events if event.record["kind"] == "log"]
    looks = [event.record for event in events if event.record["kind"] == "epoch"]
    assert [record["step"] for record in logs] == [record["step"] for record in looks]
    assert all(record["sharpness"] > 0 for record in logs)
    rest = [event for event in events[1:] if event.record["kind"] != "log"]
    assert record_bytes(rest) == record_bytes(events_of(replace(evaluation, sharpness=False), plan.task)[1:])


class Once(torch.autograd.Function):
    """The identity, without a second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.clone()


def test_a_loss_without_second_derivatives_is_refused_before_anything_runs() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(Once.apply(outputs), targets)

    planned(small(loss=loss), "sgd")
    with pytest.raises(UsageError, match="--sharpness needs second derivatives"):
        planned(small(loss=loss), "sgd", sharpness=True)
