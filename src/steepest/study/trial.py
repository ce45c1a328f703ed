"""One training run: a specification and a task in, a stream of records out. It knows nothing of studies.

The clock runs during forward, backward and optimizer step; loading, evaluation, logging and warm-up are outside it.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from steepest.study import seeds
from steepest.study.evaluation import evaluate
from steepest.study.records import SCHEMA, Record
from steepest.study.spec import Task, TrialSpec
from steepest.study.training import Trainer


@dataclass(frozen=True)
class Event:
    """A record, equal for equal trials, and the wall times that belong to it, which never are."""

    record: Record
    timing: Record | None = None


class _DivergedError(Exception):
    pass


def run_trial(spec: TrialSpec, task: Task) -> Iterator[Event]:
    """Train and yield an event for the start, every step, every epoch and the end.

    The trial ends as `finished`, after a single look at the test set, or as `diverged` at the step whose loss, or
    whose model's validation loss, was no finite number. Any other trouble raises.
    """
    yield Event({"kind": "trial", "schema": SCHEMA, "spec": spec.document()})
    run = _Run(spec, task)
    try:
        yield from run.untrained()
        for _ in range(spec.epochs):
            yield from run.train_epoch()
        yield run.finish()
    except _DivergedError as diverged:
        yield run.end(status="diverged", reason=str(diverged))


class _Run:
    """Where a trial stands."""

    def __init__(self, spec: TrialSpec, task: Task) -> None:
        self._spec = spec
        self._task = task
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._start = time.perf_counter()
        self._order = seeds.generator("order", spec.seed)
        self._epoch = self._step = self._examples = 0
        self._trainer = Trainer(spec, task)
        self._trainer.warm_up(task.splits.train.batch(slice(0, spec.batch_size)))

    def train_epoch(self) -> Iterator[Event]:
        self._epoch += 1
        train = self._task.splits.train
        loss = metric = 0.0
        for indices in self._batches():
            outcome = self._trainer.advance(train.batch(indices))
            self._step += 1
            self._examples += len(indices)
            yield self._event({"kind": "step", "loss": outcome.loss})
            self._finite("loss", outcome.loss)
            loss += outcome.loss * len(indices)
            metric += outcome.metric
        yield from self._epoch_end(self._named("train", loss / len(train), metric / len(train)))

    def untrained(self) -> Iterator[Event]:
        for event in self._epoch_end({}):
            yield Event(event.record)  # nothing has been trained, so there is no time to tell

    def finish(self) -> Event:
        test = self._measure("test")
        self._finite("test loss", test["test_loss"])
        return self.end(status="finished", **test)

    def _batches(self) -> tuple[Tensor, ...]:
        order = torch.randperm(len(self._task.splits.train), generator=self._order)
        return torch.split(order, self._spec.batch_size)

    def _epoch_end(self, figures: dict[str, float]) -> Iterator[Event]:
        if len(self._task.splits.validation):
            figures |= self._measure("validation")
        yield self._event({"kind": "epoch", **figures})
        self._finite("validation loss", figures.get("validation_loss", 0.0))

    def _measure(self, which: str) -> dict[str, float]:
        examples = getattr(self._task.splits, which)
        task = self._task
        with self._trainer.weights_to_measure():
            loss, metric = evaluate(self._trainer.model, examples, task.loss, task.metric, self._spec.precision)
        return self._named(which, loss, metric)

    def end(self, **outcome: Any) -> Event:
        event = self._event({"kind": "end", "evaluations": self._trainer.evaluations, **outcome})
        extra = {
            "total_seconds": time.perf_counter() - self._start,
            "executor": self._trainer.optimizer.executor,
            "started": self._started,
        }
        return Event(event.record, {**(event.timing or {}), **extra})

    def _event(self, record: Record) -> Event:
        position = {"epoch": self._epoch, "step": self._step}
        timing = {"kind": record["kind"], "train_seconds": self._trainer.clock.seconds, "examples": self._examples}
        return Event(record | position, timing | position)

    def _named(self, which: str, loss: float, metric: float) -> dict[str, float]:
        return {f"{which}_loss": loss, f"{which}_{self._task.metric.name}": metric}

    def _finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise _DivergedError(f"{what} is {value} at step {self._step}")
