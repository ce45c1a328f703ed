"""What several of these tests use and is no fixture."""

import struct
from collections.abc import Callable, Sequence

import torch

from steepest.study.data import idx
from steepest.study.plan import Plan
from steepest.study.spec import TrialSpec
from steepest.study.trial import Event

PlanMaker = Callable[..., Plan]


class Silent:
    """A watcher that only remembers which trials began."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def stage_started(self, trials: Sequence[TrialSpec]) -> None:
        pass

    def trial_started(self, trial: TrialSpec) -> None:
        self.started.append(trial.id)

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        pass


def encode_idx(array: torch.Tensor) -> bytes:
    """Return an IDX file of unsigned bytes."""
    header = bytes([0, 0, idx.UNSIGNED_BYTE, array.dim()]) + struct.pack(f">{array.dim()}I", *array.shape)
    return header + array.to(torch.uint8).numpy().tobytes()


def evaluations(plan: Plan) -> list[TrialSpec]:
    """Return the trials of a plan that searches nothing."""
    return [trial.spec for trial in plan.evaluation_trials(plan.given)]
