"""Words that reduce, for tensors of which every rank has a part: sums of parts, added over the ranks in their order.

All sums that do not need each other are added up in one message, in double.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..group import GroupSpec
from ..kinds import Extent
from ..rule import Program
from ..sharding import all_placed_as, is_split_in_chunks
from ..sums import in_rank_order
from ..trace import reduces, trace, with_count
from ..vocabulary import Word
from .base import ActiveParams, Batch, RunSums
from .partition import BatchBucket, split_as_asked


@dataclass(frozen=True)
class Part:
    """The part of a tensor on this rank.

    Attributes:
        shape: the shape of the whole tensor.
        groups: for each dimension that is cut, the process groups of the ranks that have other parts along it.
    """

    shape: tuple[int, ...]
    groups: Mapping[int, tuple[Any, ...]]

    @staticmethod
    def of(p: Any) -> Part:
        """Return how a parameter is cut."""
        groups: dict[int, tuple[Any, ...]] = {}
        for dim, placement in enumerate(p.placements):
            if placement.is_shard():
                groups[placement.dim] = (*groups.get(placement.dim, ()), p.device_mesh.get_group(dim))
        return Part(tuple(p.shape), groups)


def can_run(spec: GroupSpec, p: Tensor, held: Mapping[str, Any]) -> bool:
    """Return whether the rule's words can be taken over the parts of a parameter, with its state cut as it is."""
    if spec.kind != "per_tensor" or p.is_complex() or not is_split_in_chunks(p) or spec.codecs(p):
        return False
    return _all_add_up(spec.program(p), spec.numbers) and all_placed_as(p, held)


@cache
def _all_add_up(program: Program, numbers: tuple[str, ...]) -> bool:
    words: Iterator[Any] = (n.target for n in trace(program, with_count(program, numbers)).graph.nodes if reduces(n))
    return all(word.made_of is not None for word in words)


@dataclass(frozen=True)
class Reductions:
    """Reductions of lists of parts, one for each of ``parts``, in the place of `plan.reduced`."""

    parts: Sequence[Part]

    def __call__(self, *calls: tuple[Any, ...]) -> list[list[Tensor]]:
        """Apply words to lists of tensors whose values change along the dimensions of an extent."""
        terms = [term for call in calls for term in self._terms(*call)]
        together: dict[tuple[Any, ...], list[_Term]] = {}
        for term in terms:
            together.setdefault(term.groups, []).append(term)
        found: dict[_Term, Tensor] = {}
        for groups, members in together.items():
            found.update(zip(members, _added([term.sum for term in members], groups), strict=True))
        results = [term.result(found[term]) for term in terms]
        count = len(self.parts)
        return [results[place : place + count] for place in range(0, len(results), count)]

    def _terms(self, word: Word, extent: int, tensors: list[Tensor], *numbers: Any) -> list[_Term]:
        of_parts = zip(self.parts, tensors, strict=True)
        return [_Term.of(word, Extent(extent), part, x, numbers) for part, x in of_parts]


@dataclass(frozen=True, eq=False)
class _Term:
    """The sum of one part, in double, the number of terms in the whole sum, and the groups that have other parts."""

    word: Word
    dtype: torch.dtype
    sum: Tensor
    count: int
    groups: tuple[Any, ...]

    @staticmethod
    def of(word: Word, extent: Extent, part: Part, x: Tensor, numbers: tuple[Any, ...]) -> _Term:
        assert word.made_of is not None
        dims, changing = word.reduced(x.dim(), *numbers), extent.dims(len(part.shape))
        summed = _squares(x, dims, word) if word.made_of.of_squares else _sum(x, dims, word)
        cut = [dim for dim in dims if dim in changing]
        groups = tuple(group for dim in cut for group in part.groups.get(dim, ()))
        return _Term(word, x.dtype, summed, math.prod(part.shape[dim] for dim in cut), groups)

    def result(self, total: Tensor) -> Tensor:
        """Return the word's result from the sum over all parts."""
        made_of = self.word.made_of
        assert made_of is not None
        value = total / torch.full_like(total, self.count) if made_of.is_mean else total
        return (value.sqrt() if made_of.of_squares else value).to(self.dtype)


def _sum(x: Tensor, dims: tuple[int, ...], word: Word) -> Tensor:
    if not dims:
        return x.double()
    return torch.sum(x, dims, keepdim=word.reduces != "tensor", dtype=torch.float64)


def _squares(x: Tensor, dims: tuple[int, ...], word: Word) -> Tensor:
    if not dims:
        return x.double() ** 2
    is_kept = word.reduces != "tensor" and x.dim() > 1
    norm: Tensor = torch.linalg.vector_norm(x, dim=dims, keepdim=is_kept, dtype=torch.float64)
    return norm**2


def _added(sums: list[Tensor], groups: tuple[Any, ...]) -> list[Tensor]:
    """Return sums added over the ranks of all groups, in one message for each."""
    if not groups:
        return sums
    total = in_rank_order(torch.cat([x.reshape(-1) for x in sums]), groups)
    parts = torch.split(total, [x.numel() for x in sums])
    return [part.view(x.shape) for part, x in zip(parts, sums, strict=True)]


def make_buckets(live: ActiveParams, run_sums: RunSums, parts: Mapping[int, Part]) -> Iterator[BatchBucket]:
    """Put parts together that an executor runs at once; ``parts`` says how each is cut, by its identity."""

    def run(batch: Batch) -> dict[str, Any]:
        return run_sums(batch, Reductions([parts[id(p)] for p in batch.params]))

    yield from split_as_asked(live, run=run)
