"""One training run: a specification and a task in, a stream of records out. It does not depend on a study.

The clock runs during forward, backward and optimizer step; loading, evaluation, logging and warm-up are outside it.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from steepest.study.errors import UsageError
from steepest.study.records.format import BEHAVIOUR, DIVERGED, FINISHED, SCHEMA, SEARCH, TIMING
from steepest.study.records.records import Record
from steepest.study.trials import children, timing
from steepest.study.trials.checkpoints import CheckpointManager, State
from steepest.study.trials.optimizers import executor_of
from steepest.study.trials.performance import perform, warm_up_once
from steepest.study.trials.resume_check import Checkpoints
from steepest.study.trials.run import Ended, Run, Trainable, Watcher
from steepest.study.trials.spec import TrialSpec


@dataclass(frozen=True)
class Event:
    """A record, equal for equal trials, and its wall times, which never are."""

    record: Record
    timing: Record | None = None


Tell = Callable[[Event], None]
"""The receiver of events."""


def run_trial(
    spec: TrialSpec,
    task: Trainable,
    tell: Tell,
    resume_from: State | None = None,
    manager: CheckpointManager | None = None,
    place: Path | None = None,
) -> None:
    """Train and tell an event for the start, every step, every evaluation and the end.

    The trial ends as `finished`, an evaluation after a single look at the test set. It ends as `diverged` at the step
    whose loss, or whose model's validation loss, was not finite. Any other failure raises an error. A trial of the
    phase `timing` only takes steps.

    Args:
        spec: the specification.
        task: the task.
        tell: the receiver of the events.
        resume_from: the state of a checkpoint; the events that came before it are not repeated.
        place: the folder of the trial's own files; None is a temporary one.
        manager: takes checkpoints, and may ask the trial to stop; it then ends without a record of kind `end`.
    """
    if resume_from is None:
        tell(start_of(spec))
    if spec.phase == TIMING:
        end: Event | None = _timed(spec, task)
    else:
        end = _Trial(spec, task, tell, resume_from, manager).run(place)
    if end is not None:
        tell(end)


def start_of(spec: TrialSpec) -> Event:
    """Return a trial's first event."""
    return Event({"kind": "trial", "schema": SCHEMA, "spec": spec.document()})


def _timed(spec: TrialSpec, task: Trainable) -> Event:
    timed = timing.time_steps(spec, task, timing.SECONDS)
    position = {"epoch": 0, "step": 0}
    record = {"kind": "end", "status": FINISHED, "state_bytes_per_parameter": timed.state_bytes_per_parameter}
    seconds: Record = {"step_seconds": timed.step_seconds, "steps": timed.steps}
    if timed.peak_device_bytes is not None:
        seconds["peak_device_bytes"] = timed.peak_device_bytes
    if timed.changes:
        seconds["settings"] = list(timed.changes)
    return Event(record | position, {"kind": "end", "executor": timed.executor} | seconds | position)


class _Trial(Watcher):
    """A watcher that makes a trial's events of a run's reports, and takes its checkpoints."""

    observes = True

    def __init__(
        self,
        spec: TrialSpec,
        task: Trainable,
        tell: Tell,
        resume_from: State | None,
        manager: CheckpointManager | None,
    ) -> None:
        self._spec = spec
        self._task = task
        self._tell = tell
        self._resume_from = resume_from
        self._began = resume_from is None  # until then, reports repeat those of the interrupted run
        self._checkpoints = Checkpoints(spec, task, manager)
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._start = time.perf_counter()
        self._test: Mapping[str, float] = {}
        self._diverged: str | None = None
        self._stopped = False
        self._trouble: Exception | None = None
        self._left_behind: list[str] = []

    def run(self, place: Path | None) -> Event | None:
        """Run the trial. Return its end, None if it was stopped before."""
        known = children.running()
        warm_up_once(self._spec, self._task)
        run = perform(self._task, self._spec, self, place)
        run.forget()
        self._left_behind = children.end_others(known)
        if self._trouble is not None:
            raise self._trouble
        if self._stopped:
            return None
        if self._diverged is not None:
            return self._end(run, status=DIVERGED, reason=self._diverged)
        if self._spec.phase != SEARCH and not self._test:
            raise UsageError("the training function never reported its test set: call run.test after the loop")
        return self._end(run, status=FINISHED, **self._test)

    def begun(self, run: Run) -> State | None:
        self._began = True
        state = self._resume_from
        if state is None:
            return None
        run.clock.seconds, self._started = state["train_seconds"], state["started"]
        self._start -= state["total_seconds"]
        resumed: State = state["run"]
        return resumed

    def stepped(self, run: Run, loss: float) -> None:
        if self._checkpoints.checking:
            self._apart(self._checkpoints.compare, run)
        self._event(run, {"kind": "step", "loss": loss, "epoch": run.current})
        if not math.isfinite(loss):
            self._diverge(run, "loss", loss)

    def moved(self, run: Run, sample: Mapping[str, Any]) -> None:
        self._event(run, {"kind": BEHAVIOUR, "epoch": run.current, **sample}, timed=False)

    def marked(self, run: Run) -> bool:
        self._apart(self._offer, run)
        if self._stopped:
            raise Ended
        return False

    def measuring(self, run: Run) -> None:
        self._apart(self._checkpoints.end_check, run)

    def validated(self, run: Run, figures: Mapping[str, float]) -> None:
        if not self._began:
            return
        record = {"kind": "epoch", "epoch": run.position, "evaluations": run.counts.evaluations, **figures}
        self._event(run, record, timed=run.counts.steps > 0)  # before, there is no time to tell
        self._finite(run, "validation loss", figures.get("validation_loss", 0.0))

    def logged(self, run: Run, figures: Mapping[str, float]) -> None:
        if self._began:
            self._event(run, {"kind": "log", "epoch": run.position, **figures})

    def looped(self, run: Run) -> None:
        if self._spec.phase == SEARCH:  # it must not see the test set
            raise Ended

    def tested(self, run: Run, figures: Mapping[str, float]) -> None:
        self._test = figures
        self._finite(run, "test loss", figures.get("test_loss", 0.0))

    def _state(self, run: Run) -> State:
        counts = run.counts
        return {
            "run": run.state(),
            "position": [run.current, counts.in_epoch, counts.steps, counts.examples],
            "train_seconds": run.clock.seconds,
            "started": self._started,
            "total_seconds": time.perf_counter() - self._start,
        }

    def _end(self, run: Run, **outcome: Any) -> Event:
        position = {"epoch": run.position, "step": run.counts.steps}
        record = {"kind": "end", "evaluations": run.counts.evaluations, **position, **outcome}
        timing = {
            "kind": "end",
            **position,
            "train_seconds": run.clock.seconds,
            "examples": run.counts.examples,
            "total_seconds": time.perf_counter() - self._start,
            "executor": executor_of(next(iter(run.optimizers.values())).made),
            "started": self._started,
        }
        if self._checkpoints.refused is not None:
            timing["restarts"] = self._checkpoints.refused
        if self._left_behind:
            timing["left_behind"] = self._left_behind
        if run.changes:
            timing["settings"] = run.changes
        return Event(record, timing)

    def _event(self, run: Run, record: Record, timed: bool = True) -> None:
        counts = run.counts
        record["step"] = counts.steps
        times: Record = {
            "kind": record["kind"],
            "epoch": record["epoch"],
            "step": counts.steps,
            "train_seconds": run.clock.seconds,
            "examples": counts.examples,
        }
        self._apart(self._tell, Event(record, times if timed else None))

    def _offer(self, run: Run) -> None:
        self._stopped = self._checkpoints.offer(run, self._state)

    def _apart(self, own: Callable[[Any], object], argument: Any) -> None:
        """Call a function of the study's. An error of it ends the run, past the training function's except clauses."""
        try:
            own(argument)
        except Exception as error:
            self._trouble = error
            raise Ended from error

    def _finite(self, run: Run, what: str, value: float) -> None:
        if not math.isfinite(value):
            self._diverge(run, what, value)

    def _diverge(self, run: Run, what: str, value: float) -> NoReturn:
        self._diverged = f"{what} is {value} at step {run.counts.steps}"
        raise Ended
