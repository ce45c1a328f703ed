"""Owners: a parameter that is split over ranks is gathered by one of them, stepped there whole, and scattered again.

Rules that look at whole tensors, and storage that counts the elements of whole tensors, then have the numbers of one
process. Each rank owns some parameters, about as much work as the others. They are gathered in waves, and the next wave
is on its way while one is stepped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise, zip_longest
from operator import is_
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..sharding import is_dtensor, is_split_in_chunks, local_part, placed_as, placements_of, split_dim
from .base import ActiveParams, Bucket, MakeBuckets, runs

MOST = 2**24
"""Elements of the parameters that a rank gathers in one wave."""

ALIGNMENT = 16
"""Bytes at whose multiples tensors lie in a message: the size of the largest dtype."""

Received = Callable[[], list[list[Tensor]]]
"""A message that is on its way: waits, and returns the tensors from each rank."""


@dataclass(frozen=True)
class Ranks:
    """The ranks that have the parts of a parameter: those along one dimension of its mesh.

    Attributes:
        mesh: the mesh; None for a rank that gathers everything by itself.
        dim: the dimension of the mesh.
    """

    mesh: Any = None
    dim: int = 0

    @staticmethod
    def of(p: Any) -> Ranks:
        """Return the ranks among which a parameter's owner is chosen.

        Those are along the first dimension of the mesh that it is split over. In chunks that are dealt out in another
        order, as of some parameters that are split over two dimensions of a mesh, every rank steps all of it.
        """
        if not is_split_in_chunks(p):
            return Ranks()
        return Ranks(p.device_mesh, split_dim(p))

    @property
    def count(self) -> int:
        """The number of ranks."""
        return 1 if self.mesh is None else int(self.mesh.size(self.dim))

    @property
    def own(self) -> int:
        """The place of this rank among them."""
        return 0 if self.mesh is None else int(self.mesh.get_local_rank(self.dim))

    def exchange(self, outgoing: list[list[Tensor]], expected: list[list[Tensor]], device: torch.device) -> Received:
        """Send tensors to every rank, and start to receive tensors like ``expected`` from every rank."""
        if self.mesh is None:
            return lambda: outgoing
        sent = [_packed(tensors, device) for tensors in outgoing]
        lengths = [sum(map(_length, tensors)) for tensors in expected]
        received = torch.empty(sum(lengths), dtype=torch.uint8, device=device)
        group = self.mesh.get_group(self.dim)
        work: Any = dist.all_to_all_single(
            received, torch.cat(sent), lengths, list(map(len, sent)), group, async_op=True
        )

        def arrived() -> list[list[Tensor]]:
            work.wait()
            parts = torch.split(received, lengths)
            return [_unpacked(part, like) for part, like in zip(parts, expected, strict=True)]

        return arrived


def _length(x: Tensor) -> int:
    """Return the bytes that a tensor takes in a message."""
    return -(-x.numel() * x.element_size() // ALIGNMENT) * ALIGNMENT


def _packed(tensors: list[Tensor], device: torch.device) -> Tensor:
    lengths = list(map(_length, tensors))
    message = torch.zeros(sum(lengths), dtype=torch.uint8, device=device)
    for place, x in zip(torch.split(message, lengths), tensors, strict=True):
        values = x.detach().contiguous().view(-1).view(torch.uint8)
        place[: len(values)].copy_(values)
    return message


def _unpacked(message: Tensor, like: list[Tensor]) -> list[Tensor]:
    places = torch.split(message, list(map(_length, like)))
    return [
        place[: x.numel() * x.element_size()].view(x.dtype).view(x.shape) for place, x in zip(places, like, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Piece:
    """A tensor that is exchanged. Each rank has a part of it, or all of it.

    Attributes:
        held: the tensor, as the optimizer holds it.
        ranks: the ranks that it is exchanged among.
    """

    held: Any
    ranks: Ranks

    @cached_property
    def placements(self) -> list[Any]:
        """The placements of a DTensor once it is gathered over all dimensions of its mesh but that of the ranks."""
        kept = self.ranks.dim if self.ranks.mesh is not None and is_split_in_chunks(self.held) else None
        return placements_of(self.held, kept)

    @cached_property
    def dim(self) -> int | None:
        """The dimension that is cut into a part for every rank; None for a tensor that all ranks have."""
        placement = self.placements[self.ranks.dim] if is_dtensor(self.held) else None
        return placement.dim if placement is not None and placement.is_shard() else None

    @cached_property
    def _is_gathered_first(self) -> bool:
        return list(self.held.placements) != self.placements

    def part(self) -> Tensor:
        """Return this rank's part, or all of it."""
        if not is_dtensor(self.held):
            return self.held  # type: ignore[no-any-return]
        x = self.held.redistribute(placements=self.placements) if self._is_gathered_first else self.held
        part: Tensor = local_part(x)
        return part

    def likes(self) -> list[Tensor]:
        """Return what each rank has of the tensor, without values."""
        return self.for_each(torch.empty(self.held.shape, dtype=self.held.dtype, device="meta"))

    def for_each(self, whole: Tensor) -> list[Tensor]:
        """Return what each rank has of the whole tensor: its part, which may be empty, or all of it."""
        return [whole] * self.ranks.count if self.dim is None else chunks(whole, self.dim, self.ranks.count)

    def write(self, part: Tensor) -> None:
        """Write a new part, or all of it, into the tensor."""
        target = self.held
        if is_dtensor(target):
            if self._is_gathered_first:
                part = _placed(part, target, self.placements)
            target = local_part(target)
        target.copy_(part)


def chunks(whole: Tensor, dim: int, count: int) -> list[Tensor]:
    """Return the part of a tensor for each of ``count`` ranks, as `torch.chunk` cuts it; the last may be empty."""
    size = whole.shape[dim]
    chunk = -(-size // count)
    ends = [min(size, chunk * rank) for rank in range(count + 1)]
    return [whole.narrow(dim, low, high - low) for low, high in pairwise(ends)]


def _placed(part: Tensor, like: Any, placements: Sequence[Any]) -> Tensor:
    """Return this rank's part of a tensor that is placed as ``like``, from its part under other placements."""
    whole = type(like).from_local(part, like.device_mesh, placements, shape=like.shape, stride=like.stride())
    own: Tensor = whole.redistribute(placements=like.placements).to_local()
    return own


Pieces = dict[str, Piece]
"""The pieces of a parameter: itself, its gradient, and its state, by the names below."""

PARAMETER, GRADIENT, STATE = "p", "g", "state:"
"""Names of a parameter and of its gradient, and what the names of its state start with."""


@dataclass(frozen=True)
class Wave:
    """Parameters that are gathered together, in one step.

    Attributes:
        ranks: the ranks that have parts of them.
        owned: for every rank, the parameters that it owns, in the same order on all ranks.
    """

    ranks: Ranks
    owned: list[list[Pieces]]

    @property
    def own(self) -> list[Pieces]:
        """The parameters that this rank owns."""
        return self.owned[self.ranks.own]

    def gather(self, device: torch.device) -> Received:
        """Send this rank's parts to their owners, and start to receive the parts of those that it owns."""
        outgoing = [[piece.part() for piece in _cut(owned)] for owned in self.owned]
        likes = [piece.likes() for piece in _cut(self.own)]
        return self.ranks.exchange(outgoing, of_ranks(likes, self.ranks), device)

    def whole(self, arrived: list[list[Tensor]]) -> list[dict[str, Tensor]]:
        """Return the whole tensors of each parameter that this rank owns, from the parts of all ranks."""
        parts = zip(*arrived, strict=True)
        return [
            {
                name: piece.part() if piece.dim is None else torch.cat(next(parts), piece.dim)
                for name, piece in own.items()
            }
            for own in self.own
        ]

    def scatter(self, whole: list[dict[str, Tensor]], device: torch.device) -> None:
        """Send what has become of this rank's parameters and state to all ranks, and write what arrives."""
        new = [piece.for_each(x[name]) for own, x in zip(self.own, whole, strict=True) for name, piece in _written(own)]
        written = [[piece for pieces in owned for _, piece in _written(pieces)] for owned in self.owned]
        expected = [[piece.likes()[self.ranks.own] for piece in pieces] for pieces in written]
        arrived = self.ranks.exchange(of_ranks(new, self.ranks), expected, device)()
        for pieces, parts in zip(written, arrived, strict=True):
            for piece, part in zip(pieces, parts, strict=True):
                piece.write(part)


def _cut(owned: list[Pieces]) -> list[Piece]:
    return [piece for pieces in owned for piece in pieces.values() if piece.dim is not None]


def _written(pieces: Pieces) -> list[tuple[str, Piece]]:
    return [(name, piece) for name, piece in pieces.items() if name != GRADIENT]


def of_ranks(tensors: list[list[Tensor]], ranks: Ranks) -> list[list[Tensor]]:
    """Return for each rank its tensors, from each tensor for all ranks."""
    return [[of_all[rank] for of_all in tensors] for rank in range(ranks.count)]


def dealt_in_waves(costs: Sequence[float], sizes: Sequence[int], count: int) -> list[list[list[int]]]:
    """Return for each wave and each of ``count`` ranks the places of the parameters that the rank owns.

    A rank gathers at most `MOST` elements in a wave, or one parameter.
    """
    cut = [runs(places, sizes.__getitem__, MOST) for places in dealt(costs, count)]
    return [list(wave) for wave in zip_longest(*cut, fillvalue=[])]


def dealt(costs: Sequence[float], count: int) -> list[list[int]]:
    """Return the places of the parameters that each of ``count`` ranks owns, with about equal sums of costs."""
    owned: list[list[int]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for place in sorted(range(len(costs)), key=lambda place: -costs[place]):
        rank = loads.index(min(loads))
        owned[rank].append(place)
        loads[rank] += costs[place]
    return list(map(sorted, owned))


@dataclass(eq=False)
class Owned:
    """A bucket of parameters that are stepped by their owners.

    Attributes:
        members: the parameters' places among the group's parameters with gradients.
        live: the parameters, as the optimizer holds them.
        make_buckets: puts whole parameters together.
        ranks: the ranks that have parts of them.
        waves: for each wave and rank, the places of the parameters that the rank owns.
    """

    members: list[int]
    live: ActiveParams
    make_buckets: MakeBuckets
    ranks: Ranks
    waves: list[list[list[int]]] = field(init=False)

    def __post_init__(self) -> None:
        """Deal the parameters to owners, and let what cannot run be refused before anything has moved."""
        params = self.live.params
        costs, sizes = [_cost(self.live, p) for p in params], [p.numel() for p in params]
        self.waves = dealt_in_waves(costs, sizes, self.ranks.count)
        self._seen, self._held = self._look(), self._state()
        for places in self.waves:
            empty = [{name: _zeros(piece.held) for name, piece in own.items()} for own in self._wave(places).own]
            self._buckets(places, empty)

    def _state(self) -> list[Any]:
        return [x for state in self.live.states for x in state.values()]

    def _look(self) -> list[Any]:
        places = [(p.shape, p.dtype, getattr(p, "placements", None)) for p in self.live.params]
        return [*places, *(tuple(state) for state in self.live.states)]

    def ready(self, grads: list[Tensor]) -> bool:
        """Return whether parameters and state are as they were."""
        return self._seen == self._look() and all(map(is_, self._state(), self._held))

    def step(self, numbers: Mapping[str, Any]) -> None:
        """Gather, step and scatter each wave."""
        device = self.live.params[0].device
        waves = list(map(self._wave, self.waves))
        arriving = waves[0].gather(device)
        for places, wave, following in zip_longest(self.waves, waves, waves[1:]):
            whole = wave.whole(arriving())
            arriving = following.gather(device) if following is not None else list
            for bucket in self._buckets(places, whole):
                bucket.step(numbers)
            for tensors in whole:
                tensors[PARAMETER].grad = None
            wave.scatter(whole, device)

    def _wave(self, places: list[list[int]]) -> Wave:
        return Wave(self.ranks, [list(map(self._pieces, of_rank)) for of_rank in places])

    def _pieces(self, place: int) -> Pieces:
        p, state = self.live.params[place], self.live.states[place]
        tensors = {PARAMETER: p, GRADIENT: placed_as(p, p.grad)}
        tensors |= {STATE + name: x for name, x in state.items() if isinstance(x, Tensor)}
        return {name: Piece(x, self.ranks) for name, x in tensors.items()}

    def _buckets(self, places: list[list[int]], whole: list[dict[str, Tensor]]) -> list[Bucket]:
        """Return the buckets of the parameters that this rank owns."""
        own = self.live.only(places[self.ranks.own])
        for tensors in whole:
            tensors[PARAMETER].grad = tensors[GRADIENT]
        states = [
            {name: tensors.get(STATE + name, x) for name, x in state.items()}
            for state, tensors in zip(own.states, whole, strict=True)
        ]
        params = [tensors[PARAMETER] for tensors in whole]
        return list(self.make_buckets(replace(own, params=params, states=states))) if params else []


def _cost(live: ActiveParams, p: Tensor) -> float:
    """Return the work of a step in elements, and for products of matrices in multiplications."""
    return p.numel() * (min(p.shape) if live.spec.kind == "matrix" and p.dim() > 1 else 1)


def _zeros(x: Tensor) -> Tensor:
    return torch.zeros(x.shape, dtype=x.dtype, device=x.device)


def make_buckets(live: ActiveParams, make_buckets: MakeBuckets) -> Iterator[Owned]:
    """Yield a bucket for the parameters that share ranks."""
    places: dict[Ranks, list[int]] = {}
    for place, p in enumerate(live.params):
        places.setdefault(Ranks.of(p), []).append(place)
    for ranks, members in places.items():
        yield Owned(members, live.only(members), make_buckets, ranks)
