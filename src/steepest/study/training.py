"""A model and its optimizer, advanced one batch at a time while a clock runs."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from steepest.study import seeds
from steepest.study.precision import autocast
from steepest.study.spec import Task, TrialSpec

WARM_UP_STEPS: Final = 2

Batch = tuple[Tensor, Tensor]


class Stopwatch:
    """Seconds spent inside `with stopwatch.running():` blocks, added up."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the clock run."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


@dataclass(frozen=True)
class Outcome:
    """What a batch gave before the optimizer moved: the mean loss, and the metric summed over its examples."""

    loss: float
    metric: float


class Trainer:
    """Training's moving parts. Equal seeds start from equal weights and drop equal units, whatever the optimizer."""

    def __init__(self, spec: TrialSpec, task: Task) -> None:
        self._spec = spec
        self._task = task
        with seeds.GlobalStream("init", spec.seed).active():
            self.model = task.model()
        if task.splits.train.images:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = spec.contestant.recipe.build(self.model.parameters())
        self._asks_for_gradients = self.optimizer.needs_closure(self.optimizer.param_groups[0])
        self.clock = Stopwatch()
        self.evaluations = 0  # of the gradient: more than steps for a rule that tries several points
        self._dropout = seeds.GlobalStream("dropout", spec.seed)

    def warm_up(self, batch: Batch) -> None:
        """Take steps with a twin, so that kernels are chosen and plans made before the clock runs."""
        rehearsal = Trainer(self._spec, self._task)
        for _ in range(WARM_UP_STEPS):
            rehearsal.advance(batch)

    def advance(self, batch: Batch) -> Outcome:
        """Take one optimizer step on a batch."""
        seen: list[tuple[Tensor, Tensor]] = []

        def closure() -> Tensor:
            if seen:
                # A second evaluation in one step is of the same function: the same units stay dropped.
                self._dropout.rewind()
            loss, outputs = self._gradient(batch)
            seen.append((loss.detach(), outputs.detach()))
            return loss

        with self._dropout.active(), self.clock.running():
            if self._asks_for_gradients:
                self.optimizer.step(closure)
            else:
                closure()
                self.optimizer.step()
        self.evaluations += len(seen)
        return self._outcome(*seen[0], batch[1])

    def weights_to_measure(self) -> AbstractContextManager[None]:
        """Return the context in which the model is evaluated: with its averaged weights if the optimizer keeps them.

        Running statistics of batch normalisation are not averaged; they are those of the raw weights.
        """
        averages = self.optimizer.param_groups[0]["ema_decay"] is not None
        return self.optimizer.averaged() if averages else nullcontext()

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
        return Outcome(loss.item(), self._task.metric.of(outputs, targets).sum().item())
