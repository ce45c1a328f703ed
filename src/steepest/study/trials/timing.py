"""Timing of a training step, the only place where a study measures seconds for comparison. One trial at a time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import Optimizer

from steepest.study.trials import devices
from steepest.study.trials.optimizers import executor_of
from steepest.study.trials.performance import perform, warm_up
from steepest.study.trials.run import Ended, Run, Trainable, Watcher
from steepest.study.trials.spec import TrialSpec
from steepest.wrappers import Wrapper

SECONDS: Final = 1.0
"""The least seconds of a trial of the timing pass."""
LEAST_STEPS: Final = 10


@dataclass(frozen=True)
class Timing:
    """Median seconds of a step (forward, backward, optimizer), and the bytes of optimizer state per parameter.

    `peak_device_bytes` is the most memory that tensors took on an accelerator, None on a CPU. `changes` names the
    settings of the process that the steps changed.
    """

    steps: int
    step_seconds: float
    state_bytes_per_parameter: float
    executor: str
    peak_device_bytes: int | None = None
    changes: tuple[str, ...] = ()


def time_steps(spec: TrialSpec, task: Trainable, seconds: float) -> Timing:
    """Take steps for the given seconds, at least ten, and return their median time."""
    warm_up(spec, task)
    device = torch.device(spec.device)
    devices.forget_peak(device)
    pass_ = _Pass(time.perf_counter() + seconds)
    run = perform(task, spec, pass_)
    while not pass_.complete:  # a horizon of fewer steps
        run = perform(task, spec, pass_)
    made = [optimizer.made for optimizer in run.optimizers.values()]
    peak = devices.peak_bytes(device)
    state, executor = _state_bytes(made), executor_of(made[0])
    return Timing(len(pass_.taken), median(pass_.taken), state, executor, peak, tuple(run.changes))


class _Pass(Watcher):
    """A watcher that notes the seconds of every step until an hour."""

    measures = False

    def __init__(self, until: float) -> None:
        self.taken: list[float] = []
        self._until = until
        self._before = 0.0

    @property
    def complete(self) -> bool:
        return len(self.taken) >= LEAST_STEPS and time.perf_counter() >= self._until

    def begun(self, run: Run) -> None:
        self._before = 0.0

    def stepped(self, run: Run, loss: float) -> None:
        self.taken.append(run.clock.seconds - self._before)
        self._before = run.clock.seconds
        if self.complete:
            raise Ended

    def looped(self, run: Run) -> None:
        raise Ended


def _state_bytes(optimizers: Sequence[Optimizer]) -> float:
    """Return the bytes of the optimizers' tensors per parameter that they hold."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    parameters: int = sum(parameter.numel() for group in groups for parameter in group["params"])
    states = [value for optimizer in optimizers for value in _states(optimizer)]
    return sum(map(_bytes, states)) / parameters


def _states(optimizer: Optimizer) -> list[Any]:
    """Return the states of the parameters, those that wrappers keep too."""
    if isinstance(optimizer, Wrapper):
        return [*optimizer.own.values(), *_states(optimizer.base)]
    return list(optimizer.state.values())


def _bytes(value: object) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    return 0
