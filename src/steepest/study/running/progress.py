"""The progress of a study, for any display."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from steepest.study.planning.plan import Plan
from steepest.study.records.format import TIMING
from steepest.study.records.records import Record, number
from steepest.study.running.store import StudyFolder
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event


@dataclass
class Row:
    """The state of one trial; None for unknown figures. `done` of its `length` are steps, or epochs."""

    label: str
    phase: str
    seed: int
    length: float
    status: str = "waiting"
    epoch: int = 0
    loss: float | None = None
    validation: float | None = None
    test: float | None = None
    examples: int = 0
    train_seconds: float = 0.0
    began: float = field(default=0.0, repr=False)
    took: float = field(default=0.0, repr=False)
    done: float = field(default=0.0, repr=False)
    done_before: float = field(default=0.0, repr=False)

    @property
    def speed(self) -> float | None:
        """Training examples per second of training time."""
        return self.examples / self.train_seconds if self.train_seconds else None

    def seconds_left(self, now: float) -> float | None:
        """Return the remaining seconds of a running trial, judged by its own pace."""
        passed = self.done - self.done_before
        if self.status != "running" or passed <= 0:
            return None
        return (now - self.began) * (self.length - self.done) / passed


class Progress:
    """A callback that keeps one row per trial, in the order of running; `jobs` trials run at once.

    The time left is asked for often, so rows of trials that wait or have ended are counted as they change.
    """

    def __init__(self, plan: Plan, folder: StudyFolder, jobs: int = 1) -> None:
        self.metric: str = plan.task.metric.name
        self.epochs = plan.pattern.epochs
        self.unit = plan.subject.unit.removesuffix("s")
        self.rows: dict[str, Row] = {}
        self._plan = plan
        self._folder = folder
        self._jobs = jobs
        self._running: dict[str, Row] = {}
        self._waiting = 0
        self._timing = False
        self._took = (0, 0.0)  # the number of trials that this run has ended, and their seconds

    def stage_started(self, trials: Sequence[TrialSpec]) -> None:
        """Add a row for every trial of a stage."""
        self.rows |= {trial.id: self._row(self._plan, trial, self._folder) for trial in trials}
        self._running = {trial: row for trial, row in self.rows.items() if row.status == "running"}
        self._waiting = sum(row.status == "waiting" for row in self.rows.values())
        self._timing = any(row.phase == TIMING for row in self.rows.values())

    def trial_started(self, trial: TrialSpec) -> None:
        """Mark a trial as running."""
        row = self.rows[trial.id]
        self._waiting -= row.status == "waiting"
        row.status, row.began = "running", time.monotonic()
        self._running[trial.id] = row

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        """Update a trial's row."""
        row = self.rows[trial.id]
        row.took = time.monotonic() - row.began
        self._read(row, event.record, event.timing or {})
        if event.record["kind"] == "resumed":
            row.done_before = row.done
        if row.status != "running" and self._running.pop(trial.id, None) is not None:
            count, seconds = self._took
            self._took = (count + 1, seconds + row.took)

    def seconds_left(self) -> float | None:
        """Return the remaining seconds of all trials, judged by those that this run has ended, or by running ones."""
        now = time.monotonic()
        known = [(row, rest) for row in self._running.values() if (rest := row.seconds_left(now)) is not None]
        unknown = len(self._running) - len(known) + self._waiting
        whole = sum(rest for _, rest in known)
        if unknown:
            count, seconds = self._took
            if not count and not known:
                return None
            whole += unknown * (seconds / count if count else fmean(now - row.began + rest for row, rest in known))
        return whole / self._at_once(len(known) + unknown)

    def _at_once(self, unfinished: int) -> int:
        # timing is the last stage, one trial at a time
        return 1 if self._timing else max(1, min(self._jobs, unfinished))

    def _row(self, plan: Plan, trial: TrialSpec, folder: StudyFolder) -> Row:
        row = Row(trial.config.label, trial.phase, trial.seed, plan.subject.steps or plan.pattern.epochs or 1)
        if folder.is_done(trial.id):
            for record in folder.read_trial(trial.id).lines:
                self._read(row, record, {})
            for timing in folder.read_times(trial.id).lines[-1:]:
                self._read(row, {"kind": "time"}, timing)
        return row

    def _read(self, row: Row, record: Record, timing: Mapping[str, Any]) -> None:
        row.epoch = record.get("epoch", row.epoch)
        row.done = record.get("step", row.done) if self._plan.subject.steps else float(row.epoch)
        row.loss = _value(record, "train_loss", _value(record, "loss", row.loss))
        row.validation = _value(record, f"validation_{self.metric}", row.validation)
        row.test = _value(record, f"test_{self.metric}", row.test)
        row.examples = timing.get("examples", row.examples)
        row.train_seconds = timing.get("train_seconds", row.train_seconds)
        row.status = record.get("status", row.status)


def _value(record: Record, key: str, otherwise: float | None) -> float | None:
    return number(record[key]) if key in record else otherwise
