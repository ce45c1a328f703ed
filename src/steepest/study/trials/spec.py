"""The specification of a trial: everything that its numbers depend on, as plain data with an identity."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from steepest.study.data.splits import Sizes
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.records import records
from steepest.study.records.format import Phase, read


@dataclass(frozen=True)
class TaskName:
    """The name of a task, from which another process loads it: the place of its declaration, the preset, the sizes."""

    source: str
    preset: str
    sizes: Sizes | None


@dataclass(frozen=True)
class TrialSpec:
    """One training run.

    `epochs` is its length in epochs, or in steps for an experiment that counts these; None in a rehearsal, which is to
    find out. `batch_size` and `evaluations` are None for an experiment. `phase` is its purpose: a point of a `search`
    never reads the test set, an `evaluation` reads it once at its end, `timing` only takes steps. `threads` is the
    number of torch's threads that compute it, `device` the kind of its device, and `deterministic` is True if torch may
    use deterministic algorithms only. Its records hold samples of how the optimizers moved if `behaviour` is True, and
    the loss's sharpness at every evaluation if `sharpness` is. `setting` describes all other dependencies of its
    numbers, as JSON-able data.

    Trials with equal specifications produce equal records, byte for byte, on one machine.
    """

    config: OptimizerConfig
    seed: int
    phase: Phase
    task: TaskName
    epochs: int | None
    batch_size: int | None
    evaluations: int | None
    precision: str
    threads: int
    setting: Mapping[str, Any]
    device: str = "cpu"
    deterministic: bool = False
    behaviour: bool = False
    sharpness: bool = False

    def document(self) -> dict[str, Any]:
        """Return the complete specification as the trial's first record stores it."""
        entries = {name: getattr(self, name) for name, usual in _LATER.items() if getattr(self, name) != usual}
        return {
            **self.setting,
            **entries,
            "optimizer": self.config.document(),
            "seed": self.seed,
            "phase": self.phase,
            "task": records.plain(self.task),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "evaluations": self.evaluations,
            "precision": self.precision,
            "threads": self.threads,
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "TrialSpec":
        """Return the specification that `document` described."""
        rest = dict(document)
        config, task = OptimizerConfig.read(rest.pop("optimizer")), read(TaskName, rest.pop("task"), "task")
        plain = {name: rest.pop(name) for name in _PLAIN} | {name: rest.pop(name, _LATER[name]) for name in _LATER}
        return cls(config=config, task=task, setting=rest, **plain)

    @cached_property
    def id(self) -> str:
        """A readable name that two different specifications do not share."""
        return f"{self.config.slug}-{self.phase}-seed{self.seed}-{self.digest[:8]}"

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the specification."""
        return hashlib.sha256(records.encode(self.document())).hexdigest()


_LATER = {"device": "cpu", "deterministic": False, "behaviour": False, "sharpness": False}
"""Entries that are left out where they have these values."""
_PLAIN = ("seed", "phase", "epochs", "batch_size", "evaluations", "precision", "threads")
