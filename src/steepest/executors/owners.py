"""Owners: a parameter that is split over ranks is gathered by one of them, stepped there whole, and scattered again.

Rules that look at whole tensors, and storage that counts the elements of whole tensors, then have the numbers of one
process. Each rank owns some parameters, about as much work as the others. They are gathered in waves, and the next wave
is on its way while one is stepped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, zip_longest
from operator import is_
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..views import is_dtensor, is_split_in_chunks, placed_as, placements_of
from .base import ActiveParams, Bucket, MakeBuckets, runs

MOST = 2**24
"""Elements of the parameters that a rank gathers in one wave."""

ALIGNMENT = 8
"""Bytes at whose multiples tensors lie in a message: the size of the largest real dtype."""

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
        return Ranks(p.device_mesh, next(dim for dim, each in enumerate(p.placements) if each.is_shard()))

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
        sent = list(map(_packed, outgoing))
        lengths = [sum(map(_length, tensors)) for tensors in expected]
        received = torch.empty(sum(lengths), dtype=torch.uint8, device=device)
        message = torch.cat(sent).to(device)
        group = self.mesh.get_group(self.dim)
        work: Any = dist.all_to_all_single(received, message, lengths, list(map(len, sent)), group, async_op=True)

        def arrived() -> list[list[Tensor]]:
            work.wait()
            parts = torch.split(received, lengths)
            return [_unpacked(part, like) for part, like in zip(parts, expected, strict=True)]

        return arrived


def _length(x: Tensor) -> int:
    """Return the bytes that a tensor takes in a message."""
    return -(-x.numel() * x.element_size() // ALIGNMENT) * ALIGNMENT


def _packed(tensors: list[Tensor]) -> Tensor:
    lengths = list(map(_length, tensors))
    device = tensors[0].device if tensors else "cpu"
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

    @property
    def dim(self) -> int | None:
        """The dimension that is cut into a part for every rank; None for a tensor that all ranks have."""
        placement = self._gathered[self.ranks.dim] if is_dtensor(self.held) else None
        return placement.dim if placement is not None and placement.is_shard() else None

    @property
    def _gathered(self) -> list[Any]:
        """The placements after the tensor is gathered over all other dimensions of the mesh."""
        own = self.ranks.dim if self.ranks.mesh is not None and is_split_in_chunks(self.held) else None
        return placements_of(self.held, own)

    def part(self) -> Tensor:
        """Return this rank's part, or all of it."""
        if not is_dtensor(self.held):
            return self.held  # type: ignore[no-any-return]
        x = self.held.redistribute(placements=self._gathered) if self._is_gathered_first else self.held
        part: Tensor = x.to_local()
        return part

    @property
    def _is_gathered_first(self) -> bool:
        return list(self.held.placements) != self._gathered

    def likes(self) -> list[Tensor]:
        """Return tensors without values in the shapes of all ranks' parts."""
        whole = torch.empty(self.held.shape, dtype=self.held.dtype, device="meta")
        if self.dim is None:
            return [whole] * self.ranks.count
        return self.cut(whole)

    def cut(self, whole: Tensor) -> list[Tensor]:
        """Return the parts of all ranks, some of which may be empty."""
        assert self.dim is not None
        count, size = self.ranks.count, whole.shape[self.dim]
        chunk = -(-size // count)
        ends = [min(size, chunk * rank) for rank in range(count + 1)]
        return [whole.narrow(self.dim, low, high - low) for low, high in pairwise(ends)]

    def write(self, part: Tensor) -> None:
        """Write a new part, or all of it, into the tensor."""
        target = self.held
        if is_dtensor(target):
            if self._is_gathered_first:
                part = _placed(part, target, self._gathered)
            target = target.to_local()
        target.copy_(part)


def _placed(part: Tensor, like: Any, placements: Sequence[Any]) -> Tensor:
    """Return this rank's part of a tensor that is placed as ``like``, from its part under other placements."""
    whole = type(like).from_local(part, like.device_mesh, placements, shape=like.shape, stride=like.stride())
    own: Tensor = whole.redistribute(placements=like.placements).to_local()
    return own


Pieces = dict[str, Piece]
"""The pieces of a parameter: ``"p"``, ``"g"``, and each state's after its name."""

PARAMETER, GRADIENT, HELD = "p", "g", "state:"
"""Names of pieces: the parameter, its gradient, and what state names start with."""


@dataclass(frozen=True)
class Wave:
    """Parameters that are gathered together.

    Attributes:
        owned: for every rank, the places of the parameters that it owns.
    """

    owned: list[list[int]]

    def all(self) -> Iterator[tuple[int, int]]:
        """Yield each owner with each of its parameters, in the same order on all ranks."""
        return ((owner, place) for owner, places in enumerate(self.owned) for place in places)


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
    """

    members: list[int]
    live: ActiveParams
    make_buckets: MakeBuckets
    ranks: Ranks
    waves: list[Wave] = field(init=False)
    _seen: list[Any] = field(init=False)
    _held: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        """Deal the parameters to owners, and let what cannot run be refused before anything has moved."""
        owned = dealt([_cost(self.live, p) for p in self.live.params], self.ranks.count)
        sizes = [p.numel() for p in self.live.params]
        cut = [runs(places, sizes.__getitem__, MOST) for places in owned]
        self.waves = [Wave(list(places)) for places in zip_longest(*cut, fillvalue=[])]
        self._seen, self._held = self._look(), self._state()
        for wave in self.waves:
            pieces = [self._pieces(place) for place in wave.owned[self.ranks.own]]
            self._buckets(wave, [{name: _zeros(piece) for name, piece in each.items()} for each in pieces])

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
        arriving = self._gathered(self.waves[0])
        for wave, following in zip_longest(self.waves, self.waves[1:]):
            whole = self._whole(wave, arriving())
            arriving = self._gathered(following) if following is not None else list
            for bucket in self._buckets(wave, whole):
                bucket.step(numbers)
            self._scatter(wave, whole)

    def _pieces(self, place: int) -> Pieces:
        p, state = self.live.params[place], self.live.states[place]
        tensors = {PARAMETER: p, GRADIENT: _gradient(p)}
        tensors |= {HELD + name: x for name, x in state.items() if isinstance(x, Tensor)}
        return {name: Piece(x, self.ranks) for name, x in tensors.items()}

    def _gathered(self, wave: Wave) -> Received:
        """Send this rank's parts to their owners, and start to receive those that it owns."""
        outgoing: list[list[Tensor]] = [[] for _ in wave.owned]
        expected: list[list[Tensor]] = [[] for _ in wave.owned]
        for owner, place in wave.all():
            for piece in self._pieces(place).values():
                if piece.dim is None:
                    continue
                outgoing[owner].append(piece.part())
                if owner == self.ranks.own:
                    for parts, like in zip(expected, piece.likes(), strict=True):
                        parts.append(like)
        return self.ranks.exchange(outgoing, expected, self._device)

    @property
    def _device(self) -> torch.device:
        return self.live.params[0].device

    def _whole(self, wave: Wave, arrived: list[list[Tensor]]) -> list[dict[str, Tensor]]:
        """Return the whole tensors of each parameter that this rank owns."""
        parts = zip(*arrived, strict=True)
        return [
            {
                name: piece.part() if piece.dim is None else torch.cat(next(parts), piece.dim)
                for name, piece in self._pieces(place).items()
            }
            for place in wave.owned[self.ranks.own]
        ]

    def _buckets(self, wave: Wave, whole: list[dict[str, Tensor]]) -> list[Bucket]:
        """Return the buckets of the parameters that this rank owns."""
        own = self.live.only(wave.owned[self.ranks.own])
        for tensors in whole:
            tensors[PARAMETER].grad = tensors[GRADIENT]
        states = [
            {name: tensors.get(HELD + name, x) for name, x in state.items()}
            for state, tensors in zip(own.states, whole, strict=True)
        ]
        params = [tensors[PARAMETER] for tensors in whole]
        return list(self.make_buckets(replace(own, params=params, states=states))) if params else []

    def _scatter(self, wave: Wave, whole: list[dict[str, Tensor]]) -> None:
        """Send the new parameters and state of this rank's own to the ranks that hold them, and write what arrives."""
        outgoing: list[list[Tensor]] = [[] for _ in wave.owned]
        expected: list[list[Tensor]] = [[] for _ in wave.owned]
        written: list[list[Piece]] = [[] for _ in wave.owned]
        own = iter(whole)
        for owner, place in wave.all():
            tensors = next(own) if owner == self.ranks.own else {}
            for name, piece in self._pieces(place).items():
                if name == GRADIENT:
                    continue
                expected[owner].append(piece.likes()[self.ranks.own])
                written[owner].append(piece)
                if owner == self.ranks.own:
                    new = tensors[name]
                    for parts, part in zip(outgoing, self._for_each(piece, new), strict=True):
                        parts.append(part)
        arrived = self.ranks.exchange(outgoing, expected, self._device)()
        for pieces, parts in zip(written, arrived, strict=True):
            for piece, part in zip(pieces, parts, strict=True):
                piece.write(part)

    def _for_each(self, piece: Piece, whole: Tensor) -> list[Tensor]:
        return [whole] * self.ranks.count if piece.dim is None else piece.cut(whole)


def _gradient(p: Any) -> Tensor:
    """Return a parameter's gradient, placed as the parameter is."""
    placed: Tensor = placed_as(p, p.grad)
    return placed


def _cost(live: ActiveParams, p: Tensor) -> float:
    """Return the work of a step in elements, and for products of matrices in multiplications."""
    return p.numel() * (min(p.shape) if live.spec.kind == "matrix" and p.dim() > 1 else 1)


def _zeros(piece: Piece) -> Tensor:
    return torch.zeros(piece.held.shape, dtype=piece.held.dtype, device=piece.held.device)


def make_buckets(live: ActiveParams, make_buckets: MakeBuckets) -> Iterator[Owned]:
    """Yield a bucket for the parameters that share ranks."""
    places: dict[Ranks, list[int]] = {}
    for place, p in enumerate(live.params):
        places.setdefault(Ranks.of(p), []).append(place)
    for ranks, members in places.items():
        yield Owned(members, live.only(members), make_buckets, ranks)
