"""Stored files of a study folder -> typed, immutable objects. Nothing else in this package opens a stored file.

The reader forgives what an interruption can do to a study (a missing file, a torn last line, no end record) and reports
it as a notice; it refuses what it cannot understand (no ``study.json``, another schema).
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from steepest.study.report.errors import ReportError
from steepest.study.report.records import (
    Record,
    integer,
    mapping,
    number,
    numbers,
    read_all,
    read_ends,
    sequence,
    text,
)
from steepest.study.report.study import (
    EVALUATION,
    INTERRUPTED,
    SEARCH,
    TIMING,
    Array,
    Choice,
    Dimension,
    Epoch,
    OptimizerSetting,
    Point,
    Protocol,
    Published,
    Study,
    Trial,
)

SCHEMA: Final = 3


def read_study(folder: Path) -> Study:
    """Read a study folder; raises `ReportError` if it is none or has another schema."""
    plan = _plan(folder)
    notices: list[str] = []
    trials = [_trial(folder, mapping(entry), notices) for entry in sequence(plan.get("trials"))]
    of_phase = {phase: tuple(one for one in trials if one.phase == phase) for phase in (SEARCH, EVALUATION, TIMING)}
    return _study(folder, plan, of_phase, tuple(notices))


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


def _study(folder: Path, plan: Record, trials: dict[str, tuple[Trial, ...]], notices: tuple[str, ...]) -> Study:
    metric = mapping(plan.get("metric"))
    name = str(plan.get("name") or plan.get("workload") or "study")
    return Study(
        folder=str(folder),
        name=name,
        title=str(plan.get("title") or name),
        description=str(plan.get("description") or ""),
        workload=str(plan.get("workload") or ""),
        preset=str(plan.get("preset") or ""),
        metric=str(metric.get("name") or "loss"),
        maximize=metric.get("direction") == "maximize",
        protocol=_protocol(mapping(plan.get("protocol"))),
        optimizers=_with_missing_optimizers(_optimizers(plan), trials[EVALUATION]),
        chosen={str(label): _choice(mapping(entry)) for label, entry in mapping(plan.get("chosen")).items()},
        trials=trials[EVALUATION],
        search_trials=trials[SEARCH],
        timing_trials=trials[TIMING],
        published=_published(plan.get("published")),
        notices=notices,
        config=mapping(plan.get("config")),
        model=mapping(plan.get("model")),
        data=mapping(plan.get("data")),
        seed_purposes={str(key): str(value) for key, value in mapping(plan.get("seed_purposes")).items()},
        versions=mapping(plan.get("versions")),
        machine=mapping(plan.get("machine")),
        threads=integer(plan.get("threads")),
        commit=text(plan.get("commit")),
        created=text(plan.get("created")),
        command=text(plan.get("command")),
    )


def _protocol(entry: Record) -> Protocol:
    usual = Protocol()
    alpha, margin = number(entry.get("alpha")), number(entry.get("margin"))
    targets = (number(target) for target in sequence(entry.get("targets")))
    return Protocol(
        trials=integer(entry.get("trials")) or 0,
        tuning_seeds=tuple(seed for seed in sequence(entry.get("tuning_seeds")) if integer(seed) is not None),
        sampler=text(entry.get("sampler")),
        searched=tuple(map(str, sequence(entry.get("searched")))),
        schedule=text(entry.get("schedule")),
        reference=text(entry.get("reference")),
        alpha=usual.alpha if alpha is None else alpha,
        margin=usual.margin if margin is None else margin,
        targets=tuple(target for target in targets if target is not None),
        timing_rounds=integer(entry.get("timing_rounds")) or 0,
        extensions=tuple(_extension(mapping(one)) for one in sequence(entry.get("extensions"))),
    )


def _extension(entry: Record) -> dict[str, tuple[float, float]]:
    parts = {str(label): mapping(part) for label, part in entry.items()}
    ends = {label: (number(part.get("low")), number(part.get("high"))) for label, part in parts.items()}
    return {label: (low, high) for label, (low, high) in ends.items() if low is not None and high is not None}


def _optimizers(plan: Record) -> tuple[OptimizerSetting, ...]:
    return tuple(_optimizer(mapping(entry)) for entry in sequence(plan.get("optimizers")))


def _optimizer(entry: Record) -> OptimizerSetting:
    points = (mapping(point) for point in sequence(entry.get("points")))
    return OptimizerSetting(
        label=str(entry.get("label") or entry.get("name")),
        name=str(entry.get("name") or ""),
        options=mapping(entry.get("options")),
        executor=text(entry.get("executor")),
        schedule=text(entry.get("schedule")),
        skipped=text(entry.get("skipped")),
        space={str(name): _dimension(mapping(one)) for name, one in mapping(entry.get("space")).items()},
        points={point: mapping(one.get("options")) for one in points if (point := _point(one)) is not None},
    )


def _dimension(entry: Record) -> Dimension:
    return Dimension(
        low=number(entry.get("low")),
        high=number(entry.get("high")),
        scale=str(entry.get("scale") or "log"),
        complement=bool(entry.get("complement")),
        values=tuple(sequence(entry.get("values"))),
    )


def _choice(entry: Record) -> Choice:
    return Choice(_point(entry), mapping(entry.get("given")), mapping(entry.get("options")))


def _point(entry: Record) -> Point | None:
    found = entry.get("point")
    return found if integer(found) is not None or isinstance(found, str) else None


def _with_missing_optimizers(
    settings: tuple[OptimizerSetting, ...], trials: tuple[Trial, ...]
) -> tuple[OptimizerSetting, ...]:
    """A trial whose optimizer study.json does not list is still shown."""
    known = {setting.label for setting in settings}
    missing = dict.fromkeys(trial.optimizer for trial in trials if trial.optimizer not in known)
    return settings + tuple(OptimizerSetting(label, "", {}, None) for label in missing)


def _published(value: object) -> Published | None:
    entry = mapping(value)
    if not entry:
        return None
    rows = {str(label): numbers(mapping(row)) for label, row in mapping(entry.get("rows")).items()}
    return Published(str(entry.get("source") or ""), str(entry.get("setting") or ""), rows)


def _trial(folder: Path, entry: Record, notices: list[str]) -> Trial:
    empty = Trial(
        id=str(entry.get("id")),
        optimizer=str(entry.get("optimizer")),
        seed=integer(entry.get("seed")) or 0,
        phase=str(entry.get("phase")),
        point=_point(entry),
    )
    read = read_ends if empty.phase == SEARCH else read_all
    path = folder / "trials" / f"{empty.id}.jsonl"
    records = _last_run(read(path, notices))
    if not records:
        return empty
    if records[0].get("kind") == "trial":
        _check_schema(records[0], path)
    return _filled(empty, records, read(folder / "times" / f"{empty.id}.jsonl", notices))


def _last_run(records: list[Record]) -> list[Record]:
    """A repeated trial may have been appended to its file: only what follows the last header counts."""
    starts = [index for index, record in enumerate(records) if record.get("kind") == "trial"]
    return records[starts[-1] :] if starts else records


def _filled(empty: Trial, records: list[Record], times: list[Record]) -> Trial:
    steps = [record for record in records if record.get("kind") == "step"]
    epochs = _epochs(records, times)
    end = next((record for record in records if record.get("kind") == "end"), {})
    clock = times[-1] if times else {}
    return replace(
        empty,
        status=text(end.get("status")) or INTERRUPTED,
        step=integer(end.get("step")) or _last_step(steps + records),
        epoch=number(end.get("epoch")) or max((epoch.epoch for epoch in epochs), default=0),
        steps=_array(steps, "step"),
        losses=_array(steps, "loss"),
        epochs=epochs,
        final=numbers(end),
        options=mapping(mapping(mapping(records[0].get("spec")).get("optimizer")).get("options")),
        seconds=number(clock.get("train_seconds")),
        examples=number(clock.get("examples")),
        step_seconds=number(clock.get("step_seconds")),
        executor=text(clock.get("executor")),
        reason=text(end.get("reason")) or text(end.get("error")),
        traceback=text(end.get("traceback")),
        restarts=text(clock.get("restarts")),
    )


def _epochs(records: list[Record], times: list[Record]) -> tuple[Epoch, ...]:
    clock = {
        record.get("epoch"): number(record.get("train_seconds")) for record in times if record.get("kind") == "epoch"
    }
    return tuple(
        Epoch(
            epoch=number(record.get("epoch")) or 0,
            step=integer(record.get("step")) or 0,
            values=numbers(record),
            seconds=clock.get(record.get("epoch"), None if record.get("epoch") else 0.0),
        )
        for record in records
        if record.get("kind") == "epoch"
    )


def _array(records: list[Record], key: str) -> Array:
    values = [number(record.get(key)) for record in records]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _last_step(records: list[Record]) -> int:
    return max((integer(record.get("step")) or 0 for record in records), default=0)
