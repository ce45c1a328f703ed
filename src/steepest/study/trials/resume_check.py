"""Checkpoints of a running trial, and the check that it can resume from them: a resumed twin is equal bit by bit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from steepest.study.optimizers import settings
from steepest.study.trials.checkpoints import CheckpointManager, State
from steepest.study.trials.optimizers import is_known
from steepest.study.trials.performance import perform
from steepest.study.trials.run import Ended, Run, Trainable, Watcher
from steepest.study.trials.spec import TrialSpec

STEPS: Final = 1
"""Steps of the check where the library's own loop trains with an optimizer of ours or torch's."""
FOREIGN_STEPS: Final = 10
"""Steps for any other code, which may use a memory outside of what it names only every few steps."""
NOTHING_KEPT: Final = "its training function names nothing in keep="


@dataclass
class _Unproven:
    """A checkpoint that has not been continued yet: its state as it loads, and the steps since then and to go."""

    state: State
    needed: int
    taken: int = 0


class Twin(Watcher):
    """A watcher of a second run, which resumes from a state for some steps.

    It ends in the last step, or at the evaluation after it. `parts` is its state then.
    """

    def __init__(self, state: State, steps: int, *, to_evaluation: bool) -> None:
        self.parts: dict[str, Any] = {}
        self._state = state
        self._left = steps
        self._to_evaluation = to_evaluation

    def begun(self, run: Run) -> State:
        """Resume from the state."""
        return self._state

    def stepped(self, run: Run, loss: float) -> None:
        """Count a step, and end at the last."""
        self._left -= 1
        if not self._to_evaluation:
            self._end_at_last(run)

    def measuring(self, run: Run) -> None:
        """End at the evaluation after the last step."""
        self._end_at_last(run)

    def _end_at_last(self, run: Run) -> None:
        if not self._left:
            self.parts = parts(run.state())
            raise Ended


class Checkpoints:
    """The checkpoints of one running trial; without a manager it stores nothing.

    The first checkpoint counts after a twin that was loaded from it has taken the same steps to the same bits.
    Otherwise the trial has no checkpoints, and `refused` is the reason.
    """

    def __init__(self, spec: TrialSpec, task: Trainable, manager: CheckpointManager | None) -> None:
        self._spec = spec
        self._task = task
        self._manager = manager
        self._unproven: _Unproven | None = None
        self._settings = settings.values()  # as they are before the trial's code sets any
        if manager is not None and not spec.setting.get("reproducible", True):
            manager.proven = True  # no twin would be equal, and the record says that none is expected to be

    @property
    def checking(self) -> bool:
        """True while a checkpoint waits for the steps that will prove it."""
        return self._unproven is not None

    @property
    def refused(self) -> str | None:
        """The reason why the trial would start again after an interruption."""
        return None if self._manager is None else self._manager.refused

    def offer(self, run: Run, state: Callable[[Run], State]) -> bool:
        """Store the trial if a checkpoint is due. Return whether it was asked to stop, and its checkpoint is proven.

        Raises:
            StoreError: the disk is full, or not writable.
        """
        manager = self._manager
        if manager is None:
            return False
        if self._unproven is None and manager.due:
            if run.loop is None or run.loop.keep is None:
                manager.refuse(NOTHING_KEPT)
            else:
                unproven = manager.store(lambda: state(run))
                if unproven is not None:
                    self._unproven = _Unproven(unproven["run"], self._steps(run))
        return self._unproven is None and manager.stop()

    def compare(self, run: Run) -> None:
        """Count a step after an unproven checkpoint. After enough of them, let a twin take the same, and compare."""
        if self._unproven is None or self._manager is None:
            return
        self._unproven.taken += 1
        if self._unproven.taken == self._unproven.needed:
            self._prove(run, self._unproven, self._manager, to_evaluation=False)

    def end_check(self, run: Run) -> None:
        """Compare the steps taken so far before an evaluation, so that no check runs through one."""
        if self._unproven is not None and self._unproven.taken and self._manager is not None:
            self._prove(run, self._unproven, self._manager, to_evaluation=True)

    def _prove(self, run: Run, unproven: _Unproven, manager: CheckpointManager, *, to_evaluation: bool) -> None:
        self._unproven = None
        difference = self._difference(run, Twin(unproven.state, unproven.taken, to_evaluation=to_evaluation))
        if difference is None:
            manager.accept()
        else:
            manager.refuse(difference)

    def _steps(self, run: Run) -> int:
        known = all(is_known(optimizer.made) for optimizer in run.optimizers.values())
        return STEPS if known and self._task.is_ours else FOREIGN_STEPS

    def _difference(self, run: Run, twin: Twin) -> str | None:
        """Return a sentence on the difference between a twin that resumes from the checkpoint and the trial, if any."""
        try:
            with settings.as_they_were(self._settings):
                perform(self._task, self._spec, twin)
        except Exception as error:  # whatever foreign code raises when it is handed its own state
            return f"a twin that went on from a checkpoint stopped with {type(error).__name__}: {error}"
        different = [name for name, value in parts(run.state()).items() if not same(twin.parts.get(name), value)]
        if not different:
            return None
        return f"a twin that went on from a checkpoint had another {' and '.join(different)} after its next steps"


def parts(state: State) -> dict[str, Any]:
    """Return the parts of a run's state by the names that a message uses."""
    draws = {name: state[name] for name in ("draws", "noise")}
    return {**state["kept"], **state["generators"], **state["optimizers"], **draws}


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
