"""The trials of a study -> a logger."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from steepest.study import user_files
from steepest.study.errors import StudyError
from steepest.study.records.format import EVALUATION, FIGURES, SEARCH, StudyDocument
from steepest.study.report.loggers.base import LoggedTrial, Logger
from steepest.study.report.loggers.find import check, find
from steepest.study.report.stored.reader import read_document, read_trial
from steepest.study.report.stored.study import Trial
from steepest.study.report.write import replace_file

PLACE: Final = ("epoch", "step")
"""The names of a record's place in training."""


def log_study(folder: Path | str, logger: Logger, *, search: bool = False) -> list[str]:
    """Give a study's trials to a logger, from their records. The study may be running.

    Args:
        folder: the study's folder.
        logger: any object with the methods of `Logger`.
        search: True to give the trials of the search too, after those of the evaluation.

    Returns:
        The trials that the logger got: all with records.

    Raises:
        ReportError: the folder has no study, or a record is damaged.
        StudyError: the logger raised an error, which is the cause.
    """
    return _logged(Path(folder), check(logger), search)


def log_into(folder: Path, source: str, out: Path, *, search: bool = False) -> tuple[Path, list[str]]:
    """Bring the logs of a study up to date: give a logger the trials that it has not had as they are.

    Args:
        folder: the study's folder.
        source: a name of `LOGGERS`, `MODULE:NAME` or `FILE.py:NAME`.
        out: the folder of the export.
        search: True to give the trials of the search too.

    Returns:
        The logger's own folder, whose `.logged` holds the digests of what it has had, and the trials that it got.

    Raises:
        UsageError: the logger does not exist, or lacks a method.
        ReportError, StudyError: as `log_study` does, or the logger's package is not installed.
    """
    logger, place = find(source, out)
    return place, _logged(folder, logger, search, place / ".logged", source)


def _logged(folder: Path, logger: Logger, search: bool, marks: Path | None = None, source: str = "") -> list[str]:
    """Log all trials that have records; with `marks`, those that have changed since `source` last logged them."""
    document = read_document(folder)
    phases = (EVALUATION, SEARCH) if search else (EVALUATION,)
    logged = []
    for entry in [entry for phase in phases for entry in document.trials if entry.phase == phase]:
        records = _records(folder, entry.id)  # before they are read as a trial: they may grow meanwhile
        digest = hashlib.sha256(b"\0".join([source.encode(), *records])).hexdigest().encode()
        mark = None if marks is None else marks / entry.id
        if not records[0] or (mark is not None and mark.is_file() and mark.read_bytes() == digest):
            continue
        _log(logger, _described(document, trial := read_trial(folder, entry, [])), trial)
        logged.append(entry.id)
        if mark is not None:
            replace_file(mark, digest, again="steepest export")
    return logged


def _records(folder: Path, trial: str) -> list[bytes]:
    """Return the contents of a trial's files, its records and its times; empty for one that is missing."""
    files = [folder / kind / f"{trial}.jsonl" for kind in ("trials", "times")]
    return [path.read_bytes() if path.is_file() else b"" for path in files]


def _log(logger: Logger, described: LoggedTrial, trial: Trial) -> None:
    try:
        logger.begin_trial(described)
        for step, values in _points(trial):
            logger.points(step, values)
        logger.end_trial(trial.status, _without(trial.final, *PLACE, "evaluations"))
    except Exception as error:  # whatever another tool or the user's code raises
        raise StudyError(
            f"the logger {type(logger).__name__} stopped at trial {trial.id} with {user_files.reason(error)}"
        ) from error


def _described(document: StudyDocument, trial: Trial) -> LoggedTrial:
    config = document.config
    facts = {
        "workload": document.workload,
        "preset": document.preset,
        "metric": document.metric.name,
        "model": document.model.name,
        "parameters": document.model.parameters,
        "data": document.data.name if document.data else None,
        config.unit: config.epochs,
        "batch_size": config.batch_size,
        "precision": config.precision,
        "device": config.device.name if config.device else "cpu",
        "threads": document.threads,
    }
    return LoggedTrial(
        study=document.name,
        started=_seconds(document.created),
        id=trial.id,
        optimizer=trial.optimizer,
        seed=trial.seed,
        phase=trial.phase,
        hyperparameters={**trial.options, "schedule": trial.schedule},
        config={name: value for name, value in facts.items() if value is not None},
    )


def _seconds(created: str) -> float:
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return 0.0


def _points(trial: Trial) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Yield every step that has figures, in order, and these by name. Those of `run.log` have `log/` before theirs."""
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for step, loss in zip(trial.steps.tolist(), trial.losses.tolist(), strict=True):
        found[int(step)]["loss"] = loss
    for epoch in trial.epochs:
        seconds = {} if epoch.seconds is None else {"seconds": epoch.seconds}
        found[epoch.step] |= {"epoch": epoch.epoch, **_without(epoch.values, *PLACE), **seconds}
    for entry in trial.logs:
        found[entry.step] |= {f"log/{name}": value for name, value in entry.values.items()}
    for sample in trial.samples:
        for parameter, layer in sample.every("all").items():
            found[sample.step] |= {f"{name}/{parameter}": value for name, value in zip(FIGURES, layer, strict=True)}
    yield from sorted(found.items())


def _without(values: Mapping[str, float], *names: str) -> dict[str, float]:
    return {name: value for name, value in values.items() if name not in names}
