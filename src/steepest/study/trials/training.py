"""A model and its optimizer, advanced one batch at a time while a clock runs."""

import inspect
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from steepest.optimizer import Optimizer
from steepest.study import seeds
from steepest.study.optimizers import settings
from steepest.study.optimizers.schedules import CONSTANT, factor
from steepest.study.trials.precision import autocast
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import Task

WARM_UP_STEPS: Final = 2

Batch = tuple[Tensor, Tensor]


class Stopwatch:
    """Seconds spent inside `with stopwatch:` blocks, added up."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start


@dataclass(frozen=True)
class Outcome:
    """The result of a batch before the optimizer's step: the mean loss, and the metric summed over its examples.

    A metric of whole sets is not measured during training (None), because the weights move from batch to batch.
    """

    loss: float
    metric: float | None


class Trainer:
    """A model, its optimizer and their streams.

    Equal seeds give equal weights and dropped units, whatever the optimizer.
    """

    def __init__(self, spec: TrialSpec, task: Task) -> None:
        self._spec = spec
        self._task = task
        init = seeds.GlobalStream("init", spec.seed)
        self.model = initial_model(task, init)
        with init.active():  # an optimizer may draw, too
            self.optimizer = spec.config.build(self.model)
        self._asks_for_gradients = asks_for_gradients(self.optimizer)
        self.clock = Stopwatch()
        self.steps = 0
        self.evaluations = 0  # of the gradient: more than steps for a rule that tries several points
        self._total = spec.epochs * steps_per_epoch(spec, task)
        self._rates = [group.get("lr") for group in self.optimizer.param_groups]
        self.stream = seeds.GlobalStream("dropout", spec.seed)
        """The stream of random layers and of the metric during training."""
        self._noise = seeds.Noise(spec.seed)

    def advance(self, batch: Batch) -> Outcome:
        """Take one optimizer step on a batch."""
        self._schedule()
        with self.stream.active():
            seen = self._stepped(batch)
            self.steps += 1
            self.evaluations += len(seen)
            return self._outcome(*seen[0], batch[1])

    def _stepped(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Take the step. Return loss and outputs of every evaluation in it."""
        seen: list[tuple[Tensor, Tensor]] = []
        start = self.stream.position if self._asks_for_gradients else {}

        def closure() -> Tensor:
            if seen:
                # A second evaluation in one step is of the same function: the same units stay dropped.
                self.stream.position = start
            loss, outputs = self._gradient(batch)
            seen.append((loss.detach(), outputs.detach()))
            return loss

        def closure_within_step() -> Tensor:
            with self._noise.paused():
                return closure()

        if self._asks_for_gradients:
            with self._noise.active(), self.clock:
                self.optimizer.step(closure_within_step)  # type: ignore[arg-type]
        else:
            with self.clock:
                closure()
            with self._noise.active(), self.clock:
                self.optimizer.step()
        return seen

    def state(self) -> dict[str, Any]:
        """Return the complete state of training: tensors, numbers and containers, not copied."""
        return {
            "model": self.model.state_dict(),
            "unsaved_buffers": self._unsaved_buffers(),
            "modes": {name: module.training for name, module in self.model.named_modules()},
            "optimizer": self.optimizer.state_dict(),
            "dropout": self.stream.position,
            "noise": self._noise.state,
            "steps": self.steps,
            "evaluations": self.evaluations,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from the result of `state()` for a trainer of the same specification and task."""
        self.model.load_state_dict(state["model"])
        buffers = self._unsaved_buffers()
        for name, value in state["unsaved_buffers"].items():
            buffers[name].copy_(value)
        for name, module in self.model.named_modules():
            module.training = state["modes"][name]
        if isinstance(self.optimizer, Optimizer):
            self.optimizer.load_state_dict(state["optimizer"], keep_dtype=True)
        else:
            self.optimizer.load_state_dict(state["optimizer"])
        self.stream.position, self._noise.state = state["dropout"], state["noise"]
        self.steps, self.evaluations = state["steps"], state["evaluations"]

    def _unsaved_buffers(self) -> dict[str, Tensor]:
        """Return the buffers that the model's own state dict leaves out (`persistent=False`)."""
        saved = self.model.state_dict().keys()
        return {name: buffer for name, buffer in self.model.named_buffers() if name not in saved}

    @contextmanager
    def weights_to_measure(self) -> Iterator[None]:
        """Return the context in which the model is evaluated: with its averaged weights if the optimizer keeps them.

        Running statistics of batch normalisation are not averaged; they are those of the raw weights. An optimizer that
        has `eval()` and `train()`, as schedule-free ones do, is switched.
        """
        modes = [getattr(self.optimizer, name, None) for name in ("eval", "train")]
        to_measure, to_train = [mode if callable(mode) else _nothing for mode in modes]
        averages = self.optimizer.param_groups[0].get("ema_decay") is not None
        with self.optimizer.averaged() if averages else nullcontext():  # type: ignore[attr-defined]
            to_measure()
            yield
            to_train()

    def _schedule(self) -> None:
        """Set every group's rate for the next step."""
        if self._spec.config.schedule == CONSTANT:
            return
        share = factor(self._spec.config.schedule)(self.steps, self._total)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            if rate is not None:
                group["lr"] = rate * share

    def _gradient(self, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs, targets = batch
        self.optimizer.zero_grad()
        with autocast(self._spec.precision):
            outputs = self.model(inputs)
        outputs = outputs.float()
        loss = self._task.loss(outputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss, outputs

    def _outcome(self, loss: Tensor, outputs: Tensor, targets: Tensor) -> Outcome:
        value = loss.item()
        metric = self._task.metric
        return Outcome(value, metric.total(outputs, targets, value) if metric.over == "examples" else None)


def warm_up(spec: TrialSpec, task: Task) -> None:
    """Take steps that do not count, so that kernels are chosen and plans made before the clock runs."""
    batch = task.splits.train.batch(slice(0, spec.batch_size))
    with settings.kept():
        twin = Trainer(spec, task)
        for _ in range(WARM_UP_STEPS):
            twin.advance(batch)


def initial_model(task: Task, stream: seeds.GlobalStream) -> nn.Module:
    """Return the untrained model, with weights drawn from a stream."""
    with stream.active():
        model = task.model()
    if task.splits.train.images:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def steps_per_epoch(spec: TrialSpec, task: Task) -> int:
    """Return the number of batches in one pass over the training set, the last one perhaps smaller."""
    return math.ceil(len(task.splits.train) / spec.batch_size)


def asks_for_gradients(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a step needs a closure: a rule of ours declares it, or the signature requires it."""
    if isinstance(optimizer, Optimizer):
        return optimizer.needs_closure(optimizer.param_groups[0])
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def executor_of(optimizer: torch.optim.Optimizer) -> str:
    """Return the executor that runs the steps: one of ours, or the class's own code."""
    return optimizer.executor if isinstance(optimizer, Optimizer) else "its own"


def _nothing() -> None:
    pass
