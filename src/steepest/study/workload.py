"""What a workload declares: data, model, loss, metric, sizes, and the settings of the optimizers it is known for."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from torch import Tensor, nn

from steepest.study.data.dataset import DataSet
from steepest.study.data.splits import Sizes

Loss = Callable[[Tensor, Tensor], Tensor]
PRESETS: Final = ("smoke", "quick", "full")


@dataclass(frozen=True)
class Metric:
    """A figure of merit: `of(outputs, targets)` is its value for every example, and its mean is reported."""

    name: str
    direction: Literal["maximize", "minimize"]
    of: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Preset:
    """One size of an experiment."""

    sizes: Sizes
    epochs: int
    seeds: int


@dataclass(frozen=True)
class Published:
    """Figures that somebody published for the preset `full` of a workload, keyed by optimizer name."""

    source: str
    setting: str
    epochs: int
    rows: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(cls, path: Path) -> "Published":
        """Read the figures from a JSON file."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Workload:
    """A task to train on. `model()` builds the `network` from torch's global generator, which the trial seeds.

    `settings` maps the workload's own optimizers, in display order, to the options they are run with here.
    """

    name: str
    title: str
    description: str
    load: Callable[[Path | None], DataSet]
    network: str
    model: Callable[[], nn.Module]
    loss: Loss
    metric: Metric
    batch_size: int
    presets: Mapping[str, Preset]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    published: Published | None = None


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1 for every example whose highest output is its class, else 0."""
    return (outputs.argmax(dim=1) == targets).float()


ACCURACY: Final = Metric("accuracy", "maximize", accuracy)
