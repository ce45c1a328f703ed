"""The task of a trial, and its name, by which another process loads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from torch import nn

from steepest.study import workloads
from steepest.study.data import adapt
from steepest.study.data.dataset import DataSet, Splits
from steepest.study.data.splits import Sizes, split
from steepest.study.declaration import Loss, Metric, Workload


@dataclass(frozen=True)
class Task:
    """A network, its loss and metric, three sets of examples, and the digests of their data."""

    model: Callable[[], nn.Module]
    loss: Loss
    metric: Metric
    splits: Splits
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskName:
    """The name of a task, from which another process loads it: the workload's place, the preset, the sizes."""

    source: str
    preset: str
    sizes: Sizes


def task_of(workload: Workload, data: DataSet, sizes: Sizes) -> Task:
    """Return the task of a workload on these data."""
    return Task(workload.model, workload.loss, workload.metric, split(data, sizes), data.sha256)


@cache
def load_task(name: TaskName, data_dir: Path | None = None) -> Task:
    """Return the task of this name, loading its code and data once per process."""
    workload = workloads.find(name.source)(name.preset)
    return task_of(workload, adapt.load(workload.data, data_dir), name.sizes)
