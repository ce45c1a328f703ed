"""The task of a declared workload: its network, its data and its training function.

Another process loads it by its name.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from steepest.study import seeds, workloads
from steepest.study.data import adapt
from steepest.study.data.batches import Batch, count, detached, divided, joined
from steepest.study.data.dataset import DataSet, Examples, Splits
from steepest.study.data.loaders import ENDED, Loaded
from steepest.study.data.splits import Sizes, split
from steepest.study.declaration import Experiment, Loss, Metric, Workload
from steepest.study.errors import UsageError
from steepest.study.trials import forward, sharpness
from steepest.study.trials.evaluation import evaluate
from steepest.study.trials.keeping import Keep
from steepest.study.trials.optimizers import loss_for
from steepest.study.trials.run import STEPS, Run, Trainable
from steepest.study.trials.spec import TaskName, TrialSpec
from steepest.wrappers import asks_for_gradients


@dataclass(frozen=True)
class Task:
    """A network, its loss and metric, three sets of examples, and the digests of their data.

    `unit` is that of a trial's length.
    """

    model: Callable[[], nn.Module]
    loss: Loss | None
    metric: Metric
    splits: Splits
    sha256: Mapping[str, str] = field(default_factory=dict)
    evaluate_every: int | None = None
    accumulate: int = 1
    max_norm: float | None = None
    unit: Literal["epochs", "steps"] = "epochs"

    @property
    def is_ours(self) -> bool:
        """False where the user's loaders, which may remember more than they are known to, yield the batches."""
        return isinstance(self.splits.train, Examples)

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


def task_of(workload: Workload, data: DataSet, sizes: Sizes | None) -> Task:
    """Return the task of a workload on these data; `sizes` is None for three loaders."""
    splits = _splits(workload, data, sizes)
    task = Task(
        workload.model, workload.loss, workload.metric, splits, data.sha256, unit=workload.unit, **workload.loop
    )
    if steps_per_epoch(workload.batch_size, splits.train) is None and task.unit != STEPS:
        raise UsageError(
            "the training data have no length, so that no number of epochs is known: give the horizon in steps, "
            "Workload(steps=1000, evaluate_every=100)"
        )
    return task


def _splits(workload: Workload, data: DataSet, sizes: Sizes | None) -> Splits:
    if data.loaders is not None:
        train, *others = data.loaders
        batched = (one.batched(workload.batch_size, shuffle=False) for one in others)
        return Splits(train.batched(workload.batch_size, shuffle=True), *batched)
    assert sizes is not None
    if workload.batch_size is None:
        raise UsageError("batch_size of a workload is missing; only DataLoaders have their own")
    return split(data, sizes)


@cache
def load_task(name: TaskName, data_dir: Path | None = None) -> Trainable:
    """Return the task of this name, loading its code and data once per process."""
    declaration = workloads.find(name.source)(name.preset)
    if isinstance(declaration, Experiment):
        return ExperimentTask(declaration)
    assert isinstance(declaration, Workload)
    return task_of(declaration, adapt.load(declaration.data, data_dir), name.sizes)


def _train(run: Run, spec: TrialSpec, task: Task) -> None:
    """Train a task's model for the length of a specification, evaluate it at every mark, and test it at the end."""
    model = initial_model(task).to(run.device)
    optimizer = run.optimizer(model)
    asks = asks_for_gradients(optimizer)
    scaler, context = run.scaler, run.autocast()
    if asks and scaler.is_enabled():
        raise UsageError("fp16 scales the loss, and an optimizer that evaluates it itself does not know; use bf16")
    gradient = partial(_gradient, task, model, context, scaler, optimizer)
    with closing(_batches(task.splits.train.to(run.device), spec)) as batches:
        for step in _steps(run, spec, task, batches, {"model": model, "order": batches}):
            if step == 0:
                _validate(run, spec, task, model)
            with run.untimed():
                batch = batches.next()
            seen: list[tuple[Tensor, list[Any]]] = []

            def closure() -> Tensor:
                optimizer.zero_grad()
                loss, outputs = gradient(batch)  # noqa: B023 - called in this pass of the loop only
                seen.append((loss, outputs))  # noqa: B023
                return loss

            if asks:
                optimizer.step(closure)  # type: ignore[arg-type]
            else:
                closure()
                scaler.step(optimizer, **loss_for(optimizer, seen[0][0]))
                scaler.update()
            loss, outputs = seen[0]  # before the step
            with run.untimed():
                figures = _figures(task, outputs, batch)
            run.step(loss, examples=count(batch), **figures)
            if batches.marked if task.evaluate_every is None else run.every(task.evaluate_every):
                _validate(run, spec, task, model)
    run.test(**_measured(run, spec, task, model, "test"))


def _steps(run: Run, spec: TrialSpec, task: Task, batches: "Batches | LoadedBatches", keep: Keep) -> Iterator[int]:
    """Return the loop over the steps of a trial."""
    assert spec.epochs is not None
    if task.unit == STEPS:
        return run.steps(spec.epochs, keep=keep)
    assert batches.count is not None
    return run.steps(spec.epochs * batches.count, per_epoch=batches.count, keep=keep)


def _gradient(
    task: Task,
    model: nn.Module,
    context: AbstractContextManager[object],
    scaler: torch.amp.GradScaler,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
) -> tuple[Tensor, list[Any]]:
    """Add a batch's gradient to the parameters', part by part, and clip it. Return the loss, and the parts' outputs."""
    losses, outputs = [], []
    for part in divided(batch, task.accumulate):
        given = forward.given(part, task.loss)
        with context:
            made = given.outputs(model)
        made = forward.in_floats(made)
        loss = forward.loss_of(task.loss, made, given.targets)
        if task.accumulate > 1:
            loss = loss * (count(part) / count(batch))
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        outputs.append(detached(made))
    if task.max_norm is not None:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), task.max_norm)
    return losses[0] if task.accumulate == 1 else torch.stack(losses).sum(), outputs


def initial_model(task: Task) -> nn.Module:
    """Return the untrained model, with weights drawn from the active stream."""
    model = task.model()
    if task.splits.train.images:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def steps_per_epoch(batch_size: int | None, examples: Examples | Loaded) -> int | None:
    """Return the number of batches in one pass over the training set, the last one perhaps smaller.

    It is None for a loader without a length.
    """
    if isinstance(examples, Loaded):
        return examples.batches
    assert batch_size is not None
    return math.ceil(len(examples) / batch_size)


def _batches(examples: Examples | Loaded, spec: TrialSpec) -> "Batches | LoadedBatches":
    return LoadedBatches(examples, spec) if isinstance(examples, Loaded) else Batches(examples, spec)


class Batches:
    """The batches of a training set, in an order of their own in every epoch."""

    def __init__(self, examples: Examples, spec: TrialSpec) -> None:
        assert spec.batch_size is not None
        assert spec.evaluations is not None
        self.count = math.ceil(len(examples) / spec.batch_size)
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

    def close(self) -> None:
        """Do nothing: the examples are in memory."""

    def _draw(self) -> None:
        self._before = self._order.get_state()
        order = torch.randperm(len(self._examples), generator=self._order)
        self._indices = torch.split(order, self._size)
        self._drawn = self._examples.drawn(self._seed, self._epoch)


class LoadedBatches:
    """The batches of a loader, pass after pass, each with draws of its own."""

    def __init__(self, loaded: Loaded, spec: TrialSpec) -> None:
        self.count = loaded.batches
        """Batches of an epoch, None if it has no length."""
        self._loaded = loaded
        self._seed = spec.seed
        self._marks = set() if self.count is None else evaluation_marks(self.count, spec.evaluations or 1)
        self._epoch, self._batch = 0, 0
        self._pass = _nothing()

    @property
    def marked(self) -> bool:
        """True if the model is evaluated after the last batch."""
        return self._batch in self._marks

    def next(self) -> Batch:
        """Return the next batch.

        Raises:
            UsageError: a pass has ended without one, or after another number than its length.
        """
        batch = next(self._pass, ENDED)
        if batch is ENDED:
            if self._epoch:
                self._check_length()
            self._epoch, self._batch = self._epoch + 1, 0
            self._begin()
            batch = next(self._pass, ENDED)
        if batch is ENDED:
            raise UsageError("the loader for training yielded no batch in a whole pass")
        self._batch += 1
        return batch

    def state_dict(self) -> dict[str, int]:
        """Return the position in the data."""
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a position: the batches before it are read again, and dropped."""
        self._epoch, self._batch = state["epoch"], state["batch"]
        self._begin()

    def close(self) -> None:
        """End the pass, and with it the loader's processes."""
        self._pass.close()

    def _begin(self) -> None:
        self.close()
        self._pass = self._loaded.passed(self._seed, self._epoch, self._batch)

    def _check_length(self) -> None:
        if self.count not in (None, self._batch):
            raise UsageError(f"the loader for training yielded {self._batch} batches, and its length says {self.count}")


def _nothing() -> Generator[Batch, None, None]:
    """Return a pass that has ended."""
    yield from ()


def evaluation_marks(batches: int, evaluations: int) -> set[int]:
    """Return the batches of an epoch, counted from 1, after which the model is evaluated.

    The last one is among them.

    >>> sorted(evaluation_marks(10, 4)), sorted(evaluation_marks(2, 4))
    ([3, 5, 8, 10], [1, 2])
    """
    return {-(-batches * number // evaluations) for number in range(1, evaluations + 1)}


def _figures(task: Task, outputs: list[Any], batch: Batch) -> dict[str, float]:
    """Return the metric of a batch. One of whole sets is not measured on batches, as the weights move meanwhile."""
    metric, examples = task.metric, count(batch)
    if metric.of is None or metric.over == "set":
        return {}
    together = outputs[0] if len(outputs) == 1 else joined(outputs)
    return {metric.name: metric.total(together, forward.given(batch, task.loss).targets, 0.0, examples) / examples}


def _validate(run: Run, spec: TrialSpec, task: Task, model: nn.Module) -> None:
    """Report an evaluation on the validation set if there is one, else only the means of training."""
    if run.measures:
        run.validate(**(_measured(run, spec, task, model, "validation") if task.splits.validation else {}))
        if spec.sharpness:
            with run.evaluating("sharpness"):
                curvature = sharpness.of_model(model, task.splits.train.to(run.device), task.loss, spec.seed)
            run.log(sharpness=curvature)


def _measured(run: Run, spec: TrialSpec, task: Task, model: nn.Module, which: str) -> dict[str, float]:
    with run.evaluating(which):
        loss, metric = evaluate(model, getattr(task.splits, which).to(run.device), task, spec.precision)
    return {"loss": loss, task.metric.name: metric}
