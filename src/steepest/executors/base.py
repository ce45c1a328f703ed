"""Executors: the record that one is, what it is handed, and how it puts parameters together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Protocol, TypeVar

from torch import Tensor
from torch.nn import UninitializedParameter

from ..group import GroupSpec
from ..rule import PLANNED_KINDS, Program
from ..views import PLAIN

Item = TypeVar("Item")


PLAIN_TYPES = PLAIN | {UninitializedParameter}
"""What list calls and kernels take; an uninitialised parameter is a plain one by the time of its first gradient."""

IS_SPARSE = attrgetter("is_sparse")


class UnsupportedError(RuntimeError):
    """An executor cannot run these parameters exactly, or not on this machine. The message says why."""


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


class Bucket(Protocol):
    """Parameters of a group that one call can serve.

    Attributes:
        members: their places among the group's parameters with gradients.
    """

    members: list[int]

    def ready(self, grads: list[Tensor]) -> bool:
        """Return whether the bucket still describes its parameters, gradients and state; called before each step."""
        ...

    def step(self, numbers: Mapping[str, Any]) -> None:
        """Take one step under the group's run-time numbers."""
        ...


@dataclass(frozen=True)
class ActiveParams:
    """Parameters with gradients that share a specification, and what an executor needs to put them together.

    Attributes:
        spec: their group's specification.
        params: the parameters.
        states: their state.
        first: for each, whether its state was made at this step.
        streams: their streams of random bits (`codecs.stream_of`), which stochastic rounding reads.
        numbers: the names of the group's run-time numbers.
    """

    spec: GroupSpec
    params: list[Tensor]
    states: list[dict[str, Any]]
    first: list[bool]
    streams: list[int]
    numbers: tuple[str, ...]

    def grouped_by(self, key: Callable[[Program, Tensor, dict[str, Any]], Any]) -> Iterator[tuple[Program, list[int]]]:
        """Yield programs, and the places of the parameters that share one and for which ``key`` is equal."""
        places: dict[Any, list[int]] = {}
        for index, (p, held, is_first) in enumerate(zip(self.params, self.states, self.first, strict=True)):
            program = self.spec.program(p, first=is_first)
            places.setdefault((program, key(program, p, held)), []).append(index)
        return ((program, members) for (program, _), members in places.items())

    def only(self, places: list[int]) -> ActiveParams:
        """Return a copy restricted to the given places."""
        params, states, streams = self.at(places)
        first = [self.first[i] for i in places]
        return replace(self, params=params, states=states, first=first, streams=streams)

    def at(self, places: list[int]) -> tuple[list[Tensor], list[dict[str, Any]], list[int]]:
        """Return parameters, states and streams at the given places."""
        return [self.params[i] for i in places], [self.states[i] for i in places], [self.streams[i] for i in places]


MakeBuckets = Callable[[ActiveParams], Iterator[Bucket]]
"""How an executor puts parameters together."""


def _no_refusal(spec: GroupSpec) -> str:
    return ""


def suits_planned(spec: GroupSpec) -> bool:
    """Return whether a rule is traced, and takes dense gradients."""
    return spec.rule.kind in PLANNED_KINDS and spec.rule.sparse != "lazy"


@dataclass(frozen=True)
class Executor:
    """A way to run programs.

    Attributes:
        name: what `Optimizer.executor` and records call it.
        make_buckets: how it puts parameters together.
        suits: whether it is made for such a group; it is not considered for others.
        switch: torch's option that asks for it when True, and rules it out when False; empty for none.
        refusal: why it cannot run a group, as far as its options say; empty if it can.
        is_opaque: whether it works on memory, past torch's operations: no mode can intercept what it does.
        source: the code that it runs for a group, for an executor that generates some.
    """

    name: str
    make_buckets: MakeBuckets
    suits: Callable[[GroupSpec], bool] = suits_planned
    switch: str = ""
    refusal: Callable[[GroupSpec], str] = _no_refusal
    is_opaque: bool = False
    source: Callable[[GroupSpec], str] | None = None


@dataclass(frozen=True)
class ExecutorChoice:
    """An executor for a group, and the reason why it is not a faster one."""

    executor: Executor
    reason: str = ""


class ExecutorName(str):
    """An executor's name, with the reason why it is not a faster one."""

    reason: str

    @staticmethod
    def of(choices: Iterable[ExecutorChoice]) -> ExecutorName:
        """Return the name of the choices, one for each rule of a group, with their reasons."""
        chosen = list(choices)
        name = ExecutorName(" and ".join(dict.fromkeys(choice.executor.name for choice in chosen)))
        name.reason = "; ".join(dict.fromkeys(choice.reason for choice in chosen if choice.reason))
        return name

    def __repr__(self) -> str:
        return super().__repr__() + (f" ({self.reason})" if self.reason else "")
