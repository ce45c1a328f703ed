"""What an executor is handed: one program and the parameters that it runs on in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..rule import Program

Item = TypeVar("Item")


@dataclass
class Batch:
    """Parameters that share a program, a device, a dtype and all numbers.

    Attributes:
        program: what to run.
        numbers: the run-time numbers, by name (hyperparameters, ``t``, scalar state).
        params, grads: the parameters and their gradients; gradients are never written.
        state: the tensor state as it is stored, a list per name, in the order of ``params``; written in place.
        streams: the parameters' streams of random bits, for a program that rounds with them.
    """

    program: Program
    numbers: dict[str, Any]
    params: list[Tensor]
    grads: list[Tensor]
    state: dict[str, list[Tensor]]
    streams: list[int] = field(default_factory=list)

    @property
    def slots(self) -> list[list[Tensor]]:
        """params, grads, then the state in the program's order."""
        return [self.params, self.grads, *self.state.values()]


def real_view(x: Tensor) -> Tensor:
    """A complex tensor as its real view (a last dimension of size 2); any other tensor itself."""
    return torch.view_as_real(x) if x.is_complex() else x


def runs(items: Iterable[Item], size: Callable[[Item], int], most: int) -> Iterator[list[Item]]:
    """``items`` in order, in runs of together at most ``most``; one that is larger is a run of its own."""
    held: list[Item] = []
    total = 0
    for item in items:
        if held and total + size(item) > most:
            yield held
            held, total = [], 0
        held.append(item)
        total += size(item)
    if held:
        yield held


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype to compute in: half types compute in float32 and round once, at the store."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def widen(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x`` in the dtype to compute in (itself where it already is)."""
    return x if x.dtype == dtype else x.to(dtype)
