"""Execution of a trial with its files: it resumes from its checkpoint, and its record states how it ended."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steepest.study.errors import StoreError
from steepest.study.records.format import FAILED
from steepest.study.records.lease import Writer
from steepest.study.records.records import Record, alike
from steepest.study.running.store import DONE, StudyFolder, TrialLog, TrialRecords
from steepest.study.trials.checkpoints import SECONDS, Checkpoint, CheckpointFile, CheckpointManager, UnsafeStateError
from steepest.study.trials.run import Trainable
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event, Tell, run_trial, start_of


def execute(
    spec: TrialSpec,
    load: Callable[[], Trainable],
    folder: StudyFolder,
    tell: Tell,
    seconds: float = SECONDS,
    stop: Callable[[], bool] = bool,
    writer: Writer | None = None,
) -> None:
    """Run a trial and tell its events once they are in its files.

    A resumed trial begins with an event of kind `resumed`, which is not stored. For a trial that another process has
    finished, only its end is told. A crash is an event of kind `end` with the status `failed`.

    Args:
        spec: the trial.
        load: returns its task.
        folder: the study's folder.
        tell: the receiver of the events.
        seconds: between two checkpoints.
        stop: asked after every step whether to stop there; the trial then ends without an event of kind `end`.
        writer: the writer, if other nodes may write too; then a lease is held in place of a lock.

    Raises:
        StoreError: the files cannot be written, or another process writes them.
    """
    with folder.log(spec.id, writer) as log:
        stored = folder.read_trial(spec.id)
        if stored.end is not None and stored.status in DONE:
            tell(Event(stored.end))
            return
        file = folder.checkpoint(spec)
        checkpoint = _usable(file, stored, log, spec)
        log.cut(checkpoint.lengths if checkpoint else (0, 0))
        manager = CheckpointManager(file, log.saved, seconds, proven=checkpoint is not None, stop=stop)
        if checkpoint:
            tell(_resumed(checkpoint))

        def tell_stored(event: Event) -> None:
            log.write(event)
            if event.record.get("status") in DONE:
                file.delete()
            tell(event)

        with_crashes(spec, load, tell_stored, checkpoint, manager, folder.files(spec.id))


def record_death(
    spec: TrialSpec,
    folder: StudyFolder,
    error: str,
    output: str,
    status: str = FAILED,
    writer: Writer | None = None,
) -> Event:
    """Write and return the end of a trial whose process is dead.

    Args:
        spec: the trial.
        folder: where its files are.
        error: the way in which the process ended.
        output: the last lines that it printed.
        status: `failed`, or `timed out` for a process that was ended because the trial exceeded its time limit.
        writer: the writer, if other nodes may write too.
    """
    with folder.log(spec.id, writer) as log:
        stored = folder.read_trial(spec.id)
        if stored.end is not None:  # it died after the trial
            return Event(stored.end)
        log.cut(log.whole)
        if not stored.lines:
            log.write(start_of(spec))
        last: Record = stored.lines[-1] if stored.lines else {}
        event = _failure(_position(last), error, output, status)
        log.write(event)
    return event


def _usable(file: CheckpointFile, stored: TrialRecords, log: TrialLog, spec: TrialSpec) -> Checkpoint | None:
    """Return the trial's checkpoint, unless it is damaged or does not belong to these files."""
    if not stored.lines or not alike(stored.lines[0], start_of(spec).record):
        return None
    try:
        checkpoint = file.read()
    except UnsafeStateError:
        return None
    return checkpoint if checkpoint is not None and log.cut(checkpoint.lengths) else None


def _resumed(checkpoint: Checkpoint) -> Event:
    epoch, _, step, examples = checkpoint.state["position"]
    position = {"kind": "resumed", "epoch": epoch, "step": step}
    return Event(position, {**position, "examples": examples, "train_seconds": checkpoint.state["train_seconds"]})


def with_crashes(
    spec: TrialSpec,
    load: Callable[[], Trainable],
    tell: Tell,
    checkpoint: Checkpoint | None = None,
    manager: CheckpointManager | None = None,
    place: Path | None = None,
) -> None:
    """Tell a trial's events, and after a crash one more event about it. The start event is never missing."""
    last = None if checkpoint is None else _resumed(checkpoint)
    untold: Exception | None = None

    def noted(event: Event) -> None:
        nonlocal last, untold
        last = event
        try:
            tell(event)
        except Exception as error:
            untold = error
            raise

    try:
        run_trial(spec, load(), noted, checkpoint.state if checkpoint else None, manager, place)
    except StoreError:
        raise
    except (Exception, SystemExit) as error:
        stopped = manager is not None and manager.stop() and isinstance(error, SystemExit)
        if error is untold or stopped:  # the trial is not at fault
            raise
        if last is None:
            tell(start_of(spec))
        position = _position(last.record if last else {})
        tell(_failure(position, f"{type(error).__name__}: {error}", traceback.format_exc()))


def _position(record: Record) -> dict[str, Any]:
    return {key: record.get(key, 0) for key in ("epoch", "step")}


def _failure(position: dict[str, Any], error: str, text: str, status: str = FAILED) -> Event:
    return Event({"kind": "end", **position, "status": status, "error": error, "traceback": text})
