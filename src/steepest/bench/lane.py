"""An implementation made ready: constructed, warmed up, checked to do its work, its bytes counted."""

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
"""Elements of each tensor that are looked at to see whether a step has changed it."""
PATIENCE: Final = 8
"""Steps in which the parameters must have moved: some forms of RAdam wait for the sixth."""
ROOM: Final = 10
"""How many times the parameters' memory must be free for one more implementation: its state, and what a step needs."""

Parameters = list[torch.nn.Parameter]


class UnavailableError(Exception):
    """An implementation cannot take part; the message is the reason."""


@dataclass(eq=False)
class Lane:
    """A step over parameters and gradients that all implementations of a group share; its state is its own.

    Attributes:
        step: the step.
        params: the shared parameters.
        moved_bytes: what the step must read and write, each once.
        steps: how many make a sample.
        executor: what runs it, where the optimizer says so.
        writes_gradients: the step changes the gradients, so it gets copies, made outside the clock.
    """

    step: Callable[[], Any]
    params: Parameters
    moved_bytes: int
    steps: int = 1
    executor: str | None = None
    writes_gradients: bool = False

    def sample(self, timer: Timer) -> float:
        """Take as many steps as a sample has and return the seconds that one took."""
        return self._seconds(self.steps, timer) / self.steps

    def find_steps(self, timer: Timer) -> Lane:
        """Find out how many steps make a sample, which warms up, too; return the lane."""
        self.steps = steps_per_sample(lambda count: self._seconds(count, timer))
        return self

    def _seconds(self, count: int, timer: Timer) -> float:
        with self._gradients():
            return timer.seconds(self.step, count)

    def peak_extra_bytes(self, device: str) -> int | None:
        """What one more step needs beside what is there."""
        with self._gradients():
            return peak_extra_bytes(self.step, device)

    def _gradients(self) -> Any:
        return copied_gradients(self.params) if self.writes_gradients else nullcontext()


def prepare(implementation: Implementation, params: Parameters, timer: Timer) -> Lane:
    """Construct, take first steps (they make the state), check that they did what steps do, and warm up.

    Raises:
        UnavailableError: it cannot be constructed or stepped, or its step does nothing.
    """
    _refuse_without_room(params)
    try:
        return _ready(implementation.build(params), params).find_steps(timer)
    except UnavailableError:
        raise
    except Exception as error:  # other people's code may raise anything; the run goes on without them, and says why
        raise UnavailableError(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}") from error


def _ready(optimizer: torch.optim.Optimizer, params: Parameters) -> Lane:
    writes = _changes_gradients(optimizer, params)
    moved = 2 * nbytes(params) + nbytes(p.grad for p in params) + 2 * nbytes(tensors(optimizer.state))
    executor = getattr(optimizer, "executor", None)
    return Lane(optimizer.step, params, moved, executor=executor, writes_gradients=writes)


def in_place_add(params: Parameters, timer: Timer) -> Lane:
    """The memory's practical limit: one is added to every parameter in place, and taken away by the next step."""
    plain = [p.detach() for p in params]
    numbers = cycle((1, -1))

    def step() -> None:
        number = next(numbers)
        for x in plain:
            x.add_(number)

    return Lane(step, params, 2 * nbytes(params)).find_steps(timer)


def _refuse_without_room(params: Parameters) -> None:
    free, needed = available_bytes(params[0].device.type), ROOM * nbytes(params)
    if free is not None and free < needed:
        raise UnavailableError(f"{free / 2**30:.1f} GiB of memory are left, one more needs {needed / 2**30:.1f}")


def _changes_gradients(optimizer: torch.optim.Optimizer, params: Parameters) -> bool:
    """Step until the parameters move, on copies of the gradients; return whether those were changed."""
    weights = [_sample(p) for p in params]
    gradients = [_sample(p.grad) for p in params]
    with copied_gradients(params):
        for _ in range(PATIENCE):
            optimizer.step()
            if any(p.grad is None for p in params):
                raise UnavailableError("its step takes the gradients away, and the next has nothing to do")
            if not all(map(torch.equal, weights, map(_sample, params))):
                return not all(map(torch.equal, gradients, [_sample(p.grad) for p in params]))
    raise UnavailableError(f"its step leaves the parameters as they are, {PATIENCE} times")


def _sample(x: Tensor | None) -> Tensor:
    assert x is not None  # every parameter has a gradient
    return x.detach().view(-1)[:SAMPLED].clone()


@contextmanager
def copied_gradients(params: Parameters) -> Iterator[None]:
    """Copies of the gradients inside the block; the gradients themselves come back afterwards, untouched."""
    own = [p.grad for p in params]
    try:
        for p in params:
            p.grad = None if p.grad is None else p.grad.clone()
        yield
    finally:
        for p, gradient in zip(params, own, strict=True):
            p.grad = gradient


def nbytes(found: Any) -> int:
    """The bytes of all tensors together; a tensor that appears twice counts once."""
    distinct = {id(x): x for x in found if x is not None}
    return sum(x.numel() * x.element_size() for x in distinct.values())


def tensors(held: Any) -> Iterator[Tensor]:
    """Every tensor in an optimizer's state, however deeply nested (its keys, the parameters, are no state)."""
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, Mapping):
        for value in held.values():
            yield from tensors(value)
    elif isinstance(held, (list, tuple, set)):
        for value in held:
            yield from tensors(value)
