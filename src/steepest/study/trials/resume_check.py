"""Checkpoints of a running trial, and the check that it can resume from them: a twin does, equal to the last bit."""

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
"""Steps of the check for an optimizer of ours or torch's: its state is tested, the user's model is not."""
FOREIGN_STEPS: Final = 10
"""Steps for any other: it may remember something outside its state dict, and use it every few steps only."""


class StoppedError(Exception):
    """The trial was asked to stop."""


class Checkpoints:
    """The checkpoints of one running trial; without a manager there are none.

    The first one counts when a twin that was loaded from it has taken the same steps to the same bits. If it has not,
    the trial has no checkpoints, and `refused` says why.
    """

    def __init__(self, spec: TrialSpec, task: Task, manager: CheckpointManager | None) -> None:
        self._spec = spec
        self._task = task
        self._manager = manager
        self._check: ResumeCheck | None = None
        self._settings = settings.values()  # as they are before the trial's code sets any

    @property
    def refused(self) -> str | None:
        """Why the trial would start again after an interruption."""
        return None if self._manager is None else self._manager.refused

    def offer(self, state: Callable[[], State]) -> None:
        """Between two steps: store the trial if it is time to. One that shall stop does so once that is proven.

        Raises:
            StoppedError: the trial shall stop here.
            StoreError: the disk is full, or will not be written to.
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
        """After a step: let the twin of a checkpoint that is still to be proven take it too."""
        if self._check is None or self._manager is None:
            return
        difference = self._check.follow(batch, trainer)
        if difference is not None:
            self._manager.refuse(difference)
            self._check = None
        elif self._check.complete:
            self.end_check()

    def end_check(self) -> None:
        """Before an evaluation, which may move an optimizer's weights: what has been compared must do."""
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
        """Whether enough steps have been compared."""
        return self._left == 0

    def follow(self, batch: Batch, original: Trainer) -> str | None:
        """Take the step that the original has just taken; return what came out differently, if anything did."""
        try:
            self._twin.advance(batch)
        except Exception as error:
            return f"a twin that went on from a checkpoint stopped with {type(error).__name__}: {error}"
        self._left -= 1
        own, other = self._twin.state(), original.state()
        different = [key for key in own if not same(own[key], other[key])]
        if not different:
            return None
        return f"a twin that went on from a checkpoint had another {' and '.join(different)} after its next steps"


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal to the last bit; NaN equals itself."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _same_tensors(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other or (one != one and other != other))


def _same_tensors(one: Tensor, other: Tensor) -> bool:
    if (one.dtype, one.shape, one.layout) != (other.dtype, other.shape, other.layout):
        return False
    return torch.equal(_bytes(one), _bytes(other))


def _bytes(tensor: Tensor) -> Tensor:
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    return dense.resolve_conj().contiguous().reshape(-1).view(torch.uint8)


def _is_known(optimizer: torch.optim.Optimizer) -> bool:
    module = type(optimizer).__module__
    library = Optimizer.__module__.partition(".")[0]
    return module.startswith(("torch.optim.", f"{library}."))
