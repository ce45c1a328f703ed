"""Running a plan: finished trials are skipped, crashes are recorded, interrupted trials keep their checkpoints."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import Any, Protocol

from steepest.study.errors import MetricError, UsageError
from steepest.study.planning.extension import extension_of
from steepest.study.planning.merge import merge, notes, with_seeds, with_trials
from steepest.study.planning.plan import Candidate, Plan, PlannedTrial, entries
from steepest.study.planning.search import Space
from steepest.study.planning.selection import choose
from steepest.study.records.format import FINISHED, SEARCH, Choice, Point, StudyDocument
from steepest.study.records.records import alike, number
from steepest.study.running import signals
from steepest.study.running.looks import needing_seeds
from steepest.study.running.store import DONE, StudyFolder, TrialRecords
from steepest.study.running.workers import InProcess, TrialUpdate, Workers
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event


class Callback(Protocol):
    """An observer of a running study."""

    def stage_started(self, trials: Sequence[TrialSpec]) -> None:
        """Handle the begin of a stage with these trials, of which some may be done already."""

    def trial_started(self, trial: TrialSpec) -> None:
        """Handle the begin of a trial."""

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        """Handle an event of a running trial. Its last event is a record of kind `end`.

        A resumed trial first emits a record of kind `resumed`. Records of steps may be skipped.
        """


@dataclass
class RunSummary:
    """The outcome of a run: the number of skipped trials, and how the others ended.

    `signal` is the signal that interrupted the run, if any: Ctrl-C is SIGINT. `left` is the number of trials of its
    stage that a run whose time was spent has left. `notes` name damaged record files,
    changed files, optimizers whose search found nothing, and settings of the process that trials change.
    """

    skipped: int = 0
    notes: list[str] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    signal: int | None = None
    left: int = 0

    @property
    def interrupted(self) -> bool:
        """True if a signal ended the run before its plan was done."""
        return self.signal is not None


def run(
    plan: Plan,
    folder: StudyFolder,
    callback: Callback,
    order: Sequence[str] = (),
    workers: Workers | None = None,
    deadline: float = math.inf,
) -> RunSummary:
    """Run the trials of a plan that are not done yet.

    Ctrl-C, SIGTERM and SIGHUP leave running trials without an end record. The next run resumes these from their
    checkpoints.

    Args:
        plan: the plan.
        folder: the folder of its records.
        callback: the observer of the run.
        order: names of the optimizers that come first in tables.
        workers: the workers that run the trials; by default this process, one trial after another.
        deadline: the time on the monotonic clock after which no trial starts.
    """
    study = _Study(plan, folder, callback, workers or InProcess(plan.task, folder), deadline)
    with folder.writing(), signals.as_interrupts():
        before = folder.read_document()
        folder.write_document(merge(before, plan.document, order, folder.path))
        study.summary.notes.extend(notes(before, plan.document))
        try:
            study.run()
        except _SpentError as spent:
            study.summary.left = spent.left
        except KeyboardInterrupt as interrupt:
            study.summary.signal = signals.number_of(interrupt)
        finally:
            study.workers.cancel()
    return study.summary


def next_extension(plan: Plan, folder: StudyFolder) -> dict[str, dict[str, float]]:
    """Return the new range of every search of a folder that is to be extended, by label.

    Optimizers whose best rate is enclosed are left out.
    """
    waiting = pending(plan.search_trials, folder)
    if waiting or not plan.candidates:
        raise UsageError(f"--extend needs a finished search; {folder.path} has {len(waiting)} search trials to run")
    left_out = _searching(folder) - set(plan.candidates)
    if left_out:
        raise UsageError(f"--extend goes for all optimizers of a folder alike; name these too: {', '.join(left_out)}")
    tried = {label: _tried(label, plan, folder) for label in plan.candidates}
    maximize = plan.task.metric.direction == "maximize"
    return extension_of(plan.spaces, tried, plan.document.protocol.extensions, maximize)


def _searching(folder: StudyFolder) -> set[str]:
    """Return the labels of the folder's optimizers with a search."""
    return {entry.label for entry in folder.document().optimizers if entry.points}


def _tried(label: str, plan: Plan, folder: StudyFolder) -> list[tuple[Mapping[str, Any], float]]:
    """Return every drawn point with its mean score."""
    scores = search_scores(label, plan, folder)
    drawn = [candidate for candidate in plan.candidates[label] if isinstance(candidate.point, int)]
    return [
        (candidate.config.options, fmean(scores[candidate.point])) for candidate in drawn if candidate.point is not None
    ]


def pending(trials: Sequence[PlannedTrial], folder: StudyFolder) -> list[PlannedTrial]:
    """Return the trials that are still to run."""
    return [trial for trial in trials if not folder.is_done(trial.id)]


class _SpentError(Exception):
    """The run's time is spent, and some trials of the stage have not run."""

    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


@dataclass
class _Study:
    """A run in progress."""

    plan: Plan
    folder: StudyFolder
    callback: Callback
    workers: Workers
    deadline: float = math.inf
    summary: RunSummary = field(default_factory=RunSummary)
    damaged: dict[str, str] = field(default_factory=dict)
    changed: dict[str, Sequence[str]] = field(default_factory=dict)

    def run(self) -> None:
        self._run_stage(self.plan.search_trials)
        self._check_metric(self.plan.search_trials, "validation")
        chosen = self.plan.given + _winners(self.plan, self.folder, self.summary)
        _note_choice(chosen, self.plan, self.folder)
        evaluations = self.plan.evaluation_trials(chosen)
        self._run_stage(evaluations)
        self._check_metric(evaluations, "test")
        self._look_again(chosen)
        self._run_stage(self.plan.timing_trials(chosen), alone=True)

    def _look_again(self, chosen: Sequence[Candidate]) -> None:
        """Add the planned blocks of seeds while a look leaves optimizers open: for these, and for the reference."""
        protocol, names = self.plan.document.protocol, {one.config.label for one in chosen}
        first = protocol.seed_offset
        for before, now in pairwise(protocol.looks):
            seen, added = range(first, first + before), range(first + before, first + now)
            labels = needing_seeds(self.folder, seen, added, names)
            if not labels:
                return
            self.folder.change_document(partial(with_seeds, seeds=added))
            more = replace(self.plan, seeds=tuple(added))
            self._run_stage(more.evaluation_trials([one for one in chosen if one.config.label in labels]))

    def _check_metric(self, trials: Sequence[PlannedTrial], split: str) -> None:
        """Raise MetricError if trials finished with a finite loss, but none of them with a finite metric."""
        name = self.plan.task.metric.name
        records = (self.folder.read_trial(trial.id) for trial in trials)  # one at a time: together they fill the memory
        values = [last_value(record, f"{split}_{name}") for record in records if record.status == FINISHED]
        if values and not any(map(math.isfinite, values)):
            raise MetricError(
                f"the metric {name!r} is {values[0]} on the {split} set in all {len(values)} trials that finished, "
                f"although their losses are finite: that is an error of the metric's function, not of an optimizer. "
                f"Let it return finite numbers, and give another folder with --out; {self.folder.path} keeps the trials"
            )

    def _run_stage(self, trials: Sequence[PlannedTrial], alone: bool = False) -> None:
        self.folder.change_document(lambda document: with_trials(document, entries(trials)))
        self.callback.stage_started([trial.spec for trial in trials])
        waiting = self._look(trials)
        self.summary.skipped += len(trials) - len(waiting)
        for batch in [[trial] for trial in waiting] if alone else [waiting]:
            self._check_time(batch)
            self._run_batch(batch)
        if self._is_late:
            self._check_time([trial for trial in waiting if self.folder.read_trial(trial.id).end is None])

    @property
    def _is_late(self) -> bool:
        return time.monotonic() >= self.deadline

    def _check_time(self, trials: Sequence[PlannedTrial]) -> None:
        """Raise _SpentError if the time is spent and there are trials that have not run."""
        if trials and self._is_late:
            raise _SpentError(len(trials))

    def _look(self, trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
        """Return the trials that are still to run. Note damaged files, and delete checkpoints of finished trials."""
        waiting = []
        for trial in trials:
            stored = self.folder.read_trial(trial.id)
            if stored.is_done:
                self.folder.checkpoint(trial.spec).delete()
                continue
            waiting.append(trial)
            if stored.note is not None:
                self.damaged[trial.id] = stored.note
        return waiting

    def _run_batch(self, batch: Sequence[PlannedTrial]) -> None:
        for trial in batch:
            self.workers.submit(trial.spec)
        self.workers.collect(self._take)

    def _note_settings(self, trial: TrialSpec, changes: Sequence[str]) -> None:
        """Note once per optimizer which settings of the process its trials change."""
        if changes and self.changed.get(trial.config.label) != changes:
            self.changed[trial.config.label] = changes
            self.summary.notes.append(
                f"trials of {trial.config.label} change {', '.join(changes)}; "
                "each computes with what it sets, and it is put back before the next trial"
            )

    def _note_left_behind(self, trial: TrialSpec, names: Sequence[str]) -> None:
        """Note once which processes trials leave behind."""
        note = (
            f"trials leave processes behind ({', '.join(names)}), which were ended; let the training function end what "
            "it starts"
        )
        if names and not any(one.startswith("trials leave processes behind") for one in self.summary.notes):
            self.summary.notes.append(note)

    def _take(self, update: TrialUpdate) -> None:
        if update.event is None:
            self.callback.trial_started(update.trial)
        else:
            self._take_event(update.trial, update.event)

    def _take_event(self, trial: TrialSpec, event: Event) -> None:
        note = self.damaged.pop(trial.id, None)
        if note is not None:
            resumed = event.record["kind"] == "resumed"
            self.summary.notes.append(f"{note}; the trial {'went on from its checkpoint' if resumed else 'ran again'}")
        self.callback.trial_event(trial, event)
        if event.record["kind"] == "end":
            if self._is_late:
                self.workers.forget()
            self._note_settings(trial, (event.timing or {}).get("settings", ()))
            self._note_left_behind(trial, (event.timing or {}).get("left_behind", ()))
            self.summary.ended[str(event.record["status"])] += 1
            if event.record["status"] in DONE:  # a worker that was killed after its last line has left it
                self.folder.checkpoint(trial).delete()


def _winners(plan: Plan, folder: StudyFolder, summary: RunSummary) -> list[Candidate]:
    """Return the chosen point of every optimizer with a search. An optimizer without a finished trial is left out."""
    chosen = []
    for label, candidates in plan.candidates.items():
        scores = search_scores(label, plan, folder)
        point, score = choose(scores, plan.task.metric.direction == "maximize")
        if math.isnan(score):
            summary.notes.append(
                f"{label}: no trial of its search finished on every tuning seed, so it is not evaluated"
            )
            continue
        chosen.append(next(candidate for candidate in candidates if candidate.point == point))
    return chosen


def search_scores(label: str, plan: Plan, folder: StudyFolder) -> dict[Point, list[float]]:
    """Return the last value of the validation metric of every search trial, NaN where a trial did not finish."""
    scores: dict[Point, list[float]] = {}
    for trial in plan.search_trials:
        if trial.spec.config.label == label and trial.point is not None:
            scores.setdefault(trial.point, []).append(_score(trial, plan, folder))
    return scores


def _score(trial: PlannedTrial, plan: Plan, folder: StudyFolder) -> float:
    record = folder.read_trial(trial.id)
    if record.status != FINISHED:
        return math.nan
    return last_value(record, f"validation_{plan.task.metric.name}")


def last_value(record: TrialRecords, key: str) -> float:
    """Return a figure from the last record that has it."""
    return number(next(line[key] for line in reversed(record.lines) if key in line))


def _note_choice(chosen: Sequence[Candidate], plan: Plan, folder: StudyFolder) -> None:
    """Store the choices. Trials of a label whose choice has changed leave the document, and lose their checkpoints."""

    def change(document: StudyDocument) -> StudyDocument:
        known = document.chosen
        new = {entry.config.label: _choice(entry, plan.spaces.get(entry.config.label, {})) for entry in chosen}
        changed = {label for label, choice in new.items() if not alike(known.get(label, choice), choice)}
        kept = tuple(entry for entry in document.trials if entry.phase == SEARCH or entry.optimizer not in changed)
        return replace(document, trials=kept, chosen={**known, **new})

    folder.change_document(change)
    folder.forget_checkpoints({trial.id for trial in folder.document().trials})


def _choice(candidate: Candidate, space: Space) -> Choice:
    config, given = candidate.config, candidate.config.settings(space)
    return Choice(
        point=candidate.point,
        given=given,
        options={**config.origin.resolved(config.options), **given},
        schedule=config.schedule if set(config.recipe_names) & space.keys() else None,
    )
