"""Progress lines for output that is not a terminal: one line for every epoch and every end of a trial."""

from collections.abc import Sequence

from rich.console import Console

from steepest.cli import text
from steepest.study.records.format import EVALUATION, FINISHED
from steepest.study.records.records import Record
from steepest.study.running.progress import Progress
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event


class PlainLines:
    """A callback that prints progress lines."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress = progress
        self._console = console
        self._places: dict[str, int] = {}

    def stage_started(self, trials: Sequence[TrialSpec]) -> None:
        """Update the progress and count the trials of the stage."""
        self._progress.stage_started(trials)
        self._places = {trial.id: place for place, trial in enumerate(trials, 1)}

    def trial_started(self, trial: TrialSpec) -> None:
        """Update the progress."""
        self._progress.trial_started(trial)

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        """Update the progress and print the line of an epoch, of a trial's end, or of a resumed trial."""
        self._progress.trial_event(trial, event)
        kind = event.record["kind"]
        if kind == "end" or (kind == "epoch" and event.record["epoch"] and trial.phase == EVALUATION):
            self._print(trial, self._end(trial, event) if kind == "end" else self._epoch(trial))
        elif kind == "resumed":
            self._print(trial, f"resumes after step {event.record['step']}, from its checkpoint")

    def _epoch(self, trial: TrialSpec) -> str:
        row, metric = self._progress.rows[trial.id], self._progress.metric
        parts = [f"{self._progress.unit} {row.epoch:g}/{trial.epochs}", f"loss {text.number(row.loss)}"]
        if row.validation is not None:
            parts.append(f"validation {text.words(metric)} {text.score(row.validation, metric)}")
        if row.examples:
            parts.append(f"{text.speed(row.speed)} examples/s")
        parts += [f"{text.duration(self._progress.seconds_left())} left"]
        return ", ".join(parts)

    def _end(self, trial: TrialSpec, event: Event) -> str:
        record = event.record
        if record["status"] == FINISHED:
            return f"finished{self._result(trial, record)}"
        return f"{record['status']}: {record.get('reason') or record.get('error')}"

    def _result(self, trial: TrialSpec, record: Record) -> str:
        """Return the test figure of an evaluation trial, the validation figure of a search trial."""
        metric, row = self._progress.metric, self._progress.rows[trial.id]
        words = text.words(metric)
        if f"test_{metric}" in record:
            return f", test {words} {text.score(record[f'test_{metric}'], metric)}"
        return "" if row.validation is None else f", validation {words} {text.score(row.validation, metric)}"

    def _print(self, trial: TrialSpec, message: str) -> None:
        place = f"[{self._places[trial.id]}/{len(self._places)}]"
        line = f"{trial.phase} {place} {trial.config.label} seed {trial.seed}: {message}"
        self._console.print(line, markup=False)
