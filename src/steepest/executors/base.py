"""The executor record, the parameters and batches that executors take, and the buckets that they make."""

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
"""Tensor types that list calls and kernels take. An uninitialised parameter is plain by its first gradient."""

IS_SPARSE = attrgetter("is_sparse")


class UnsupportedError(RuntimeError):
    """Error of an executor that cannot run these parameters exactly, or not on this machine. The message says why."""


@dataclass
class Batch:
    """Parameters that share a program, a device, a dtype and all numbers.

    Attributes:
        program: the program to run.
        numbers: the run-time numbers, by name (hyperparameters, ``t``, scalar state). Under ``capturable=True`` some
            are on the device: in 0-dim tensors, or in a list of one for each parameter.
        params, grads: the parameters and their gradients. Gradients are never written.
        state: the tensor state as it is stored: a list per name, in the order of ``params``. It is written in place.
        streams: the parameters' streams of random bits, for a program that rounds stochastically or takes random
            numbers. A stack of parameters has a vector of streams.
    """

    program: Program
    numbers: dict[str, Any]
    params: list[Tensor]
    grads: list[Tensor]
    state: dict[str, list[Tensor]]
    streams: list[Any] = field(default_factory=list)

    @property
    def slots(self) -> list[list[Tensor]]:
        """Parameters, gradients, then the state in the program's order."""
        return [self.params, self.grads, *self.state.values()]


def runs(items: Iterable[Item], size: Callable[[Item], int], most: int) -> Iterator[list[Item]]:
    """Yield ``items`` in order, in runs whose sizes add up to at most ``most``. A larger item is a run of its own."""
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
        members: the parameters' places among the group's parameters with gradients.
    """

    members: list[int]

    def ready(self, grads: list[Tensor]) -> bool:
        """Return whether the bucket still describes its parameters, gradients and state. Called before each step."""
        ...

    def step(self, numbers: Mapping[str, Any]) -> None:
        """Take one step under the group's run-time numbers."""
        ...


@dataclass(frozen=True)
class ActiveParams:
    """Parameters with gradients that share a specification, with all that an executor needs to make buckets.

    Attributes:
        spec: the specification of the group.
        params: the parameters.
        states: the state of each parameter.
        first: for each parameter, whether its state was made at this step.
        streams: the parameters' streams of random bits (`codecs.stream_of`), which stochastic rounding reads.
        numbers: the names of the group's run-time numbers.
    """

    spec: GroupSpec
    params: list[Tensor]
    states: list[dict[str, Any]]
    first: list[bool]
    streams: list[Any]
    numbers: tuple[str, ...]

    def grouped_by(self, key: Callable[[Program, Tensor, dict[str, Any]], Any]) -> Iterator[tuple[Program, list[int]]]:
        """Yield each program with the places of parameters that share it and for which ``key`` is equal."""
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

    def at(self, places: list[int]) -> tuple[list[Tensor], list[dict[str, Any]], list[Any]]:
        """Return parameters, states and streams at the given places."""
        return [self.params[i] for i in places], [self.states[i] for i in places], [self.streams[i] for i in places]


MakeBuckets = Callable[[ActiveParams], Iterator[Bucket]]
"""Function by which an executor puts parameters together in buckets."""


RunSums = Callable[[Batch, Callable[..., list[list[Tensor]]]], dict[str, Any]]
"""Function that runs a batch with other reductions in the place of its words'."""


MapMatrices = Callable[[Callable[[Tensor], Tensor], list[Tensor]], list[Tensor]]
"""Function that applies a function of stacks of matrices to each of a list."""


def _no_buckets(live: ActiveParams) -> Iterator[Bucket]:
    raise TypeError(f"{live.spec.name} is run as a whole by an executor that does not put parameters in buckets")


def _no_refusal(spec: GroupSpec) -> str:
    return ""


def suits_planned(spec: GroupSpec) -> bool:
    """Return whether a group's rule is traced and takes dense gradients."""
    return spec.rule.kind in PLANNED_KINDS and spec.rule.sparse != "lazy"


@dataclass(frozen=True)
class Executor:
    """A way to run programs.

    Attributes:
        name: the executor's name in `Optimizer.executor` and in records.
        make_buckets: puts parameters together in buckets. Drivers and compiled steps, which have none, leave it out.
        suits: whether the executor is made for a group. It is not considered for other groups.
        switch: torch's option that asks for the executor when True, and rules it out when False; empty for none.
        refusal: why the executor cannot run a group, as far as the group's options say; empty if it can.
        is_opaque: whether the executor works on memory, past torch's operations, where no mode can intercept it.
        source: the code that runs for a group, for an executor that generates code.
        run_sums: runs a batch with other reductions in the place of its words', for an executor that can; see
            `steepest.executors.summed`.
        map_matrices: applies a function of matrices as the executor runs rules on them, for one that does; see
            `steepest.executors.gathered`.
        is_capturable: whether buckets under ``capturable=True`` never wait for their device. Under ``fused=True`` they
            do not wait for ``found_inf`` either.
    """

    name: str
    make_buckets: MakeBuckets = _no_buckets
    suits: Callable[[GroupSpec], bool] = suits_planned
    switch: str = ""
    refusal: Callable[[GroupSpec], str] = _no_refusal
    is_opaque: bool = False
    source: Callable[[GroupSpec], str] | None = None
    run_sums: RunSums | None = None
    map_matrices: MapMatrices | None = None
    is_capturable: bool = False


@dataclass(frozen=True)
class ExecutorChoice:
    """An executor for a group, and the reason why a faster executor was not chosen."""

    executor: Executor
    reason: str = ""


class ExecutorName(str):
    """An executor's name, with the reason why a faster executor was not chosen."""

    reason: str

    @staticmethod
    def of(choices: Iterable[ExecutorChoice]) -> ExecutorName:
        """Return the name of a group's choices, one for each of its rules, with the reasons of the choices."""
        chosen = list(choices)
        name = ExecutorName(" and ".join(dict.fromkeys(choice.executor.name for choice in chosen)))
        name.reason = "; ".join(dict.fromkeys(choice.reason for choice in chosen if choice.reason))
        return name

    def __repr__(self) -> str:
        return super().__repr__() + (f" ({self.reason})" if self.reason else "")
