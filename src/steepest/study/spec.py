"""What one trial is: everything that its numbers depend on, as plain data with an identity."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from steepest.study import records
from steepest.study.contestant import Contestant
from steepest.study.data.dataset import Splits
from steepest.study.workload import Loss, Metric


@dataclass(frozen=True)
class Task:
    """What is trained and measured: a network, its loss and metric, and three sets of examples."""

    model: Callable[[], nn.Module]
    loss: Loss
    metric: Metric
    splits: Splits


@dataclass(frozen=True)
class TrialSpec:
    """One training run. `setting` describes everything but optimizer and seed, as JSON-able data.

    Trials with equal specifications produce equal records, byte for byte, on one machine.
    """

    contestant: Contestant
    seed: int
    epochs: int
    batch_size: int
    precision: str
    setting: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """Return the complete specification as it stands in the trial's first record."""
        return {
            **self.setting,
            "optimizer": self.contestant.document(),
            "seed": self.seed,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "precision": self.precision,
        }

    @property
    def id(self) -> str:
        """A readable name that two different specifications do not share."""
        digest = hashlib.sha256(records.encode(self.document())).hexdigest()
        return f"{self.contestant.recipe.name}-seed{self.seed}-{digest[:8]}"
