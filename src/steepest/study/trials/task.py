"""The task of a declared workload: its network, its data and its training function.

Another process loads it by its name.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from steepest.study import seeds, workloads
from steepest.study.data import adapt
from steepest.study.data.dataset import DataSet, Examples, Splits
from steepest.study.data.splits import Sizes, split
from steepest.study.declaration import Experiment, Loss, Metric, Workload
from steepest.study.errors import UsageError
from steepest.study.trials.evaluation import evaluate
from steepest.study.trials.optimizers import asks_for_gradients
from steepest.study.trials.run import Run, Trainable
from steepest.study.trials.spec import TaskName, TrialSpec

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """A network, its loss and metric, three sets of examples, and the digests of their data."""

    model: Callable[[], nn.Module]
    loss: Loss
    metric: Metric
    splits: Splits
    sha256: Mapping[str, str] = field(default_factory=dict)
    evaluate_every: int | None = None
    accumulate: int = 1
    max_norm: float | None = None
    is_ours = True

    def train(self, run: Run, spec: TrialSpec) -> None:
        """Train the network in the loop of declared workloads."""
        _train(run, spec, self)


@dataclass(frozen=True, eq=False)
class ExperimentTask:
    """A training function of the user's."""

    experiment: Experiment
    is_ours = False
    sha256: ClassVar[Mapping[str, str]] = {}

    @property
    def metric(self) -> Metric:
        """The metric that it declares."""
        return self.experiment.metric

    def train(self, run: Run, spec: TrialSpec) -> None:
        """Call the function."""
        del spec
        self.experiment.function(run)


def task_of(workload: Workload, data: DataSet, sizes: Sizes) -> Task:
    """Return the task of a workload on these data."""
    return Task(workload.model, workload.loss, workload.metric, split(data, sizes), data.sha256, **workload.loop)


@cache
def load_task(name: TaskName, data_dir: Path | None = None) -> Trainable:
    """Return the task of this name, loading its code and data once per process."""
    declaration = workloads.find(name.source)(name.preset)
    if isinstance(declaration, Experiment):
        return ExperimentTask(declaration)
    assert isinstance(declaration, Workload)
    assert name.sizes is not None
    return task_of(declaration, adapt.load(declaration.data, data_dir), name.sizes)


def _train(run: Run, spec: TrialSpec, task: Task) -> None:
    """Train a task's model for the epochs of a specification, evaluate it at every mark, and test it at the end."""
    assert spec.epochs is not None
    model = initial_model(task).to(run.device)
    optimizer = run.optimizer(model)
    asks = asks_for_gradients(optimizer)
    scaler, forward = run.scaler, run.autocast()
    if asks and scaler.is_enabled():
        raise UsageError("fp16 scales the loss, and an optimizer that evaluates it itself does not know; use bf16")
    batches = Batches(task.splits.train.to(run.device), spec)
    gradient = partial(_gradient, task, model, forward, scaler, optimizer)
    keep = {"model": model, "order": batches}
    for step in run.steps(spec.epochs * batches.count, per_epoch=batches.count, keep=keep):
        if step == 0:
            _validate(run, spec, task, model)
        with run.untimed():
            inputs, targets = batches.next()
        seen: list[tuple[Tensor, Tensor]] = []

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss, outputs = gradient(inputs, targets)  # noqa: B023 - called in this pass of the loop only
            seen.append((loss, outputs))  # noqa: B023
            return loss

        if asks:
            optimizer.step(closure)  # type: ignore[arg-type]
        else:
            closure()
            scaler.step(optimizer)
            scaler.update()
        loss, outputs = seen[0]  # before the step
        with run.untimed():
            figures = _figures(task, outputs, targets)
        run.step(loss, examples=len(targets), **figures)
        if batches.marked if task.evaluate_every is None else run.every(task.evaluate_every):
            _validate(run, spec, task, model)
    run.test(**_measured(run, spec, task, model, "test"))


def _gradient(
    task: Task,
    model: nn.Module,
    forward: AbstractContextManager[object],
    scaler: torch.amp.GradScaler,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
) -> tuple[Tensor, Tensor]:
    """Add a batch's gradient to the parameters', part by part, and clip it. Return the loss and the outputs."""
    losses, outputs = [], []
    parts = [(inputs, targets)] if task.accumulate == 1 else _parts(inputs, targets, task.accumulate)
    for some, wanted in parts:
        with forward:
            made = model(some)
        made = made.float()
        loss = task.loss(made, wanted)
        if task.accumulate > 1:
            loss = loss * (len(wanted) / len(targets))
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        outputs.append(made.detach())
    if task.max_norm is not None:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), task.max_norm)
    if task.accumulate == 1:
        return losses[0], outputs[0]
    return torch.stack(losses).sum(), torch.cat(outputs)


def _parts(inputs: Tensor, targets: Tensor, count: int) -> list[Batch]:
    return list(zip(inputs.chunk(count), targets.chunk(count), strict=True))


def initial_model(task: Task) -> nn.Module:
    """Return the untrained model, with weights drawn from the active stream."""
    model = task.model()
    if task.splits.train.images:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def steps_per_epoch(spec: TrialSpec, examples: Examples) -> int:
    """Return the number of batches in one pass over the training set, the last one perhaps smaller."""
    assert spec.batch_size is not None
    return math.ceil(len(examples) / spec.batch_size)


class Batches:
    """The batches of a training set, in an order of their own in every epoch."""

    def __init__(self, examples: Examples, spec: TrialSpec) -> None:
        assert spec.batch_size is not None
        assert spec.evaluations is not None
        self.count = steps_per_epoch(spec, examples)
        """Batches of an epoch."""
        self._size = spec.batch_size
        self._examples = examples
        self._seed = spec.seed
        self._marks = evaluation_marks(self.count, spec.evaluations)
        self._order = seeds.generator("order", spec.seed)
        self._epoch, self._batch = 0, self.count
        self._before = self._order.get_state()  # as it is before the epoch's order is drawn

    @property
    def marked(self) -> bool:
        """True if the model is evaluated after the last batch."""
        return self._batch in self._marks

    def next(self) -> Batch:
        """Return the next batch."""
        if self._batch == self.count:
            self._epoch, self._batch = self._epoch + 1, 0
            self._draw()
        self._batch += 1
        return self._drawn.batch(self._indices[self._batch - 1])

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data."""
        return {"epoch": self._epoch, "batch": self._batch, "before": self._before}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a position."""
        self._epoch, self._batch = state["epoch"], state["batch"]
        self._order.set_state(state["before"])
        self._draw()

    def _draw(self) -> None:
        self._before = self._order.get_state()
        order = torch.randperm(len(self._examples), generator=self._order)
        self._indices = torch.split(order, self._size)
        self._drawn = self._examples.drawn(self._seed, self._epoch)


def evaluation_marks(batches: int, evaluations: int) -> set[int]:
    """Return the batches of an epoch, counted from 1, after which the model is evaluated.

    The last one is among them.

    >>> sorted(evaluation_marks(10, 4)), sorted(evaluation_marks(2, 4))
    ([3, 5, 8, 10], [1, 2])
    """
    return {-(-batches * number // evaluations) for number in range(1, evaluations + 1)}


def _figures(task: Task, outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Return the metric of a batch. One of whole sets is not measured on batches, as the weights move meanwhile."""
    metric = task.metric
    if metric.of is None or metric.over == "set":
        return {}
    return {metric.name: metric.total(outputs, targets, 0.0) / len(targets)}


def _validate(run: Run, spec: TrialSpec, task: Task, model: nn.Module) -> None:
    """Report an evaluation on the validation set if there is one, else only the means of training."""
    if run.measures:
        run.validate(**(_measured(run, spec, task, model, "validation") if len(task.splits.validation) else {}))


def _measured(run: Run, spec: TrialSpec, task: Task, model: nn.Module, which: str) -> dict[str, float]:
    with run.evaluating(which):
        loss, metric = evaluate(model, getattr(task.splits, which).to(run.device), task, spec.precision)
    return {"loss": loss, task.metric.name: metric}
