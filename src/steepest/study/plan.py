"""From a request and its data to a list of trials and the study's document. Pure data: nothing is run or written."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn

from steepest.study import machine, seeds
from steepest.study.contestant import Contestant
from steepest.study.data.dataset import DataSet, Splits
from steepest.study.data.splits import Sizes, split
from steepest.study.errors import UsageError
from steepest.study.records import SCHEMA, plain
from steepest.study.request import Request
from steepest.study.spec import Task, TrialSpec


@dataclass(frozen=True)
class Plan:
    """The trials of a study in the order of running, what they train on, and the document that describes them."""

    trials: tuple[TrialSpec, ...]
    task: Task
    document: Mapping[str, Any]

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the training set, the last one perhaps smaller."""
        return math.ceil(len(self.task.splits.train) / self.trials[0].batch_size)


def make_plan(request: Request, data: DataSet, command: str) -> Plan:
    """Lay out a study: every seed goes through all optimizers before the next seed starts."""
    workload = request.workload
    sizes = Sizes.everything(data) if request.all_train else request.preset.sizes.fitted(data)
    task = Task(workload.model, workload.loss, workload.metric, split(data, sizes))
    model = _example_model(task)
    setting = _setting(request, data, task.splits, model)
    trials = tuple(
        TrialSpec(contestant, seed, request.epochs, workload.batch_size, request.precision, setting)
        for seed in request.seeds
        for contestant in request.contestants
    )
    optimizers = [_optimizer_entry(contestant, model) for contestant in request.contestants]
    document = _document(request, data, setting, trials) | {"optimizers": optimizers, "command": command}
    return Plan(trials, task, plain(document))


def _example_model(task: Task) -> nn.Module:
    with seeds.GlobalStream("init", 0).active():
        return task.model()


def _setting(request: Request, data: DataSet, splits: Splits, model: nn.Module) -> dict[str, Any]:
    """Return all that a trial's numbers depend on beside optimizer, seed and the numbers that the request gives."""
    versions = machine.versions()
    return {
        "workload": request.workload.name,
        "model": {
            "name": request.workload.network,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "sha256": hashlib.sha256(str(model).encode()).hexdigest(),
        },
        "metric": {"name": request.workload.metric.name, "direction": request.workload.metric.direction},
        "data": {
            "name": data.name,
            "sha256": dict(data.sha256),
            "train": len(splits.train),
            "validation": len(splits.validation),
            "test": len(splits.test),
        },
        "channels_last": splits.train.images,
        "threads": torch.get_num_threads(),
        "versions": {"steepest": versions["steepest"], "torch": versions["torch"]},
    }


def _document(
    request: Request, data: DataSet, setting: Mapping[str, Any], trials: tuple[TrialSpec, ...]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": _name(request, data),
        "workload": request.workload.name,
        "preset": request.preset_name,
        "title": request.workload.title if data.fallback is None else f"Digits in place of: {request.workload.title}",
        "description": request.workload.description,
        "config": {
            "epochs": request.epochs,
            "batch_size": request.workload.batch_size,
            "precision": request.precision,
            "seeds": request.seeds,
            "all_train": request.all_train,
            "steps_per_epoch": math.ceil(setting["data"]["train"] / request.workload.batch_size),
            "channels_last": setting["channels_last"],
        },
        "metric": setting["metric"],
        "model": setting["model"],
        "data": {**setting["data"], "source": data.source, "fallback": data.fallback},
        "seed_purposes": dict(seeds.PURPOSES),
        "trials": [{"id": trial.id, "optimizer": trial.contestant.label, "seed": trial.seed} for trial in trials],
        "published": _published(request, data),
        "versions": machine.versions(),
        "machine": machine.machine(),
        "threads": setting["threads"],
        "commit": machine.commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _name(request: Request, data: DataSet) -> str:
    name = f"{request.workload.name} {request.preset_name}"
    return name if data.fallback is None else f"{name}, on {data.name} instead"


def _published(request: Request, data: DataSet) -> dict[str, Any] | None:
    """Return the published figures where they belong beside ours: the same data, size and number of epochs."""
    published = request.workload.published
    if published is None or data.fallback or request.preset_name != "full" or request.epochs != published.epochs:
        return None
    as_published = {one.recipe.name: one.label for one in request.contestants if "[" not in one.label}
    rows = {as_published[name]: dict(row) for name, row in published.rows.items() if name in as_published}
    return {"source": published.source, "setting": published.setting, "rows": rows}


def _optimizer_entry(contestant: Contestant, model: nn.Module) -> dict[str, Any]:
    try:
        optimizer = contestant.recipe.build(model.parameters())
    except (ValueError, TypeError, RuntimeError) as error:  # RuntimeError: an executor that cannot run this rule
        raise UsageError(f"{contestant.label}: {error}") from error
    return {**contestant.document(), "executor": optimizer.executor}
