"""An implementation that is ready to be timed: constructed, warmed up and checked, its bytes counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final

import torch
from torch import Tensor

from .implementations import Implementation
from .memory import available_bytes, peak_extra_bytes
from .timing import Timer, steps_per_sample

SAMPLED: Final = 1000
"""Elements of each tensor that are compared to see whether a step has changed it."""
PATIENCE: Final = 8
"""Steps within which the parameters must have moved. Some forms of RAdam wait for the sixth."""
ROOM: Final = 10
"""Free memory that one more implementation needs (state, steps), as a multiple of the parameters' memory."""

Parameters = list[torch.nn.Parameter]


class UnavailableError(Exception):
    """An implementation cannot take part; the message is the reason."""


@dataclass(eq=False)
class Lane:
    """A step over parameters and gradients that all implementations of a group share; its state is its own.

    Attributes:
        step: the step.
        params: the shared parameters.
        moved_bytes: bytes that the step must read and write, each counted once.
        steps: the number of steps in a sample.
        executor: the executor of the step, or None if the optimizer does not name it.
        writes_gradients: the step changes the gradients, so it gets copies, made outside the clock.
    """

    step: Callable[[], Any]
    params: Parameters
    moved_bytes: int
    steps: int = 1
    executor: str | None = None
    writes_gradients: bool = False

    def sample(self, timer: Timer) -> float:
        """Take the steps of a sample and return the seconds of one of them."""
        return self._seconds(self.steps, timer) / self.steps

    def find_steps(self, timer: Timer) -> Lane:
        """Find the number of steps in a sample, which also warms up. Return the lane."""
        self.steps = steps_per_sample(lambda count: self._seconds(count, timer))
        return self

    def _seconds(self, count: int, timer: Timer) -> float:
        with self._gradients():
            return timer.seconds(self.step, count)

    def peak_extra_bytes(self, device: str) -> int | None:
        """Measure the additional memory of one more step."""
        with self._gradients():
            return peak_extra_bytes(self.step, device)

    def _gradients(self) -> Any:
        return copied_gradients(self.params) if self.writes_gradients else nullcontext()


def prepare(implementation: Implementation, params: Parameters, timer: Timer) -> Lane:
    """Construct the optimizer, take first steps, check their effect, and warm up. The first steps create the state.

    Raises:
        UnavailableError: it cannot be constructed or stepped, or its step does nothing.
    """
    refuse_without_room(params)
    with reasons():
        return _ready(implementation.build(params), params).find_steps(timer)


@contextmanager
def reasons() -> Iterator[None]:
    """Turn every error of the block into `UnavailableError` with the reason.

    Other people's code may raise anything. The run continues without them, and says why.
    """
    try:
        yield
    except UnavailableError:
        raise
    except Exception as error:
        raise UnavailableError(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}") from error


def _ready(optimizer: torch.optim.Optimizer, params: Parameters) -> Lane:
    writes = changes_gradients(optimizer.step, params)
    moved = 2 * nbytes(params) + nbytes(p.grad for p in params) + 2 * nbytes(tensors(optimizer.state))
    executor = getattr(optimizer, "executor", None)
    return Lane(optimizer.step, params, moved, executor=executor, writes_gradients=writes)


def in_place_add(params: Parameters, timer: Timer) -> Lane:
    """Return the lane of the memory's practical limit: steps add one to every parameter and subtract it in turn.

    On a device, where a hundred launches would be measured and not the memory, it is one call for all parameters. It
    moves what a copy moves.
    """
    plain = [p.detach() for p in params]
    numbers = cycle((1, -1))
    together = not plain[0].is_cpu

    def step() -> None:
        number = next(numbers)
        if together:
            torch._foreach_add_(plain, number)
        else:
            for x in plain:
                x.add_(number)

    return Lane(step, params, 2 * nbytes(params)).find_steps(timer)


def refuse_without_room(params: Parameters) -> None:
    """Raise `UnavailableError` unless `ROOM` times the parameters' memory is available."""
    free, needed = available_bytes(params[0].device.type), ROOM * nbytes(params)
    if free is not None and free < needed:
        raise UnavailableError(f"{free / 2**30:.1f} GiB of memory are left, one more needs {needed / 2**30:.1f}")


def changes_gradients(step: Callable[[], Any], params: Parameters) -> bool:
    """Step until the parameters move, on copies of the gradients. Return whether the copies were changed.

    Raises:
        UnavailableError: the step takes gradients away, or leaves the parameters where they are `PATIENCE` times.
    """
    weights = [_sample(p) for p in params]
    gradients = [_sample(p.grad) for p in params]
    with copied_gradients(params):
        for _ in range(PATIENCE):
            step()
            if any(p.grad is None for p in params):
                raise UnavailableError("its step takes the gradients away, and the next has nothing to do")
            if not all(map(torch.equal, weights, map(_sample, params))):
                return not all(map(torch.equal, gradients, [_sample(p.grad) for p in params]))
    raise UnavailableError(f"its step leaves the parameters as they are, {PATIENCE} times")


def _sample(x: Tensor | None) -> Tensor:
    assert x is not None  # every parameter has a gradient
    return x.detach().reshape(-1)[:SAMPLED].clone()


@contextmanager
def copied_gradients(params: Parameters) -> Iterator[None]:
    """Replace the gradients by copies inside the block. The untouched originals come back afterwards."""
    originals = [p.grad for p in params]
    try:
        for p in params:
            p.grad = None if p.grad is None else p.grad.clone()
        yield
    finally:
        for p, gradient in zip(params, originals, strict=True):
            p.grad = gradient


def nbytes(items: Any) -> int:
    """Return the bytes of all tensors together. A tensor that appears twice counts once."""
    distinct = {id(x): x for x in items if x is not None}
    return sum(x.numel() * x.element_size() for x in distinct.values())


def tensors(state: Any) -> Iterator[Tensor]:
    """Yield every tensor in an optimizer's state, at any depth. The keys are parameters and do not count as state."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping):
        for value in state.values():
            yield from tensors(value)
    elif isinstance(state, (list, tuple, set)):
        for value in state:
            yield from tensors(value)
