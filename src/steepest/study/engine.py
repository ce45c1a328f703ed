"""Running a plan: what is done is skipped, what crashes is recorded, what is interrupted stays on the disk."""

import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from steepest.study.merge import merge
from steepest.study.plan import Plan
from steepest.study.spec import Task, TrialSpec
from steepest.study.store import StudyFolder
from steepest.study.trial import Event, run_trial


class Watcher(Protocol):
    """Somebody who looks on while a study runs."""

    def trial_started(self, trial: TrialSpec) -> None:
        """A trial is about to begin."""

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        """A running trial has something to tell; it ends with a record of kind `end`."""


@dataclass
class Tally:
    """How a run of a plan went: the trials skipped because they were done, and how the others ended.

    `notes` tell of record files that were found damaged; their trials ran again.
    """

    skipped: int = 0
    notes: list[str] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False


def pending(plan: Plan, folder: StudyFolder) -> list[TrialSpec]:
    """Return the trials that are still to run."""
    return [trial for trial in plan.trials if not folder.is_done(trial.id)]


def run(plan: Plan, folder: StudyFolder, watcher: Watcher, order: Sequence[str] = ()) -> Tally:
    """Run what is still to run. Ctrl-C ends the running trial without an end record; it starts again next time."""
    with folder.writing():
        folder.write_document(merge(folder.read_document(), plan.document, order, folder.path))
        trials = pending(plan, folder)
        notes = [note for trial in trials if (note := folder.read_trial(trial.id).note)]
        tally = Tally(len(plan.trials) - len(trials), notes)
        try:
            for trial in trials:
                watcher.trial_started(trial)
                tally.ended[_run(trial, plan.task, folder, watcher)] += 1
        except KeyboardInterrupt:
            tally.interrupted = True
    return tally


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
