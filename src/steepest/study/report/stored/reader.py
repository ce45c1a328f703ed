"""Stored files of a study folder -> typed, immutable objects. Nothing else in this package opens a stored file.

The reader forgives the effects of an interruption (a missing file, a torn last line, no end record) and reports each
as a notice. It refuses a study that it cannot understand (no ``study.json``, another schema).
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from steepest.study.records.format import (
    BEHAVIOUR,
    EVALUATION,
    FIGURES,
    SCHEMA,
    SEARCH,
    TIMING,
    FormatError,
    OptimizerEntry,
    StudyDocument,
    TrialEnd,
    TrialEntry,
    TrialTimes,
    is_number,
    read,
)
from steepest.study.records.records import Record, number
from steepest.study.report.errors import ReportError
from steepest.study.report.stored.records import read_all, read_ends
from steepest.study.report.stored.study import Array, Epoch, Layer, Sample, Study, Trial


def read_study(folder: Path) -> Study:
    """Read a study folder; raises `ReportError` if it is not one, is damaged, or has another schema."""
    document = read_document(folder)
    notices: list[str] = []
    trials = [read_trial(folder, entry, notices, whole=entry.phase != SEARCH) for entry in document.trials]
    of_phase = {phase: tuple(one for one in trials if one.phase == phase) for phase in (SEARCH, EVALUATION, TIMING)}
    return Study(
        folder=str(folder),
        document=document,
        optimizers=_with_missing_optimizers(document.optimizers, of_phase[EVALUATION]),
        trials=of_phase[EVALUATION],
        search_trials=of_phase[SEARCH],
        timing_trials=of_phase[TIMING],
        notices=tuple(notices),
    )


def read_document(folder: Path) -> StudyDocument:
    """Read the document of a study folder; raises `ReportError` as `read_study` does."""
    path = folder / "study.json"
    if not path.is_file():
        raise ReportError(_no_study(folder))
    try:
        plan = json.loads(path.read_bytes())
    except ValueError as error:
        raise ReportError(
            f"{path} is not readable JSON ({error}). Run the study's command again to rewrite it."
        ) from None
    if not isinstance(plan, dict):
        raise ReportError(f"{path} holds a {type(plan).__name__}, not an object. Is it the study.json of a study?")
    _check_schema(plan.get("schema"), path)
    try:
        return read(StudyDocument, plan)
    except FormatError as error:
        raise ReportError(f"{path} is damaged ({error}); there is no study to report on.") from None


def _no_study(folder: Path) -> str:
    state = "has no study.json" if folder.is_dir() else "is no folder" if folder.exists() else "does not exist"
    found = sorted(path.parent.name for path in folder.glob("*/study.json")) if folder.is_dir() else []
    inside = f" It holds studies: {', '.join(found[:8])}; name one of them." if found else ""
    return (
        f"{folder} {state}, so there is no study to report on.{inside} "
        "Give the folder that 'steepest study' wrote (the one with study.json and trials/ in it)."
    )


def _check_schema(schema: object, path: Path) -> None:
    if schema != SCHEMA:
        raise ReportError(
            f"{path} has schema {schema!r}; this version of Steepest reads schema {SCHEMA}. "
            "Write the report with the version of Steepest that ran the study."
        )


def _with_missing_optimizers(
    entries: tuple[OptimizerEntry, ...], trials: tuple[Trial, ...]
) -> tuple[OptimizerEntry, ...]:
    """Add the optimizers of trials that study.json does not list, so that these are still shown."""
    known = {entry.label for entry in entries}
    missing = dict.fromkeys(trial.optimizer for trial in trials if trial.optimizer not in known)
    return entries + tuple(_unlisted(label) for label in missing)


def _unlisted(label: str) -> OptimizerEntry:
    return OptimizerEntry(label=label, name="", given={}, options={}, schedule="", rule_sha256="", space={}, points=())


def read_trial(folder: Path, entry: TrialEntry, notices: list[str], *, whole: bool = True) -> Trial:
    """Read a trial; of one that is not wanted `whole`, the beginning and what follows its last evaluation.

    Raises:
        ReportError: a record is damaged, or has another schema.
    """
    empty = Trial(entry.id, entry.optimizer, entry.seed, entry.phase, entry.point)
    read_file = read_all if whole else read_ends
    path = folder / "trials" / f"{entry.id}.jsonl"
    records = _last_run(read_file(path, notices))
    if not records:
        return empty
    if records[0].get("kind") == "trial":
        _check_schema(records[0].get("schema"), path)
    times = read_file(folder / "times" / f"{entry.id}.jsonl", notices)
    try:
        return _filled(empty, records, times)
    except FormatError as error:
        raise ReportError(f"{path} is damaged ({error}); move it away, and run the study's command again.") from None


def _last_run(records: list[Record]) -> list[Record]:
    """Return the records from the last header on: a repeated trial may have been appended to its file."""
    starts = [index for index, record in enumerate(records) if record.get("kind") == "trial"]
    return records[starts[-1] :] if starts else records


def _filled(empty: Trial, records: list[Record], times: list[Record]) -> Trial:
    steps = [record for record in records if record.get("kind") == "step"]
    epochs = _epochs(records, times)
    last = next((record for record in records if record.get("kind") == "end"), {})
    optimizer = _optimizer(records[0])
    end, clock = read(TrialEnd, last, empty.id), read(TrialTimes, times[-1] if times else {}, empty.id)
    return replace(
        empty,
        status=end.status,
        step=end.step or max((record.get("step", 0) for record in records), default=0),
        epoch=end.epoch or max((epoch.epoch for epoch in epochs), default=0),
        steps=_array(steps, "step"),
        losses=_array(steps, "loss"),
        epochs=epochs,
        samples=_samples(records),
        logs=_logs(records),
        final=_numbers(last),
        options=optimizer.get("options", {}),
        schedule=optimizer.get("schedule", ""),
        seconds=clock.train_seconds,
        examples=clock.examples,
        step_seconds=clock.step_seconds,
        executor=clock.executor,
        reason=end.reason or end.error,
        traceback=end.traceback or None,
        restarts=clock.restarts,
    )


def _optimizer(first: Record) -> Mapping[str, Any]:
    """Return the optimizer of a trial's first record; nothing where the trial failed before it was written."""
    optimizer: Mapping[str, Any] = first["spec"]["optimizer"] if "spec" in first else {}
    return optimizer


def _epochs(records: list[Record], times: list[Record]) -> tuple[Epoch, ...]:
    clock = {record["epoch"]: record["train_seconds"] for record in times if record.get("kind") == "epoch"}
    return tuple(
        Epoch(
            epoch=record["epoch"],
            step=record["step"],
            values=_numbers(record),
            seconds=clock.get(record["epoch"], None if record["epoch"] else 0.0),
        )
        for record in records
        if record.get("kind") == "epoch"
    )


def _samples(records: list[Record]) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            record["step"],
            _layer([record[name] for name in FIGURES]),
            {name: _layer(figures) for name, figures in record["layers"].items()},
        )
        for record in records
        if record.get("kind") == BEHAVIOUR
    )


def _layer(figures: list[float | str]) -> Layer:
    return Layer(*map(number, figures))


def _logs(records: list[Record]) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(
            record["epoch"],
            record["step"],
            {name: value for name, value in _numbers(record).items() if name not in ("epoch", "step")},
        )
        for record in records
        if record.get("kind") == "log"
    )


def _numbers(record: Record) -> dict[str, float]:
    return {key: number(value) for key, value in record.items() if is_number(value)}


def _array(records: list[Record], key: str) -> Array:
    return np.array([number(record[key]) for record in records], dtype=np.float64)
