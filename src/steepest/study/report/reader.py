"""Stored files of a study folder -> typed, immutable objects. Nothing else in this package opens a record.

The reader forgives what an interruption can do to a study (a missing file, a torn last line, no end record) and reports
it as a notice; it refuses what it cannot understand (no ``study.json``, another schema).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest.study.report.errors import ReportError

SCHEMA = 2
EVALUATION = "evaluation"
UNSTARTED = "not started"
INTERRUPTED = "interrupted"
FINISHED = "finished"
DIVERGED = "diverged"
FAILED = "failed"

Record = dict[str, Any]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Epoch:
    """What was recorded at the end of one epoch (epoch 0: before training)."""

    epoch: int
    step: int
    values: Mapping[str, float]
    seconds: float | None = None


@dataclass(frozen=True)
class Trial:
    """One training run as its records tell it."""

    id: str
    optimizer: str
    seed: int
    status: str = UNSTARTED
    step: int = 0
    epoch: int = 0
    steps: Array = field(default_factory=lambda: np.empty(0))
    losses: Array = field(default_factory=lambda: np.empty(0))
    epochs: tuple[Epoch, ...] = ()
    final: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    examples: float | None = None
    executor: str | None = None
    reason: str | None = None
    traceback: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the trial ran to its planned end."""
        return self.status == FINISHED

    @property
    def examples_per_second(self) -> float | None:
        """Training examples per second of training time, or None if no time was recorded."""
        if not self.seconds or self.examples is None:
            return None
        return self.examples / self.seconds


@dataclass(frozen=True)
class OptimizerSetting:
    """One competitor of the study: its label, registered name, resolved options and executor."""

    label: str
    name: str
    options: Mapping[str, Any]
    executor: str | None


@dataclass(frozen=True)
class Published:
    """Figures that somebody else published for the same optimizers."""

    source: str
    setting: str
    rows: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Study:
    """Everything a study folder holds."""

    name: str
    title: str
    description: str
    workload: str
    preset: str
    metric: str
    maximize: bool
    optimizers: tuple[OptimizerSetting, ...]
    trials: tuple[Trial, ...]
    published: Published | None
    notices: tuple[str, ...]
    config: Mapping[str, Any]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    seed_purposes: Mapping[str, str]
    versions: Mapping[str, Any]
    machine: Mapping[str, Any]
    threads: int | None
    commit: str | None
    created: str | None
    command: str | None

    def trials_of(self, label: str) -> tuple[Trial, ...]:
        """The trials of the optimizer with this label, in the study's order."""
        return tuple(trial for trial in self.trials if trial.optimizer == label)

    @property
    def labels(self) -> tuple[str, ...]:
        """The optimizers' labels in display order."""
        return tuple(setting.label for setting in self.optimizers)

    @property
    def fallback(self) -> str | None:
        """The sentence that says which data stood in for the wanted ones, or None."""
        return _text(self.data.get("fallback"))


def read_study(folder: Path) -> Study:
    """Read a study folder; raises `ReportError` if it is none or has another schema."""
    plan = _plan(folder)
    notices: list[str] = []
    entries = [_mapping(entry) for entry in _sequence(plan.get("trials"))]
    trials = tuple(_trial(folder, entry, notices) for entry in entries if entry.get("phase") == EVALUATION)
    return _study(plan, _with_missing_optimizers(_optimizers(plan), trials), trials, tuple(notices))


def _plan(folder: Path) -> Record:
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
    _check_schema(plan, path)
    return plan


def _no_study(folder: Path) -> str:
    state = "has no study.json" if folder.is_dir() else "is no folder" if folder.exists() else "does not exist"
    found = sorted(path.parent.name for path in folder.glob("*/study.json")) if folder.is_dir() else []
    inside = f" It holds studies: {', '.join(found[:8])}; name one of them." if found else ""
    return (
        f"{folder} {state}, so there is no study to report on.{inside} "
        "Give the folder that 'steepest study' wrote (the one with study.json and trials/ in it)."
    )


def _check_schema(record: Record, path: Path) -> None:
    schema = record.get("schema")
    if schema != SCHEMA:
        raise ReportError(
            f"{path} has schema {schema!r}; this version of Steepest reads schema {SCHEMA}. "
            "Write the report with the version of Steepest that ran the study."
        )


def _study(
    plan: Record, optimizers: tuple[OptimizerSetting, ...], trials: tuple[Trial, ...], notices: tuple[str, ...]
) -> Study:
    metric = _mapping(plan.get("metric"))
    name = str(plan.get("name") or plan.get("workload") or "study")
    return Study(
        name=name,
        title=str(plan.get("title") or name),
        description=str(plan.get("description") or ""),
        workload=str(plan.get("workload") or ""),
        preset=str(plan.get("preset") or ""),
        metric=str(metric.get("name") or "loss"),
        maximize=metric.get("direction") == "maximize",
        optimizers=optimizers,
        trials=trials,
        published=_published(plan.get("published")),
        notices=notices,
        config=_mapping(plan.get("config")),
        model=_mapping(plan.get("model")),
        data=_mapping(plan.get("data")),
        seed_purposes={str(key): str(value) for key, value in _mapping(plan.get("seed_purposes")).items()},
        versions=_mapping(plan.get("versions")),
        machine=_mapping(plan.get("machine")),
        threads=_integer(plan.get("threads")),
        commit=_text(plan.get("commit")),
        created=_text(plan.get("created")),
        command=_text(plan.get("command")),
    )


def _optimizers(plan: Record) -> tuple[OptimizerSetting, ...]:
    entries = [_mapping(entry) for entry in _sequence(plan.get("optimizers"))]
    return tuple(
        OptimizerSetting(
            label=str(entry.get("label") or entry.get("name")),
            name=str(entry.get("name") or ""),
            options=_mapping(entry.get("options")),
            executor=_text(entry.get("executor")),
        )
        for entry in entries
    )


def _with_missing_optimizers(
    settings: tuple[OptimizerSetting, ...], trials: tuple[Trial, ...]
) -> tuple[OptimizerSetting, ...]:
    """A trial whose optimizer study.json does not list is still shown."""
    known = {setting.label for setting in settings}
    missing = dict.fromkeys(trial.optimizer for trial in trials if trial.optimizer not in known)
    return settings + tuple(OptimizerSetting(label, "", {}, None) for label in missing)


def _published(value: object) -> Published | None:
    entry = _mapping(value)
    if not entry:
        return None
    rows = {str(label): _numbers(_mapping(row)) for label, row in _mapping(entry.get("rows")).items()}
    return Published(str(entry.get("source") or ""), str(entry.get("setting") or ""), rows)


def _trial(folder: Path, entry: object, notices: list[str]) -> Trial:
    listed = _mapping(entry)
    trial_id = str(listed.get("id"))
    empty = Trial(id=trial_id, optimizer=str(listed.get("optimizer")), seed=_integer(listed.get("seed")) or 0)
    records = _last_run(_records(folder / "trials" / f"{trial_id}.jsonl", notices))
    if not records:
        return empty
    if records[0].get("kind") == "trial":
        _check_schema(records[0], folder / "trials" / f"{trial_id}.jsonl")
    times = _records(folder / "times" / f"{trial_id}.jsonl", notices)
    return _filled(empty, records, times)


def _last_run(records: list[Record]) -> list[Record]:
    """A repeated trial may have been appended to its file: only what follows the last header counts."""
    starts = [index for index, record in enumerate(records) if record.get("kind") == "trial"]
    return records[starts[-1] :] if starts else records


def _filled(empty: Trial, records: list[Record], times: list[Record]) -> Trial:
    steps = [record for record in records if record.get("kind") == "step"]
    epochs = _epochs(records, times)
    end = next((record for record in records if record.get("kind") == "end"), {})
    clock = times[-1] if times else {}
    return Trial(
        id=empty.id,
        optimizer=empty.optimizer,
        seed=empty.seed,
        status=_text(end.get("status")) or INTERRUPTED,
        step=_integer(end.get("step")) or _last_integer(steps + records, "step"),
        epoch=_integer(end.get("epoch")) or max((epoch.epoch for epoch in epochs), default=0),
        steps=_array(steps, "step"),
        losses=_array(steps, "loss"),
        epochs=epochs,
        final=_numbers(end),
        seconds=_number(clock.get("train_seconds")),
        examples=_number(clock.get("examples")),
        executor=_text(clock.get("executor")),
        reason=_text(end.get("reason")) or _text(end.get("error")),
        traceback=_text(end.get("traceback")),
    )


def _epochs(records: list[Record], times: list[Record]) -> tuple[Epoch, ...]:
    clock = {
        record.get("epoch"): _number(record.get("train_seconds")) for record in times if record.get("kind") == "epoch"
    }
    return tuple(
        Epoch(
            epoch=_integer(record.get("epoch")) or 0,
            step=_integer(record.get("step")) or 0,
            values=_numbers(record),
            seconds=clock.get(record.get("epoch"), None if record.get("epoch") else 0.0),
        )
        for record in records
        if record.get("kind") == "epoch"
    )


def _records(path: Path, notices: list[str]) -> list[Record]:
    """The records of a file up to its first unreadable line; a cut is reported in ``notices``."""
    if not path.is_file():
        return []
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    records = _all_at_once(lines)
    if records is None:
        records = _up_to_the_torn_line(lines)
        notices.append(_torn(path, len(records), len(lines)))
    return records


def _all_at_once(lines: Sequence[bytes]) -> list[Record] | None:
    """Parse whole lines as one array: several times quicker than one by one. None if any line is not one object."""
    try:
        records = json.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        return None
    whole = len(records) == len(lines) and all(isinstance(record, dict) for record in records)
    return records if whole else None


def _up_to_the_torn_line(lines: Sequence[bytes]) -> list[Record]:
    records: list[Record] = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict):
            break
        records.append(record)
    return records


def _torn(path: Path, kept: int, total: int) -> str:
    lost = total - kept
    name = f"{path.parent.name}/{path.name}"
    what = "the last line" if lost == 1 else f"line {kept + 1} and the {lost - 1} after it"
    return f"{name}: {what} could not be read and {'was' if lost == 1 else 'were'} left out ({kept} good lines kept)."


def _array(records: list[Record], key: str) -> Array:
    values = [_number(record.get(key)) for record in records]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    values = {key: _number(value) for key, value in record.items()}
    return {key: value for key, value in values.items() if value is not None}


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float(value) if value in ("nan", "inf", "-inf") and isinstance(value, str) else None


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _last_integer(records: list[Record], key: str) -> int:
    return max((_integer(record.get(key)) or 0 for record in records), default=0)


def _text(value: object) -> str | None:
    return str(value) if value is not None and value != "" else None


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _sequence(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
