"""Buckets: parameters of a group that one program call can serve, remembered from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter, is_
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..fields import State
from ..modes import Mode
from ..rule import Program
from ..views import real_view
from .base import IS_SPARSE, ActiveParams, Batch, Bucket, ExecutorChoice, MakeBuckets
from .memory import Memory, addresses, waves
from .shared import Measurement

ONE = torch.ones((), dtype=torch.float32, device="cpu")
"""The increment of step counts, as a tensor: a plain 1 would be wrapped into a tensor for every count.

Without ``alpha`` torch reads the tensor, and wraps the number for every count again: 155 µs for 100 counts, 39 with it.
"""


@dataclass(eq=False)
class StepCounters:
    """The numbers that each parameter keeps for itself: its step count and scalar state.

    These numbers live in 0-dim tensors, where torch keeps them, and are read from there at each step. A version counter
    would not tell, because writes through ``.data``, NumPy or a storage do not move it.
    """

    columns: dict[str, list[Tensor]]
    values: dict[str, Any]

    @staticmethod
    def of(counted: Mapping[str, State], states: list[dict[str, Any]], values: tuple[Any, ...]) -> StepCounters:
        """Return the counters of parameters whose numbers are all equal to ``values``."""
        columns = {name: [state[s.name] for state in states] for name, s in counted.items()}
        return StepCounters(columns, dict(zip(counted, values, strict=True)))

    def is_current(self, counted: Mapping[str, State], states: list[dict[str, Any]]) -> bool:
        """Return whether the state still holds the same tensors, with one value in all of them."""
        if not self.holds_tensors_of(counted, states):
            return False
        for name, column in self.columns.items():
            self.values[name] = column[0].item()
            if len(column) > 1 and torch.stack(column).tolist() != [self.values[name]] * len(column):
                return False
        return True

    def holds_tensors_of(self, counted: Mapping[str, State], states: list[dict[str, Any]]) -> bool:
        """Return whether the state still holds the same tensors, whatever their values."""
        return all(
            all(map(is_, [state.get(s.name) for state in states], self.columns[name])) for name, s in counted.items()
        )

    def advance(self) -> None:
        """Count one step in the tensors, and read their values."""
        if "t" in self.columns:
            steps = self.columns["t"]
            if steps[0].is_cpu:
                torch._foreach_add_(steps, ONE, alpha=1)
            else:
                torch._foreach_add_(steps, 1)
        self.values = {name: column[0].item() for name, column in self.columns.items()}

    def store(self, new: Mapping[str, Any]) -> None:
        """Store new scalar state, rounded to the dtype of its tensors, so that a reloaded run resumes bit by bit."""
        for name, value in new.items():
            column = self.columns[name]
            rounded = torch.as_tensor(value, dtype=column[0].dtype, device=column[0].device)
            torch._foreach_copy_(column, [rounded] * len(column))


KIND = attrgetter("dtype", "device")
DTYPE, DEVICE = attrgetter("dtype"), attrgetter("device")


@dataclass(eq=False)
class BatchBucket:
    """Parameters that share a program, the values of their counters and the kind of all tensors.

    An executor of batches runs them in one call.
    """

    takes_sparse: ClassVar[bool] = False
    """True for parameters with sparse gradients."""

    run: Callable[..., dict[str, Any]]
    program: Program
    members: list[int]
    params: list[Tensor]
    states: list[dict[str, Any]]
    counters: StepCounters
    streams: list[Any]

    def __post_init__(self) -> None:
        """Remember the tensors' types, dtypes and addresses, since ``p.data = ...`` may change them."""
        written = self._written()
        self._memory = Memory(written)
        self._seen = self._look(written, [p.grad for p in self.params])

    def _written(self) -> list[Any]:
        """Return the parameters and tensor state. Raises `KeyError` if some state has been removed."""
        return [*self.params, *(held[s.name] for held in self.states for s in self.program.stored)]

    def _look(self, written: list[Any], grads: list[Any]) -> tuple[list[Any], ...]:
        """Return all that the bucket was made from: types, dtypes and addresses, which also tell devices apart."""
        places = addresses(written) or list(map(DEVICE, written))
        return list(map(type, self.params)), list(map(DTYPE, written)), list(map(DTYPE, grads)), places

    def ready(self, grads: list[Tensor]) -> bool:
        """Return whether all tensors and counters are as they were, and all state is still there."""
        try:
            seen = self._look(self._written(), grads)
        except KeyError:
            return False
        fits = all(is_sparse == self.takes_sparse for is_sparse in map(IS_SPARSE, grads))
        return fits and seen == self._seen and self.counters.is_current(self.program.counted, self.states)

    def step(self, numbers: Mapping[str, Any]) -> None:
        """Count the step, run the program, and store new scalar state."""
        self.counters.advance()
        self.counters.store(self.run(self._batch({**numbers, **self.counters.values})))

    def _batch(self, numbers: Mapping[str, Any]) -> Batch:
        grads: list[Any] = [p.grad for p in self.params]
        if self._memory.holds_any(grads):  # the rule reads a gradient as it was before the step writes there
            grads = [g.clone() if self._memory.holds(g) else g for g in grads]
        state = {s.name: [held[s.name] for held in self.states] for s in self.program.stored}
        params = self.params
        if params[0].is_complex():
            params, grads = [real_view(p) for p in params], [real_view(g.resolve_conj()) for g in grads]
            state = {name: [real_view(x) for x in column] for name, column in state.items()}
        return Batch(self.program, dict(numbers), params, grads, state, self.streams)


@dataclass(eq=False)
class Buckets:
    """All buckets of a group's parameters that share a rule, with the facts that a single bucket does not check.

    Attributes:
        live: the parameters with gradients.
        spec: the specification of these parameters.
        choice: the executor that runs these parameters.
        buckets: the buckets.
        measurement: the sums that the rule takes before a step; None for a rule without.
    """

    live: list[Tensor]
    spec: Any
    choice: ExecutorChoice
    buckets: list[Bucket]
    measurement: Measurement | None = None

    def ready(self, live: list[Tensor], grads: list[Tensor], mode: Mode | None) -> bool:
        """Return whether the buckets still describe the group, and can run under ``mode``, if there is one."""
        if mode is not None and (mode.hides_values or self.choice.executor.is_opaque):
            return False
        if len(live) != len(self.live) or not all(map(is_, live, self.live)):
            return False
        if self.measurement is not None and not self.measurement.ready(grads):
            return False
        if len(self.buckets) == 1:
            return self.buckets[0].ready(grads)
        return all(bucket.ready([grads[i] for i in bucket.members]) for bucket in self.buckets)


def split(
    live: ActiveParams, *, run: Callable[..., dict[str, Any]], bucket: type[BatchBucket] = BatchBucket
) -> Iterator[BatchBucket]:
    """Put parameters together that share a program (and so their age, if that matters), counts and all dtypes."""
    for program, members in live.grouped_by(_alike):
        params, states, streams = live.at(members)
        counters = StepCounters.of(program.counted, states, _counts(program, states[0]))
        yield bucket(run, program, members, params, states, counters, streams)


def _alike(program: Program, p: Tensor, held: dict[str, Any]) -> tuple[Any, ...]:
    return *kinds(program, p, held), _counts(program, held)


def kinds(program: Program, p: Tensor, held: dict[str, Any]) -> tuple[Any, ...]:
    """Read the device and dtype of a parameter, of its gradient and of its state, counts included."""
    names = [s.name for s in program.stored] + [s.name for s in program.counted.values()]
    return tuple(map(KIND, (p, p.grad, *(held[name] for name in names))))


def _counts(program: Program, held: dict[str, Any]) -> tuple[float, ...]:
    return tuple(held[s.name].item() for s in program.counted.values())


def in_waves(live: ActiveParams, *, make_buckets: MakeBuckets) -> Iterator[Bucket]:
    """Yield the buckets of ``make_buckets``, with parameters that share memory in separate buckets, in their order."""
    for places in waves([[p, *held.values()] for p, held in zip(live.params, live.states, strict=True)]):
        for bucket in make_buckets(live.only(places)):
            bucket.members = [places[i] for i in bucket.members]
            yield bucket


def singles(live: ActiveParams, *, run: Callable[[Batch], dict[str, Any]]) -> Iterator[BatchBucket]:
    """Yield a bucket for each parameter, whose counters stay in its tensors.

    Capturable and differentiable steps need this.
    """
    for index, (p, is_first) in enumerate(zip(live.params, live.first, strict=True)):
        params, states, streams = live.at([index])
        program = live.spec.program(p, first=is_first)
        columns = {name: [states[0][s.name]] for name, s in program.counted.items()}
        counters = DeviceCounters(columns, _doubles(columns))
        yield BatchBucket(run, program, [index], params, states, counters, streams)


def _doubles(columns: Mapping[str, list[Tensor]]) -> dict[str, Any]:
    """Convert counters to double, because 1 - beta2**t of a float32 t has lost five digits.

    With gradients enabled the result is a copy: a backward needs the values that its forward has seen.
    """
    keep = torch.is_grad_enabled()
    return {name: column[0].to(torch.float64, copy=keep) for name, column in columns.items()}


class DeviceCounters(StepCounters):
    """Counters whose values stay 0-dim tensors on their device."""

    def advance(self) -> None:
        """Count one step on the device."""
        if "t" in self.columns:
            torch._foreach_add_(self.columns["t"], 1)
            self.values = _doubles(self.columns)

    def store(self, new: Mapping[str, Any]) -> None:
        """Store new scalar state on the device."""
        for name, value in new.items():
            self.columns[name][0].copy_(value)


def split_as_asked(live: ActiveParams, *, run: Callable[..., dict[str, Any]]) -> Iterator[BatchBucket]:
    """Put parameters together as `split` does, or as `split_on_device` does where the group is ``capturable``."""
    return (split_on_device if live.spec.options.get("capturable") else split)(live, run=run)


def split_on_device(live: ActiveParams, *, run: Callable[..., dict[str, Any]]) -> Iterator[BatchBucket]:
    """Put parameters together that share a program and all dtypes, whatever their counts, which nobody reads."""

    def run_settled(batch: Batch) -> dict[str, Any]:
        return run(replace(batch, numbers=_read_on_host(batch)))

    for program, members in live.grouped_by(kinds):
        params, states, streams = live.at(members)
        columns = {name: [state[s.name] for state in states] for name, s in program.counted.items()}
        yield BatchBucket(run_settled, program, members, params, states, ListCounters(columns, dict(columns)), streams)


def _read_on_host(batch: Batch) -> dict[str, Any]:
    """Return the numbers of a batch. Those in tensors of the host are read, unless all tensors are there."""
    if batch.params[0].is_cpu:
        return batch.numbers
    return {n: x.item() if isinstance(x, Tensor) and x.is_cpu else x for n, x in batch.numbers.items()}


class ListCounters(StepCounters):
    """Counters on the device: the values of a counter are the list of its tensors, which may differ."""

    def is_current(self, counted: Mapping[str, State], states: list[dict[str, Any]]) -> bool:
        """Return whether the state still holds the same tensors."""
        return self.holds_tensors_of(counted, states)

    def advance(self) -> None:
        """Count one step on the device."""
        if "t" in self.columns:
            torch._foreach_add_(self.columns["t"], 1)

    def store(self, new: Mapping[str, Any]) -> None:
        """Store new scalar state: a list with a tensor for each parameter, or a plain number for all."""
        for name, value in new.items():
            column = self.columns[name]
            values = value if isinstance(value, list) else [torch.full_like(column[0], value)] * len(column)
            torch._foreach_copy_(column, values)
