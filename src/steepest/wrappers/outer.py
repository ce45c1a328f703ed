"""Outer steps: an SGD on slow weights, whose gradient is what an optimizer has done in the last steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch

from ..fields import Search
from ..transforms.average import holds_averages, swapped
from .base import Closure, Wrapper, refuse_other_weights, require


class Outer(Wrapper):
    """Outer SGD on slow weights: every k steps, its gradient is slow - θ, and θ restarts at the slow weights.

    ``Outer(base, lr=0.7, momentum=0.9, nesterov=True)`` is the outer step of DiLoCo on one machine, and Snoo's.
    ``Outer(base, lr=alpha, momentum=0)`` is Lookahead, which every optimizer of the library also has as its option
    ``lookahead``. The optimizer inside keeps its state.

    Args:
        base: the optimizer inside.
        lr: rate of the outer SGD. Schedules act on the rate of the base.
        momentum: its momentum.
        nesterov: whether it is Nesterov's.
        every: steps of the base between two outer steps.

    Source:
        Douillard et al. 2023, "DiLoCo: distributed low-communication training of language models", arXiv:2311.08105;
        Kallusky et al. 2025, "SNOO: step-K Nesterov outer optimizer", arXiv:2510.15830; Zhang et al. 2019, "Lookahead
        optimizer: k steps forward, 1 step back", arXiv:1907.08610.
    Differs:
        The slow weights start at construction; in timm's Lookahead they start at the first outer step, which moves
        nothing there. Lookahead in timm and pytorch_optimizer is not an `Optimizer`, or loses its slow weights in a
        state dict.
    """

    settings: ClassVar[tuple[str, ...]] = ("outer_lr", "momentum", "nesterov", "every", "age")

    options: ClassVar[Mapping[str, str]] = {
        "outer_lr": "lr",
        "outer_momentum": "momentum",
        "outer_nesterov": "nesterov",
        "every": "every",
    }
    search: ClassVar[Mapping[str, Search]] = {"outer_lr": Search(0.4, 0.9, "linear")}

    def __init__(
        self,
        base: torch.optim.Optimizer,
        lr: float = 0.7,
        momentum: float = 0.9,
        nesterov: bool = True,
        every: int = 30,
    ) -> None:
        require("lr", lr, lr > 0, "a number > 0")
        require("momentum", momentum, 0 <= momentum < 1, "a number >= 0 and < 1")
        require("every", every, isinstance(every, int) and every >= 1, "a whole number of at least 1")
        self.outer_lr, self.momentum, self.nesterov, self.every = lr, momentum, nesterov, every
        self.age = 0
        super().__init__(base)
        refuse_other_weights("Outer", base)

    def _begin(self) -> None:
        super()._begin()
        self.age = 0
        self._start_slow()

    @torch.no_grad()
    def _start_slow(self) -> None:
        for p in self._parameters():
            if "slow" not in self.own[p]:
                self.own[p]["slow"] = p.detach().clone()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group; its slow weights start here."""
        super().add_param_group(param_group)
        self._start_slow()

    def step(self, closure: Closure | None = None) -> Any:
        """Perform one update of the optimizer inside, and every k steps one of the slow weights.

        Args:
            closure: function that re-evaluates the model and returns the loss, for the optimizer inside.

        Returns:
            The closure's loss, or None.
        """
        if holds_averages(self.param_groups):
            raise RuntimeError("step() inside `with optimizer.averaged():` would train the slow weights; leave it")
        loss = self.base.step() if closure is None else self.base.step(closure)
        self.age += 1
        if self.age >= self.every:
            self.age = 0
            self._step_slow()
        return loss

    @torch.no_grad()
    def _step_slow(self) -> None:
        for p in self._parameters():
            held = self.own[p]
            slow = held["slow"]
            move = slow - p
            if self.momentum:
                velocity = held["velocity"] = (
                    held["velocity"].mul_(self.momentum).add_(move) if "velocity" in held else move
                )
                move = move.add(velocity, alpha=self.momentum) if self.nesterov else velocity
            slow.sub_(move, alpha=self.outer_lr)
            p.copy_(slow)

    @contextmanager
    def averaged(self, name: str | None = None) -> Iterator[None]:
        """Use the slow weights inside the block. The parameters' own values come back afterwards in any case.

        Raises:
            RuntimeError: the block is entered twice.
            ValueError: an average is asked for by name.
        """
        if name is not None:
            raise ValueError(f"no average is called {name!r}; there are only the slow weights, without a name")
        if holds_averages(self.param_groups):
            raise RuntimeError("already inside `with optimizer.averaged():`")
        with swapped((p, self.own[p]["slow"]) for p in self._parameters()):
            yield
