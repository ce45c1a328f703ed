"""A training step that is ready to be timed: optimizer constructed, parts compiled where asked, warmed up, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch

from ..implementations import Implementation
from ..lane import UnavailableError, changes_gradients, reasons, refuse_without_room
from ..timing import Timer, steps_per_sample
from .cases import Training

PARTS: Final = ("forward_backward", "step", "whole")
"""Names of the parts of a training step that have a time: the attributes of `Parts`."""


@dataclass(frozen=True)
class Way:
    """The parts of a training step that run under ``torch.compile``, which generates code by inductor."""

    compiled: str
    model: bool
    step: bool


EAGER: Final = Way("no", model=False, step=False)
COMPILED: Final = (Way("model", model=True, step=False), Way("model+step", model=True, step=True))
NO_GRAPH: Final = "torch.compile makes no graph of this {}, which would run as it does without it"


class Parts(NamedTuple):
    """Seconds of the parts of one training step."""

    forward_backward: float
    step: float

    @property
    def whole(self) -> float:
        """Seconds of the whole training step."""
        return self.forward_backward + self.step


@dataclass(eq=False)
class TrainingLane:
    """A training step over a model that all implementations of a group share; the optimizer's state is its own.

    Attributes:
        forward_backward: computes the gradients anew.
        step: the optimizer's step.
        steps: the number of training steps in a sample.
        executor: the executor of the step, or None if the optimizer does not name it.
    """

    forward_backward: Callable[[], Any]
    step: Callable[[], Any]
    steps: int = 1
    executor: str | None = None

    def sample(self, timer: Timer) -> Parts:
        """Take the training steps of a sample and return the mean seconds of their parts."""
        return self._mean_of(self.steps, timer)

    def find_steps(self, timer: Timer) -> None:
        """Find the number of training steps in a sample, which also warms up."""
        self.steps = steps_per_sample(lambda count: count * self._mean_of(count, timer).whole)

    def _mean_of(self, count: int, timer: Timer) -> Parts:
        forward_backward = step = 0.0
        for _ in range(count):
            forward_backward += timer.seconds(self.forward_backward, 1)
            step += timer.seconds(self.step, 1)
        return Parts(forward_backward / count, step / count)


def prepare(implementation: Implementation, training: Training, compiles_step: bool, timer: Timer) -> TrainingLane:
    """Construct the optimizer, take first steps, check their effect, and warm up.

    Raises:
        UnavailableError: it cannot be constructed or stepped, its step does nothing, or it was to be compiled and is
            not.
    """
    params = training.params
    refuse_without_room(params)
    with reasons():
        optimizer = implementation.build(params)
        step = torch.compile(optimizer.step) if compiles_step else optimizer.step
        lane = TrainingLane(training.forward_backward, step)
        lane.forward_backward()
        with must_compile("step") if compiles_step else nullcontext():
            changes_gradients(lane.step, params)
            lane.find_steps(timer)
        lane.executor = getattr(optimizer, "executor", None)
        if compiles_step and lane.executor not in (None, "compiled"):
            raise UnavailableError(NO_GRAPH.format("step"))
        return lane


def compiled_model(training: Training) -> Training:
    """Return the training of the compiled model, whose code has been generated.

    Raises:
        UnavailableError: the compiler failed, or made nothing of the model.
    """
    with reasons(), must_compile("model"):
        compiled = training.compiled()
        compiled.forward_backward()
    return compiled


@contextmanager
def must_compile(part: str) -> Iterator[None]:
    """Raise `UnavailableError` unless ``torch.compile`` makes a graph in the block; it may have run code as it is."""
    before = graphs()
    yield
    if graphs() == before:
        raise UnavailableError(NO_GRAPH.format(part))


def graphs() -> int:
    """Return how many graphs ``torch.compile`` has made in this process."""
    from torch._dynamo.utils import counters  # takes a second, which other commands must not wait for

    return int(counters["stats"]["unique_graphs"])
