"""Checkpoints of a running trial, and the check that it can resume from them: a resumed twin is equal bit by bit."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from steepest.optimizer import Optimizer
from steepest.study.optimizers import settings
from steepest.study.trials.checkpoints import CheckpointManager, State
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import Task
from steepest.study.trials.training import Batch, Trainer

STEPS: Final = 1
"""Steps of the check for an optimizer of ours or torch's. It tests the optimizer's state, not the user's model."""
FOREIGN_STEPS: Final = 10
"""Steps for any other optimizer, which may use a memory outside its state dict only every few steps."""


class StoppedError(Exception):
    """The trial was asked to stop."""


class Checkpoints:
    """The checkpoints of one running trial; without a manager it stores nothing.

    The first checkpoint counts after a twin that was loaded from it has taken the same steps to the same bits.
    Otherwise the trial has no checkpoints, and `refused` is the reason.
    """

    def __init__(self, spec: TrialSpec, task: Task, manager: CheckpointManager | None) -> None:
        self._spec = spec
        self._task = task
        self._manager = manager
        self._check: ResumeCheck | None = None
        self._settings = settings.values()  # as they are before the trial's code sets any

    @property
    def refused(self) -> str | None:
        """The reason why the trial would start again after an interruption."""
        return None if self._manager is None else self._manager.refused

    def offer(self, state: Callable[[], State]) -> None:
        """Store the trial between two steps if a checkpoint is due. Stop it on request, once its checkpoint is proven.

        Raises:
            StoppedError: the trial was asked to stop.
            StoreError: the disk is full, or not writable.
        """
        if self._manager is None:
            return
        if self._check is None and self._manager.due:
            unproven = self._manager.store(state)
            if unproven is not None:
                self._begin_check(self._manager, unproven)
        if self._check is None and self._manager.stop():
            raise StoppedError

    def compare(self, batch: Batch, trainer: Trainer) -> None:
        """Advance the twin of an unproven checkpoint after a step, and compare it."""
        if self._check is None or self._manager is None:
            return
        difference = self._check.follow(batch, trainer)
        if difference is not None:
            self._manager.refuse(difference)
            self._check = None
        elif self._check.complete:
            self.end_check()

    def end_check(self) -> None:
        """Accept the steps compared so far before an evaluation, which may move an optimizer's weights."""
        if self._check is not None and self._manager is not None:
            self._manager.accept()
            self._check = None

    def _begin_check(self, manager: CheckpointManager, state: State) -> None:
        try:
            with settings.as_they_were(self._settings):
                self._check = ResumeCheck(self._spec, self._task, state["trainer"])
        except Exception as error:  # whatever a foreign optimizer raises when it is handed its own state
            manager.refuse(f"{type(error).__name__}: {error}")


class ResumeCheck:
    """A twin of a trial, loaded from its checkpoint, that takes the same steps."""

    def __init__(self, spec: TrialSpec, task: Task, state: State) -> None:
        self._twin = Trainer(spec, task)
        self._twin.restore(state)
        self._left = STEPS if _is_known(self._twin.optimizer) else FOREIGN_STEPS

    @property
    def complete(self) -> bool:
        """True if enough steps have been compared."""
        return self._left == 0

    def follow(self, batch: Batch, original: Trainer) -> str | None:
        """Take the step that the original has just taken. Return a sentence on the difference, if any."""
        try:
            self._twin.advance(batch)
        except Exception as error:
            return f"a twin that went on from a checkpoint stopped with {type(error).__name__}: {error}"
        self._left -= 1
        resumed, continued = self._twin.state(), original.state()
        different = [key for key in resumed if not same(resumed[key], continued[key])]
        if not different:
            return None
        return f"a twin that went on from a checkpoint had another {' and '.join(different)} after its next steps"


def same(left: Any, right: Any) -> bool:
    """Return whether two states are equal bit by bit. NaN equals itself."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return _same_tensors(left, right)
    if type(left) is not type(right):
        return False
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right or (left != left and right != right))


def _same_tensors(left: Tensor, right: Tensor) -> bool:
    if (left.dtype, left.shape, left.layout) != (right.dtype, right.shape, right.layout):
        return False
    return torch.equal(_bytes(left), _bytes(right))


def _bytes(tensor: Tensor) -> Tensor:
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    return dense.resolve_conj().contiguous().reshape(-1).view(torch.uint8)


def _is_known(optimizer: torch.optim.Optimizer) -> bool:
    module = type(optimizer).__module__
    library = Optimizer.__module__.partition(".")[0]
    return module.startswith(("torch.optim.", f"{library}."))
