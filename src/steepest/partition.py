"""A parameter group cut into parts that one program call can serve, remembered from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import is_
from typing import Any

import torch
from torch import Tensor

from .executors.batch import Batch, real_view
from .fields import State
from .rule import Program

ONE = torch.ones(())
"""The step counts' increment, as a tensor: a plain 1 would be wrapped into one for every count."""


@dataclass(eq=False)
class Clock:
    """The numbers that each parameter keeps for itself: its step count and scalar state.

    They live in 0-dim tensors, where torch keeps them. Reading those costs a call each, so the values are remembered
    for as long as the tensors' version counters say that nobody else has written to them.
    """

    columns: dict[str, list[Tensor]]
    values: dict[str, Any]
    versions: list[int]

    @staticmethod
    def of(counted: Mapping[str, State], states: list[dict[str, Any]], values: tuple[Any, ...]) -> Clock:
        """The clock of parameters whose numbers are all equal to ``values``."""
        columns = {name: [state[s.name] for state in states] for name, s in counted.items()}
        return Clock(columns, dict(zip(counted, values, strict=True)), _versions(columns))

    def is_current(self, counted: Mapping[str, State], states: list[dict[str, Any]]) -> bool:
        """Whether the state still holds the same tensors, with nothing written to them."""
        for name, declared in counted.items():
            if not all(map(is_, [state.get(declared.name) for state in states], self.columns[name])):
                return False
        return _versions(self.columns) == self.versions

    def tick(self) -> None:
        """Count one step, in the tensors and in the value."""
        if "t" in self.columns:
            steps = self.columns["t"]
            torch._foreach_add_(steps, ONE if steps[0].is_cpu else 1)
            self.values["t"] = self.values["t"] + 1
            self.versions = _versions(self.columns)

    def store(self, new: Mapping[str, Any]) -> None:
        """Keep new scalar state: rounded as its tensors hold it, so that a reloaded run goes on bit by bit."""
        for name, value in new.items():
            column = self.columns[name]
            torch._foreach_copy_(column, [torch.as_tensor(value, dtype=column[0].dtype)] * len(column))
            self.values[name] = column[0].item()
        if new:
            self.versions = _versions(self.columns)


def _versions(columns: Mapping[str, list[Tensor]]) -> list[int]:
    return [x._version for column in columns.values() for x in column]


@dataclass(eq=False)
class Part:
    """Parameters that share a program, a device, a dtype and their clock's values."""

    program: Program
    params: list[Tensor]
    states: list[dict[str, Any]]
    clock: Clock

    def is_complete(self) -> bool:
        """Whether no state has been taken away."""
        return min(map(len, self.states)) >= len(self.program.state)

    def batch(self, numbers: Mapping[str, Any]) -> Batch:
        """What an executor needs for one step."""
        grads: list[Any] = [p.grad for p in self.params]
        state = {s.name: [held[s.name] for held in self.states] for s in self.program.tensors}
        params = self.params
        if params[0].is_complex():
            params, grads = [real_view(p) for p in params], [real_view(g) for g in grads]
            state = {name: [real_view(x) for x in column] for name, column in state.items()}
        return Batch(self.program, {**numbers, **self.clock.values}, params, grads, state)


@dataclass(eq=False)
class Partition:
    """A group's parts, and all that they were made from: ``token`` equal means that they still hold."""

    token: tuple[Any, ...]
    parts: list[Part]

    def is_current(self, token: tuple[Any, ...], counted: Mapping[str, State]) -> bool:
        """Whether the parts still describe the group."""
        return token == self.token and all(
            part.is_complete() and part.clock.is_current(counted, part.states) for part in self.parts
        )


def token_of(live: list[Tensor], structure: Any) -> tuple[Any, ...]:
    """What a partition depends on beside the state: which parameters, of which type, under which structure."""
    return list(map(id, live)), [p.dtype for p in live], [p.device for p in live], structure


def split(
    live: list[Tensor],
    states: list[dict[str, Any]],
    counted: Mapping[str, State],
    first: list[bool],
    make_program: Callable[[bool], Program],
) -> Iterator[Part]:
    """Put parameters together that share device, dtype, age and clock.

    Args:
        live: the parameters that have gradients.
        states: their state.
        counted: the state that counts, under the name that a rule sees.
        first: whether a parameter's state was made at this step.
        make_program: the program for parameters at, or after, their first step.
    """
    together: dict[Any, list[int]] = {}
    for index, p in enumerate(live):
        values = tuple(states[index][s.name].item() for s in counted.values())
        together.setdefault((p.device, p.dtype, first[index], values), []).append(index)
    for (_, _, is_first, values), members in together.items():
        held = [states[i] for i in members]
        clock = Clock.of(counted, held, values)
        yield Part(make_program(is_first), [live[i] for i in members], held, clock)


def singles(
    live: list[Tensor],
    states: list[dict[str, Any]],
    counted: Mapping[str, State],
    first: list[bool],
    make_program: Callable[[bool], Program],
) -> Iterator[Part]:
    """Every parameter by itself, its clock left in its tensors: for capturable and differentiable steps."""
    for p, state, is_first in zip(live, states, first, strict=True):
        columns = {name: [state[s.name]] for name, s in counted.items()}
        yield Part(make_program(is_first), [p], [state], TensorClock(columns, _doubles(columns), []))


def _doubles(columns: Mapping[str, list[Tensor]]) -> dict[str, Any]:
    """In double: 1 - beta2**t of a float32 t has lost five digits."""
    return {name: column[0].double() for name, column in columns.items()}


class TensorClock(Clock):
    """A clock whose values stay 0-dim tensors on their device."""

    def tick(self) -> None:
        """Count one step, on the device."""
        if "t" in self.columns:
            torch._foreach_add_(self.columns["t"], 1)
            self.values = _doubles(self.columns)

    def store(self, new: Mapping[str, Any]) -> None:
        """Keep new scalar state, on the device."""
        for name, value in new.items():
            self.columns[name][0].copy_(value)
