"""A parameter group cut into parts that one program call can serve, remembered from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter, is_
from typing import Any, Protocol

import torch
from torch import Tensor

from .executors.batch import Batch, real_view
from .fields import State
from .rule import Program

IS_SPARSE = attrgetter("is_sparse")

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


class Part(Protocol):
    """Parameters of a group that one call can serve.

    Attributes:
        members: their places among the group's parameters with gradients.
    """

    members: list[int]

    def ready(self, grads: list[Tensor]) -> bool:
        """Whether the part still describes its parameters, their gradients and state; called before each step."""
        ...

    def step(self, numbers: Mapping[str, Any]) -> None:
        """One step under the group's run-time numbers."""
        ...


MakeProgram = Callable[[bool, Tensor], Program]
"""``make_program(is_first, p)``: what runs for a parameter at, or after, its first step."""


@dataclass(frozen=True)
class Live:
    """The parameters of a group that have gradients, and what an executor needs to put them together.

    Attributes:
        params: the parameters.
        states: their state.
        first: whose state was made at this step.
        streams: their streams of random bits (`codecs.stream_of`), which stochastic rounding reads.
        make_program: gives a parameter's program.
        numbers: the names of the group's run-time numbers.
    """

    params: list[Tensor]
    states: list[dict[str, Any]]
    first: list[bool]
    streams: list[int]
    make_program: MakeProgram
    numbers: tuple[str, ...]

    def together(self, key: Callable[[Program, Tensor, dict[str, Any]], Any]) -> Iterator[tuple[Program, list[int]]]:
        """Programs, and the places of the parameters that share one and for which ``key`` is equal."""
        found: dict[Any, list[int]] = {}
        for index, (p, held, is_first) in enumerate(zip(self.params, self.states, self.first, strict=True)):
            program = self.make_program(is_first, p)
            found.setdefault((program, key(program, p, held)), []).append(index)
        return ((program, members) for (program, _), members in found.items())

    def only(self, places: list[int]) -> Live:
        """Those at ``places`` alone."""
        params, states, streams = self.of(places)
        first = [self.first[i] for i in places]
        return replace(self, params=params, states=states, first=first, streams=streams)

    def of(self, members: list[int]) -> tuple[list[Tensor], list[dict[str, Any]], list[int]]:
        """Parameters, state and streams of those at the places ``members``."""
        return [self.params[i] for i in members], [self.states[i] for i in members], [self.streams[i] for i in members]


Cut = Callable[[Live], Iterator[Part]]
"""How an executor puts parameters together."""


@dataclass(frozen=True)
class Choice:
    """An executor: its name, how it puts parameters together, and why it is not a faster one."""

    name: str
    cut: Cut
    reason: str = ""


class ExecutorName(str):
    """An executor's name, which also says why it is not a faster one."""

    reason: str

    @staticmethod
    def of(choice: Choice) -> ExecutorName:
        """The name of a choice, with its reason."""
        name = ExecutorName(choice.name)
        name.reason = choice.reason
        return name

    def __repr__(self) -> str:
        return super().__repr__() + (f" ({self.reason})" if self.reason else "")


KIND = attrgetter("dtype", "device")


@dataclass(eq=False)
class BatchPart:
    """Parameters that share a program, a device, a dtype and their clock's values, for an executor of batches."""

    run: Callable[[Batch], dict[str, Any]]
    program: Program
    members: list[int]
    params: list[Tensor]
    states: list[dict[str, Any]]
    clock: Clock
    streams: list[int]

    def __post_init__(self) -> None:
        """Remember what the parameters are, since ``p.data = ...`` may change it."""
        self._types, self._kinds = list(map(type, self.params)), list(map(KIND, self.params))

    def ready(self, grads: list[Tensor]) -> bool:
        """Whether parameters and clock are as they were, and no state has been taken away."""
        return (
            min(map(len, self.states)) >= len(self.program.stored) + len(self.program.counted)
            and self._types == list(map(type, self.params))
            and self._kinds == list(map(KIND, self.params))
            and not any(map(IS_SPARSE, grads))
            and self.clock.is_current(self.program.counted, self.states)
        )

    def step(self, numbers: Mapping[str, Any]) -> None:
        """Count, run the program, and keep new scalar state."""
        self.clock.tick()
        self.clock.store(self.run(self._batch(numbers)))

    def _batch(self, numbers: Mapping[str, Any]) -> Batch:
        grads: list[Any] = [p.grad for p in self.params]
        state = {s.name: [held[s.name] for held in self.states] for s in self.program.stored}
        params = self.params
        if params[0].is_complex():
            params, grads = [real_view(p) for p in params], [real_view(g.resolve_conj()) for g in grads]
            state = {name: [real_view(x) for x in column] for name, column in state.items()}
        return Batch(self.program, {**numbers, **self.clock.values}, params, grads, state, self.streams)


@dataclass(eq=False)
class Partition:
    """A group's parts, and all that they were made from beside what they check themselves.

    Attributes:
        live: the parameters with gradients.
        structure: the rule, its options but for numbers, and its common steps.
        choice: the executor that runs them.
        parts: the parts.
    """

    live: list[Tensor]
    structure: Any
    choice: Choice
    parts: list[Part]

    def ready(self, live: list[Tensor], grads: list[Tensor], structure: Any) -> bool:
        """Whether the parts still describe the group."""
        if structure != self.structure or len(live) != len(self.live) or not all(map(is_, live, self.live)):
            return False
        if len(self.parts) == 1:
            return self.parts[0].ready(grads)
        return all(part.ready([grads[i] for i in part.members]) for part in self.parts)


def split(
    live: Live, *, run: Callable[[Batch], dict[str, Any]], part: type[BatchPart] = BatchPart
) -> Iterator[BatchPart]:
    """Put parameters together that share device, dtype, program (and so their age, if it matters) and clock."""
    for program, members in live.together(lambda program, p, held: (p.device, p.dtype, _counts(program, held))):
        params, states, streams = live.of(members)
        clock = Clock.of(program.counted, states, _counts(program, states[0]))
        yield part(run, program, members, params, states, clock, streams)


def _counts(program: Program, held: dict[str, Any]) -> tuple[float, ...]:
    return tuple(held[s.name].item() for s in program.counted.values())


def singles(live: Live, *, run: Callable[[Batch], dict[str, Any]]) -> Iterator[BatchPart]:
    """Every parameter by itself, its clock left in its tensors: for capturable and differentiable steps."""
    for index, (p, is_first) in enumerate(zip(live.params, live.first, strict=True)):
        params, states, streams = live.of([index])
        program = live.make_program(is_first, p)
        columns = {name: [states[0][s.name]] for name, s in program.counted.items()}
        clock = TensorClock(columns, _doubles(columns), [])
        yield BatchPart(run, program, [index], params, states, clock, streams)


def _doubles(columns: Mapping[str, list[Tensor]]) -> dict[str, Any]:
    """In double: 1 - beta2**t of a float32 t has lost five digits. A backward needs the values that it has seen."""
    keep = torch.is_grad_enabled()
    return {name: column[0].to(torch.float64, copy=keep) for name, column in columns.items()}


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
