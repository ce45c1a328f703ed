"""One training run: a specification and a task in, a stream of records out. It does not depend on a study.

The clock runs during forward, backward and optimizer step; loading, evaluation, logging and warm-up are outside it.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from steepest.study import seeds
from steepest.study.optimizers import settings
from steepest.study.records.format import DIVERGED, FINISHED, SCHEMA, SEARCH, TIMING
from steepest.study.records.records import Record
from steepest.study.trials.checkpoints import CheckpointManager, State
from steepest.study.trials.evaluation import evaluate
from steepest.study.trials.resume_check import Checkpoints, StoppedError
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import Task
from steepest.study.trials.timing import time_steps
from steepest.study.trials.training import Outcome, Trainer, executor_of, steps_per_epoch, warm_up


@dataclass(frozen=True)
class Event:
    """A record, equal for equal trials, and its wall times, which never are."""

    record: Record
    timing: Record | None = None


class _DivergedError(Exception):
    pass


def run_trial(
    spec: TrialSpec, task: Task, resume_from: State | None = None, manager: CheckpointManager | None = None
) -> Iterator[Event]:
    """Train and yield an event for the start, every step, every evaluation and the end.

    The trial ends as `finished`, an evaluation after a single look at the test set. It ends as `diverged` at the step
    whose loss, or whose model's validation loss, was not finite. Any other failure raises an error. A trial of the
    phase `timing` only takes steps.

    Args:
        spec: the specification; torch computes with its number of threads. Afterwards the process has its own number
            and every other setting again, whatever the trial's code has set (`steepest.study.optimizers.settings`).
        task: the task.
        resume_from: the state of a checkpoint; the events that came before it are not repeated.
        manager: takes checkpoints, and may ask the trial to stop; it then ends without a record of kind `end`.
    """
    with _threads(spec.threads), settings.kept() as changes:
        if resume_from is None:
            yield start_of(spec)
        run = _timed(spec, task) if spec.phase == TIMING else _trained(spec, task, resume_from, manager)
        for event in run:
            yield _with_changes(event, changes) if event.record["kind"] == "end" else event


def _with_changes(event: Event, changes: Callable[[], list[str]]) -> Event:
    """Return a trial's end.

    Its times name the settings of the process that the trial changed, before their restoration.
    """
    changed = changes()
    return Event(event.record, {**(event.timing or {}), "settings": changed}) if changed else event


def start_of(spec: TrialSpec) -> Event:
    """Return a trial's first event."""
    return Event({"kind": "trial", "schema": SCHEMA, "spec": spec.document()})


def _trained(
    spec: TrialSpec, task: Task, resume_from: State | None, manager: CheckpointManager | None
) -> Iterator[Event]:
    run = _Run(spec, task, manager)
    if resume_from is not None:
        run.resume(resume_from)
    with run.stream.active():
        try:
            yield from run.train()
            yield run.finish()
        except _DivergedError as diverged:
            yield run.end(status=DIVERGED, reason=str(diverged))
        except StoppedError:
            return


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set torch's number of threads inside the block, on which the order of sums depends."""
    outside = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(outside)


def _timed(spec: TrialSpec, task: Task) -> Iterator[Event]:
    timing = time_steps(spec, task)
    position = {"epoch": 0, "step": 0}
    record = {"kind": "end", "status": FINISHED, "state_bytes_per_parameter": timing.state_bytes_per_parameter}
    seconds = {"step_seconds": timing.step_seconds, "steps": timing.steps}
    yield Event(record | position, {"kind": "end", "executor": timing.executor} | seconds | position)


class _Run:
    """The state of a running trial."""

    def __init__(self, spec: TrialSpec, task: Task, manager: CheckpointManager | None) -> None:
        self._spec = spec
        self._task = task
        self._checkpoints = Checkpoints(spec, task, manager)
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._start = time.perf_counter()
        self._order = seeds.generator("order", spec.seed)
        self._epoch_order = self._order.get_state()  # as it is before the epoch's order is drawn
        self._marks = evaluation_marks(steps_per_epoch(spec, task), spec.evaluations)
        self._epoch = self._batch = self._step = self._examples = 0
        self._sums = _Sums()
        warm_up(spec, task)
        self._trainer = Trainer(spec, task)

    @property
    def stream(self) -> seeds.GlobalStream:
        """The training stream. It stays active from step to step, because changing streams takes time."""
        return self._trainer.stream

    def train(self) -> Iterator[Event]:
        if self._epoch == 0:
            yield from self._untrained()
        for epoch in range(max(1, self._epoch), self._spec.epochs + 1):
            self._epoch = epoch
            yield from self._train_epoch()
            self._batch = 0

    def resume(self, state: State) -> None:
        """Restore the state of a stored run of the same specification."""
        self._trainer.restore(state["trainer"])
        self._trainer.clock.seconds = state["train_seconds"]
        self._order.set_state(state["order"])
        self._epoch, self._batch, self._step, self._examples = state["position"]
        self._sums = _Sums(*state["sums"])
        self._started = state["started"]
        self._start -= state["total_seconds"]

    def _state(self) -> State:
        return {
            "trainer": self._trainer.state(),
            "train_seconds": self._trainer.clock.seconds,
            "order": self._epoch_order,
            "position": [self._epoch, self._batch, self._step, self._examples],
            "sums": list(astuple(self._sums)),
            "started": self._started,
            "total_seconds": time.perf_counter() - self._start,
        }

    def _train_epoch(self) -> Iterator[Event]:
        self._epoch_order = self._order.get_state()
        batches = self._batches()
        examples = self._task.splits.train.drawn(self._spec.seed, self._epoch)
        for indices in batches[self._batch :]:
            batch = examples.batch(indices)
            outcome = self._trainer.advance(batch)
            self._checkpoints.compare(batch, self._trainer)
            self._batch += 1
            self._step += 1
            self._examples += len(indices)
            yield self._event({"kind": "step", "loss": outcome.loss})
            self._finite("loss", outcome.loss)
            self._sums.add(outcome, len(indices))
            if self._batch in self._marks:
                self._checkpoints.end_check()
                yield from self._evaluation(self._epochs_done(len(batches)))
            self._checkpoints.offer(self._state)

    def _epochs_done(self, batches: int) -> float:
        return self._epoch if self._batch == batches else self._epoch - 1 + self._batch / batches

    def _untrained(self) -> Iterator[Event]:
        for event in self._evaluation(0):
            yield Event(event.record)  # nothing has been trained, so there is no time to tell

    def finish(self) -> Event:
        if self._spec.phase == SEARCH:
            return self.end(status=FINISHED)
        test = self._measure("test")
        self._finite("test loss", test["test_loss"])
        return self.end(status=FINISHED, **test)

    def end(self, **outcome: Any) -> Event:
        event = self._event({"kind": "end", "evaluations": self._trainer.evaluations, **outcome})
        extra = {
            "total_seconds": time.perf_counter() - self._start,
            "executor": executor_of(self._trainer.optimizer),
            "started": self._started,
        }
        if self._checkpoints.refused is not None:
            extra["restarts"] = self._checkpoints.refused
        return Event(event.record, {**(event.timing or {}), **extra})

    def _batches(self) -> tuple[Tensor, ...]:
        order = torch.randperm(len(self._task.splits.train), generator=self._order)
        return torch.split(order, self._spec.batch_size)

    def _evaluation(self, epoch: float) -> Iterator[Event]:
        """Return an event on the batches since the last evaluation, and on the validation set if there is one."""
        figures = self._trained() if self._sums.examples else {}
        self._sums = _Sums()
        if len(self._task.splits.validation):
            figures |= self._measure("validation")
        yield self._event({"kind": "epoch", "evaluations": self._trainer.evaluations, **figures}, epoch)
        self._finite("validation loss", figures.get("validation_loss", 0.0))

    def _trained(self) -> dict[str, float]:
        loss, metric = self._sums.means()
        return self._named("train", loss, metric) if self._task.metric.over == "examples" else {"train_loss": loss}

    def _measure(self, which: str) -> dict[str, float]:
        examples = getattr(self._task.splits, which)
        stream = seeds.GlobalStream("evaluation", self._spec.seed, which, self._step)
        with stream.active(), self._trainer.weights_to_measure():
            loss, metric = evaluate(self._trainer.model, examples, self._task, self._spec.precision)
        return self._named(which, loss, metric)

    def _event(self, record: Record, epoch: float | None = None) -> Event:
        position = {"epoch": self._epoch if epoch is None else epoch, "step": self._step}
        timing = {"kind": record["kind"], "train_seconds": self._trainer.clock.seconds, "examples": self._examples}
        return Event(record | position, timing | position)

    def _named(self, which: str, loss: float, metric: float) -> dict[str, float]:
        return {f"{which}_loss": loss, f"{which}_{self._task.metric.name}": metric}

    def _finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise _DivergedError(f"{what} is {value} at step {self._step}")


@dataclass
class _Sums:
    """Loss and metric of the batches since the last evaluation, summed over their examples."""

    loss: float = 0.0
    metric: float = 0.0
    examples: int = 0

    def add(self, outcome: Outcome, examples: int) -> None:
        self.loss += outcome.loss * examples
        self.metric += outcome.metric or 0.0
        self.examples += examples

    def means(self) -> tuple[float, float]:
        return self.loss / self.examples, self.metric / self.examples


def evaluation_marks(batches: int, evaluations: int) -> set[int]:
    """Return the batches of an epoch, counted from 1, after which the model is evaluated.

    The last one is among them.

    >>> sorted(evaluation_marks(10, 4)), sorted(evaluation_marks(2, 4))
    ([3, 5, 8, 10], [1, 2])
    """
    return {-(-batches * number // evaluations) for number in range(1, evaluations + 1)}
