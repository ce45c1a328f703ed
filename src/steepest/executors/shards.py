"""Shards: the parts of DTensors on this rank, stepped by the executors of plain tensors.

A pointwise rule makes each element of a new weight from the same elements of weight, gradient and state. So a rank
steps its part as the plain tensor that it is, without communication and to the bits of one process. What needs whole
tensors is stepped by their owners (`steepest.executors.owners`). State stays DTensor, so that checkpoints know its
placement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ..codecs import BLOCK, starting_at
from ..group import GroupSpec
from ..rule import Program
from ..sharding import is_dtensor, is_partial, is_split, local_part, placed_as, run_length, run_start
from ..trace import adds_up, trace, with_count
from . import gathered, owners, summed
from .base import ActiveParams, Bucket, Executor, ExecutorChoice, MakeBuckets, MapMatrices, RunSums
from .choose import choose
from .reference import REFERENCE

State = dict[str, Any]


def in_parts(spec: GroupSpec) -> GroupSpec:
    """Return the specification of the local parts of a group's parameters, which are plain tensors as whole ones are.

    It is the same one where none is a DTensor. A differentiable step uses the operations of DTensors.
    """
    options = spec.options
    if options.get("differentiable") or not any(map(is_dtensor, options["params"])):
        return spec
    with torch.no_grad():
        return replace(spec, options={**options, "params": [local_part(p) for p in options["params"]]})


def check(params: Iterable[Tensor]) -> None:
    """Raise `ValueError` for a parameter, or a gradient, that no rank has a part of by itself."""
    for p in filter(is_dtensor, params):
        if is_partial(p):
            raise ValueError(
                f"the parameter of shape {tuple(p.shape)} is placed {p.placements}: its values are sums over ranks, "
                "not yet taken; redistribute it to Shard or Replicate"
            )
        if p.grad is not None and not is_dtensor(p.grad):
            raise ValueError(
                f"the parameter of shape {tuple(p.shape)} is a DTensor, and its gradient is a plain tensor; give it a "
                "DTensor on the same mesh"
            )


@dataclass(eq=False)
class Shards:
    """A bucket of local parts, which reads gradients and state from the DTensors that they belong to.

    Parts have gradients from the moment when the bucket is made, or found ready, until its step has used them.

    Attributes:
        members: the parameters' places among the group's parameters with gradients.
        inner: the bucket of the parts.
        params, parts: the parameters, and their parts.
        states: the state of each parameter, and the parts that the inner bucket was made of.
    """

    members: list[int]
    inner: Bucket
    params: list[Tensor]
    parts: list[Tensor]
    states: list[tuple[State, State]]

    def ready(self, grads: list[Tensor]) -> bool:
        """Return whether the parts are still those of parameters and state, and the inner bucket describes them."""
        if not all(map(is_, map(local_part, self.params), self.parts)):
            return False
        if not all(_is_part(own, part) for own, part in self.states):
            return False
        lend(self.params, self.parts)
        return self.inner.ready([part.grad for part in self.parts])  # type: ignore[misc]

    def step(self, numbers: Mapping[str, Any]) -> None:
        """Step the parts with the parts of the gradients, which another bucket of theirs may have given back."""
        if any(part.grad is None for part in self.parts):
            lend(self.params, self.parts)
        self.inner.step(numbers)
        give_back(self.params, self.parts)


def _is_part(own: State, part: State) -> bool:
    return own.keys() == part.keys() and all(local_part(x) is part[name] for name, x in own.items())


def lend(params: Iterable[Tensor], parts: Iterable[Tensor]) -> None:
    """Give every part its part of the gradient, placed as the parameter is."""
    for p, part in zip(params, parts, strict=True):
        if part is not p:
            part.grad = local_part(placed_as(p, p.grad))


def give_back(params: Iterable[Tensor], parts: Iterable[Tensor]) -> None:
    """Take the gradients from the parts."""
    for p, part in zip(params, parts, strict=True):
        if part is not p:
            part.grad = None


def choose_for(spec: GroupSpec) -> tuple[GroupSpec, ExecutorChoice]:
    """Return the specification of the parts of a group's parameters, and the executor that runs these.

    Where words of a rule are to be added up over ranks, that is an executor which lets them, unless the group asks for
    one or has only the reference executor.
    """
    parts = in_parts(spec)
    chosen = choose(parts)
    asked = spec.options.get("fused") or spec.options.get("foreach") or chosen.executor is REFERENCE
    if asked or chosen.executor.run_sums or not any(summed.can_run(spec, p, {}) for p in spec.options["params"]):
        return parts, chosen
    other = choose(parts, frozenset({chosen.executor.name}))
    reason = f"{chosen.executor.name}: parameters are split over ranks, over which words of the rule are added up"
    return parts, ExecutorChoice(other.executor, reason) if other.executor.run_sums else chosen


def make_buckets(
    live: ActiveParams, *, make_buckets: MakeBuckets, executor: Executor | None = None, is_additive: bool = False
) -> Iterator[Bucket]:
    """Yield the buckets of parameters; of DTensors under a specification of their parts, those of parts or owners.

    Args:
        live: the parameters.
        make_buckets: puts plain tensors together.
        executor: the executor that does, which may run parts with what ranks exchange; None for parts that exchange
            nothing, and owners.
        is_additive: whether the program's results for a whole tensor are the sums of those for its parts.
    """
    if any(map(is_dtensor, live.spec.options["params"])) or not any(map(is_dtensor, live.params)):
        yield from make_buckets(live)
        return
    left = list(range(len(live.params)))
    for can_run, make in _ways(make_buckets, executor, is_additive):
        places = [i for i in left if can_run(live.spec, live.params[i], live.states[i])]
        left = [i for i in left if i not in places]
        for bucket in make(live.only(places)) if places else ():
            bucket.members = [places[i] for i in bucket.members]
            yield bucket


Way = tuple[Callable[[GroupSpec, Tensor, State], bool], MakeBuckets]
"""A test whether a parameter can be stepped in some way, and a function that makes the buckets of those that can."""


def _ways(make_buckets: MakeBuckets, executor: Executor | None, is_additive: bool) -> Iterator[Way]:
    """Yield the ways of stepping parameters of which ranks have parts, the one with the fewest messages first."""
    yield partial(steps_apart, is_additive=is_additive), partial(_of_parts, make_buckets=make_buckets)
    if executor is not None and executor.run_sums is not None:
        yield summed.can_run, partial(_of_sums, run_sums=executor.run_sums)
    if executor is not None and executor.map_matrices is not None:
        yield gathered.can_run, partial(_of_matrices, map_matrices=executor.map_matrices)
    yield lambda *_: True, partial(owners.make_buckets, make_buckets=make_buckets)


def measured_in_parts(live: ActiveParams, spec: GroupSpec, names: tuple[str, ...]) -> list[Tensor | None]:
    """Return the parameters of which each rank measures its part, since these sums add up; None for every other one."""
    numbers = (*live.numbers, *spec.shared)

    def adds(p: Tensor, held: State) -> bool:
        return _add_up(spec.program(p), numbers, names) and steps_apart(spec, p, held, is_additive=True)

    return [p if is_split(p) and adds(p, held) else None for p, held in zip(live.params, live.states, strict=True)]


@cache
def _add_up(program: Program, numbers: tuple[str, ...], names: tuple[str, ...]) -> bool:
    return adds_up(trace(program, with_count(program, numbers)), names)


def steps_apart(spec: GroupSpec, p: Tensor, held: State, is_additive: bool) -> bool:
    """Return whether the parts of a parameter on different ranks can be stepped without each other.

    Codes and random bits are numbered over whole tensors, by blocks: so each part must start where a block does. State
    that was loaded may be placed in another way than the parameter.
    """
    if not is_dtensor(p):
        return True
    if not all(_is_cut_alike(p, x) for x in held.values() if isinstance(x, Tensor) and x.dim()):
        return False
    if not is_split(p):
        return True
    if spec.kind != "pointwise" and not is_additive:
        return False
    return not spec.codecs(p) or (run_length(p) or 1) % BLOCK == 0


def _is_cut_alike(p: Any, x: Any) -> bool:
    return is_dtensor(x) and (x.shape != p.shape or x.placements == p.placements)


def _of_sums(live: ActiveParams, run_sums: RunSums) -> Iterator[Shards]:
    parts = {id(local_part(p)): summed.Part.of(p) for p in live.params}
    return _of_parts(live, partial(summed.make_buckets, run_sums=run_sums, parts=parts))


def _of_matrices(live: ActiveParams, map_matrices: MapMatrices) -> Iterator[Shards]:
    cuts = {id(local_part(p)): gathered.Cut.of(p, live.spec.rule.view) for p in live.params}
    return _of_parts(live, partial(gathered.make_buckets, map_matrices=map_matrices, cuts=cuts))


def _of_parts(live: ActiveParams, make_buckets: MakeBuckets) -> Iterator[Shards]:
    parts = [local_part(p) for p in live.params]
    states = [{name: local_part(x) for name, x in state.items()} for state in live.states]
    lend(live.params, parts)
    streams = [
        starting_at(stream, run_start(p)) if live.spec.codecs(p) and is_split(p) else stream
        for p, stream in zip(live.params, live.streams, strict=True)
    ]
    for bucket in make_buckets(replace(live, params=parts, states=states, streams=streams)):
        places = bucket.members
        yield Shards(
            places,
            bucket,
            [live.params[i] for i in places],
            [parts[i] for i in places],
            [(live.states[i], states[i]) for i in places],
        )
