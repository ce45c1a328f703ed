"""Shards: the parts of DTensors on this rank, stepped by the executors of plain tensors.

A pointwise rule makes each element of a new weight from the same elements of weight, gradient and state. So a rank
steps its part as the plain tensor that it is, without communication and to the bits of one process. What needs whole
tensors is stepped by their owners (`steepest.executors.owners`). State stays DTensor, so that checkpoints know its
placement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ..codecs import BLOCK, starting_at
from ..group import GroupSpec
from ..views import is_dtensor, is_split, local_part, placed_as, run_length, run_start
from . import owners
from .base import ActiveParams, Bucket, MakeBuckets

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
        if any(placement.is_partial() for placement in p.placements):
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
        """Step the parts with the parts of the gradients."""
        lend(self.params, self.parts)
        self.inner.step(numbers)
        give_back(self.params, self.parts)


def _is_part(own: State, part: State) -> bool:
    return own.keys() == part.keys() and all(local_part(x) is part[name] for name, x in own.items())


def lend(params: Iterable[Tensor], parts: Iterable[Tensor]) -> None:
    """Give every part that has none its part of the gradient, placed as the parameter is."""
    for p, part in zip(params, parts, strict=True):
        if part is not p and part.grad is None:
            part.grad = local_part(placed_as(p, p.grad))


def give_back(params: Iterable[Tensor], parts: Iterable[Tensor]) -> None:
    """Take the gradients from the parts."""
    for p, part in zip(params, parts, strict=True):
        if part is not p:
            part.grad = None


def make_buckets(live: ActiveParams, *, make_buckets: MakeBuckets, is_additive: bool = False) -> Iterator[Bucket]:
    """Yield the buckets of parameters; of DTensors under a specification of their parts, those of parts or owners.

    Args:
        live: the parameters.
        make_buckets: puts plain tensors together.
        is_additive: whether the program's results for a whole tensor are the sums of those for its parts.
    """
    if any(map(is_dtensor, live.spec.options["params"])) or not any(map(is_dtensor, live.params)):
        yield from make_buckets(live)
        return
    apart = [steps_apart(live.spec, p, held, is_additive) for p, held in zip(live.params, live.states, strict=True)]
    for make, wanted in ((_of_parts, True), (owners.make_buckets, False)):
        if places := [i for i, each in enumerate(apart) if each is wanted]:
            for bucket in make(live.only(places), make_buckets):
                bucket.members = [places[i] for i in bucket.members]
                yield bucket


def steps_apart(spec: GroupSpec, p: Tensor, held: State, is_additive: bool) -> bool:
    """Return whether the parts of a parameter on different ranks can be stepped without each other.

    Codes and random bits are numbered over whole tensors, by blocks: so each part must start where a block does.
    """
    if not is_split(p):
        return True
    if spec.kind != "pointwise" and not is_additive:
        return False
    if not spec.codecs(p):
        return True
    length = run_length(p) or 1
    return length % BLOCK == 0 and all(is_dtensor(x) for x in _with_elements(held))


def _with_elements(held: State) -> Iterator[Tensor]:
    """Yield the tensors of a state that are not numbers of the host."""
    return (x for x in held.values() if isinstance(x, Tensor) and x.dim())


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
