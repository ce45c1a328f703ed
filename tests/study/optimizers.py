"""Optimizers of other people: some cannot be stored, some end their process. Each does it in its fourth step or later,
when the rehearsal and the warm-up are over.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import torch


class Plain(torch.optim.Optimizer):
    """Momentum, with all it remembers where torch saves it."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                memory = self.state[p]
                memory["v"] = group["momentum"] * memory.get("v", torch.zeros_like(p)) + p.grad
                p -= group["lr"] * memory["v"]


class Forgetful(Plain):
    """Remembers something in an attribute, which no state dict holds."""

    seen = 0

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        self.seen += 1
        for group in self.param_groups:
            group["momentum"] = 0.9 / self.seen
        super().step()


class Lookahead(Plain):
    """Keeps slow weights in an attribute, and needs them in every fourth step only."""

    slow: list[torch.Tensor] | None = None
    fast_steps = 0

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        params = self.param_groups[0]["params"]
        self.slow = self.slow or [p.clone() for p in params]
        super().step()
        self.fast_steps += 1
        if self.fast_steps % 4 == 0:
            for p, slow in zip(params, self.slow, strict=True):
                p.copy_(slow.lerp_(p, 0.5))


class Note:
    """Something that is no tensor."""


class Odd(Plain):
    """Its state holds an object, which is not loaded without trust."""

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        super().step()
        for memory in self.state.values():
            memory["note"] = Note()


class Unpicklable(Plain):
    """Its state holds a function that has no name."""

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        super().step()
        for memory in self.state.values():
            memory["note"] = lambda: None


class Refusing(Plain):
    """Will not have its state back."""

    def load_state_dict(self, state_dict: Any) -> None:
        raise NotImplementedError("start again")


class Trouble(Plain):
    """Does something in its fourth step."""

    calls = 0

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        self.calls += 1
        if self.calls == 4:
            self.happen()
        super().step()

    def happen(self) -> None:
        raise NotImplementedError


class Raises(Trouble):
    def happen(self) -> None:
        raise ZeroDivisionError("the fourth step")


class Leaves(Trouble):
    def happen(self) -> None:
        sys.exit("enough")


class Exits(Trouble):
    def happen(self) -> None:
        print("these are my last words", flush=True)
        os._exit(3)


class Crashes(Trouble):
    def happen(self) -> None:
        ctypes.string_at(0)


class IsKilled(Trouble):
    def happen(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Hangs(Trouble):
    def happen(self) -> None:
        while True:
            time.sleep(0.1)


class IsTerminated(Trouble):
    def happen(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
