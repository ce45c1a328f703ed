"""Running a plan: what is done is skipped, what crashes is recorded, what is interrupted stays on the disk."""

import math
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

from steepest.study.errors import UsageError
from steepest.study.extension import extension_of
from steepest.study.merge import merge, with_trials
from steepest.study.plan import Candidate, Plan, PlannedTrial, entries
from steepest.study.records import number
from steepest.study.selection import choose
from steepest.study.spec import TrialSpec
from steepest.study.store import StudyFolder
from steepest.study.task import Task
from steepest.study.trial import Event, run_trial


class Watcher(Protocol):
    """Somebody who looks on while a study runs."""

    def stage_started(self, trials: Sequence[TrialSpec]) -> None:
        """A stage begins, with these trials; some may be done already."""

    def trial_started(self, trial: TrialSpec) -> None:
        """A trial is about to begin."""

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        """A running trial has something to tell; it ends with a record of kind `end`."""


@dataclass
class Tally:
    """How a run of a plan went: the trials skipped because they were done, and how the others ended.

    `notes` tell of record files that were found damaged, and of optimizers whose search found nothing.
    """

    skipped: int = 0
    notes: list[str] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False


def run(plan: Plan, folder: StudyFolder, watcher: Watcher, order: Sequence[str] = ()) -> Tally:
    """Run what is still to run. Ctrl-C ends the running trial without an end record; it starts again next time."""
    tally = Tally()
    with folder.writing():
        folder.write_document(merge(folder.read_document(), plan.document, order, folder.path))
        try:
            _run_stages(plan, folder, watcher, tally)
        except KeyboardInterrupt:
            tally.interrupted = True
    return tally


def next_extension(plan: Plan, folder: StudyFolder) -> dict[str, dict[str, float]]:
    """Return where the searches of a folder should go on, by label; empty where every best rate is enclosed."""
    waiting = pending(plan.search_trials, folder)
    if waiting or not plan.candidates:
        raise UsageError(f"--extend needs a finished search; {folder.path} has {len(waiting)} search trials to run")
    left_out = _searching(folder) - set(plan.candidates)
    if left_out:
        raise UsageError(f"--extend goes for all optimizers of a folder alike; name these too: {', '.join(left_out)}")
    tried = {label: _tried(label, plan, folder) for label in plan.candidates}
    maximize = plan.task.metric.direction == "maximize"
    return extension_of(plan.spaces, tried, plan.document["protocol"]["extensions"], maximize)


def _searching(folder: StudyFolder) -> set[str]:
    """Return the labels of the folder's optimizers that search."""
    return {entry["label"] for entry in (folder.read_document() or {})["optimizers"] if entry["points"]}


def _tried(label: str, plan: Plan, folder: StudyFolder) -> list[tuple[Mapping[str, Any], float]]:
    """Return every drawn point with its mean score."""
    scores = search_scores(label, plan, folder)
    drawn = [one for one in plan.candidates[label] if isinstance(one.point, int)]
    return [(one.contestant.options, fmean(scores[one.point])) for one in drawn if one.point is not None]


def pending(trials: Sequence[PlannedTrial], folder: StudyFolder) -> list[PlannedTrial]:
    """Return the trials that are still to run."""
    return [trial for trial in trials if not folder.is_done(trial.id)]


def _run_stages(plan: Plan, folder: StudyFolder, watcher: Watcher, tally: Tally) -> None:
    _run_stage(plan.search_trials, plan, folder, watcher, tally)
    chosen = plan.given + _winners(plan, folder, tally)
    _note_choice(chosen, folder)
    _run_stage(plan.evaluation_trials(chosen), plan, folder, watcher, tally)
    _run_stage(plan.timing_trials(chosen), plan, folder, watcher, tally)


def _run_stage(trials: Sequence[PlannedTrial], plan: Plan, folder: StudyFolder, watcher: Watcher, tally: Tally) -> None:
    folder.change_document(lambda document: with_trials(document, entries(trials)))
    watcher.stage_started([trial.spec for trial in trials])
    waiting = pending(trials, folder)
    tally.skipped += len(trials) - len(waiting)
    notes = [note for trial in waiting if (note := folder.read_trial(trial.id).note)]
    tally.notes += [f"{note}; the trial ran again" for note in notes]
    for trial in waiting:
        watcher.trial_started(trial.spec)
        tally.ended[_run(trial.spec, plan.task, folder, watcher)] += 1


def _winners(plan: Plan, folder: StudyFolder, tally: Tally) -> list[Candidate]:
    """Return the chosen point of every optimizer that searches; one whose every trial failed has none."""
    chosen = []
    for label, candidates in plan.candidates.items():
        scores = search_scores(label, plan, folder)
        point, score = choose(scores, plan.task.metric.direction == "maximize")
        if math.isnan(score):
            tally.notes.append(f"{label}: no trial of its search finished on every tuning seed, so it is not evaluated")
            continue
        chosen.append(next(one for one in candidates if one.point == point))
    return chosen


def search_scores(label: str, plan: Plan, folder: StudyFolder) -> dict[int | str, list[float]]:
    """Return the last value of the validation metric of every search trial, NaN where a trial did not finish."""
    scores: dict[int | str, list[float]] = {}
    for trial in plan.search_trials:
        if trial.spec.contestant.label == label and trial.point is not None:
            scores.setdefault(trial.point, []).append(_score(trial, plan, folder))
    return scores


def _score(trial: PlannedTrial, plan: Plan, folder: StudyFolder) -> float:
    found = folder.read_trial(trial.id)
    if found.status != "finished":
        return math.nan
    last = next(line for line in reversed(found.lines) if line["kind"] == "epoch")
    return number(last[f"validation_{plan.task.metric.name}"])


def _note_choice(chosen: Sequence[Candidate], folder: StudyFolder) -> None:
    """Write down what is evaluated; trials of a label whose choice has changed since are no longer its results."""

    def change(document: dict[str, Any]) -> dict[str, Any]:
        known = document["chosen"]
        new = {one.contestant.label: _choice(one) for one in chosen}
        changed = {label for label, choice in new.items() if known.get(label, choice) != choice}
        kept = [one for one in document["trials"] if one["phase"] == "search" or one["optimizer"] not in changed]
        return {**document, "trials": kept, "chosen": known | new}

    folder.change_document(change)


def _choice(candidate: Candidate) -> dict[str, Any]:
    contestant = candidate.contestant
    return {
        "point": candidate.point,
        "given": dict(contestant.options),
        "options": contestant.origin.resolved(contestant.options),
    }


def _run(trial: TrialSpec, task: Task, folder: StudyFolder, watcher: Watcher) -> str:
    with folder.log(trial.id) as log:
        for event in _with_crashes(trial, task):
            log.write(event)
            watcher.trial_event(trial, event)
    return str(event.record["status"])


def _with_crashes(trial: TrialSpec, task: Task) -> Iterator[Event]:
    """Yield a trial's events; one more tells of the crash if there was one."""
    position = {"epoch": 0, "step": 0}
    try:
        for event in run_trial(trial, task):
            position = {key: event.record.get(key, 0) for key in position}
            yield event
    except Exception as error:
        failure = {"status": "failed", "error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        yield Event({"kind": "end", **position, **failure})
