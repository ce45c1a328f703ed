"""A clock that only steps move, and libraries that exist only here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from steepest.bench.cases import Case
from steepest.bench.implementations import Implementation
from steepest.bench.timing import Timer
from steepest.bench.train.cases import TrainingCase

TINY = Case("tiny", "two tensors", lambda: iter([(2, 3), (5,)]), rounds=2)


@dataclass
class Clock:
    """Seconds that pass only where somebody says so."""

    now: float = 0.0
    order: list[str] = field(default_factory=list)

    @property
    def timer(self) -> Timer:
        return Timer(clock=lambda: self.now)

    def takes(self, seconds: float, name: str = "") -> Callable[[], None]:
        def step() -> None:
            self.now += seconds
            self.order.append(name)

        return step


class Slowed(torch.optim.SGD):
    """torch's SGD, whose steps take a stated time by the clock; `does` is what else a step does."""

    def __init__(self, params: Any, clock: Clock, seconds: float, does: Callable[[Any], None] | None = None) -> None:
        super().__init__(params, lr=1e-3, momentum=0.9)
        self._pass_time = clock.takes(seconds)
        self._does = does

    def step(self, closure: Any = None) -> None:
        self._pass_time()
        super().step()
        if self._does:
            self._does(self.param_groups[0]["params"])


def implementation(source: str, mode: str, clock: Clock, seconds: float, does: Any = None) -> Implementation:
    return Implementation(source, mode, lambda params: Slowed(params, clock, seconds, does))


def draw(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(count, 8, generator=generator), torch.randint(3, (count,), generator=generator)


def perceptron() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(8, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))


TINY_TRAINING = TrainingCase("tiny", "a perceptron", perceptron, cross_entropy, draw, batch_size=4, rounds=2)
