"""Timing of a training step, the only place where a study measures seconds for comparison. One trial at a time."""

import time
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from steepest.study import seeds
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import Task
from steepest.study.trials.training import Trainer, executor_of, warm_up

SECONDS: Final = 1.0
LEAST_STEPS: Final = 10


@dataclass(frozen=True)
class Timing:
    """Median seconds of a step (forward, backward, optimizer), and the bytes of optimizer state per parameter."""

    steps: int
    step_seconds: float
    state_bytes_per_parameter: float
    executor: str


def time_steps(spec: TrialSpec, task: Task, seconds: float = SECONDS) -> Timing:
    """Take steps for the given seconds, at least ten, and return their median time."""
    warm_up(spec, task)
    trainer = Trainer(spec, task)
    order = torch.randperm(len(task.splits.train), generator=seeds.generator("order", spec.seed))
    batches = torch.split(order, spec.batch_size)
    taken: list[float] = []
    began = time.perf_counter()
    with trainer.stream.active():
        while len(taken) < LEAST_STEPS or time.perf_counter() - began < seconds:
            before = trainer.clock.seconds
            trainer.advance(task.splits.train.batch(batches[len(taken) % len(batches)]))
            taken.append(trainer.clock.seconds - before)
    median = torch.tensor(taken, dtype=torch.float64).median().item()
    return Timing(len(taken), median, _state_bytes(trainer), executor_of(trainer.optimizer))


def _state_bytes(trainer: Trainer) -> float:
    """Return the bytes of the optimizer's tensors per parameter of the model."""
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    return sum(map(_bytes, trainer.optimizer.state.values())) / parameters


def _bytes(value: object) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    return 0
