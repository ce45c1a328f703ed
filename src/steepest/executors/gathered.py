"""Matrix rules on parts: what such a rule needs whole matrices for goes to an owner and back, and nothing else does.

A rule that names ``whole`` (see `steepest.matrices.Whole`) does all else by element, so every rank steps its part. It
runs until it asks for a function of whole matrices, and once more from its start when the answer has come: what it does
by element is computed again rather than stored. A matrix travels twice, in the dtype that it is asked for in. The owner
of a whole step (`steepest.executors.owners`) gathers weight, gradient and state, and sends weight and state back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from ..fields import View
from ..group import GroupSpec
from ..matrices import WHOLE, Whole
from ..sharding import all_placed_as, is_split_in_chunks, split_dim
from . import reference
from .base import ActiveParams, Batch, MapMatrices
from .owners import Ranks, Received, chunks, dealt_in_waves, of_ranks
from .partition import BatchBucket, split


@dataclass(frozen=True)
class Cut:
    """The matrices of which a rank has a part.

    Attributes:
        shape: the shape of the whole parameter.
        view: the matrices that the rule sees in it; None for it as it is.
        ranks: the ranks that have parts.
        dim: the dimension that is cut.
    """

    shape: torch.Size
    view: View | None
    ranks: Ranks
    dim: int

    @staticmethod
    def of(p: Any, view: View | None) -> Cut:
        """Return how a parameter is cut. Of a stack that is cut between its matrices the rank's part is whole."""
        over = split_dim(p)
        dim = p.placements[over].dim
        if view is None and dim < p.ndim - 2:
            return Cut(p.to_local().shape, None, Ranks(), dim)
        return Cut(p.shape, view, Ranks(p.device_mesh, over), dim)

    @property
    def cost(self) -> float:
        """The multiplications of a product of matrices with themselves."""
        return self.shape.numel() * min(self.sizes)

    @property
    def sizes(self) -> tuple[int, int]:
        """Rows and columns of the matrices."""
        rows, columns = self.seen(torch.empty(self.shape, device="meta")).shape[-2:]
        return rows, columns

    def seen(self, x: Tensor) -> Tensor:
        """Return the matrices in a whole tensor like the parameter."""
        return x if self.view is None else self.view(x)

    def parts(self, x: Tensor) -> list[Tensor]:
        """Return the part of a whole tensor for each rank."""
        return chunks(x, self.dim, self.ranks.count)

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Return the whole tensor of the ranks' parts."""
        return torch.cat(parts, self.dim) if len(parts) > 1 else parts[0]


class _Asked(Exception):  # noqa: N818 - a question, which is no error
    """Call of ``whole`` that has no answer yet."""

    def __init__(self, function: Callable[..., Tensor], X: Tensor, args: tuple[Any, ...]) -> None:
        super().__init__(function)
        self.function, self.X, self.args = function, X, args


class _Parts(Whole):
    """The object that a rule gets as ``whole`` for a part: it answers the first calls, and then asks."""

    def __init__(self, cut: Cut, answers: list[Tensor]) -> None:
        self._cut, self._answers = cut, iter(answers)

    def __call__(self, function: Callable[..., Tensor], X: Tensor, *args: Any) -> Tensor:
        for answer in self._answers:
            return answer
        raise _Asked(function, X, args)

    def sizes(self, X: Tensor) -> tuple[int, int]:
        return self._cut.sizes


@dataclass(eq=False)
class Asking:
    """A parameter in its step, up to a question that is open, if it is not at its end."""

    batch: Batch
    place: int
    cut: Cut
    answers: list[Tensor] = field(default_factory=list)
    question: _Asked | None = None
    scalars: dict[str, Any] = field(default_factory=dict)

    def proceed(self) -> None:
        """Run the rule on the part: until it asks, or to its end, where parameter and state are written."""
        batch, i = self.batch, self.place
        held = {name: tensors[i] for name, tensors in batch.state.items()}
        numbers = {**batch.numbers, "whole": _Parts(self.cut, self.answers)}
        self.question = None
        try:
            self.scalars = reference.run_one(batch.program.on_matrices, numbers, batch.params[i], batch.grads[i], held)
        except _Asked as question:
            self.question = question.with_traceback(None)  # which would keep all values of the rule

    @property
    def asked(self) -> _Asked:
        """The open question."""
        assert self.question is not None
        return self.question


@dataclass(eq=False)
class Wave:
    """Parameters whose questions are answered together, for every rank those of which it owns the matrices."""

    ranks: Ranks
    owned: list[list[Asking]]
    map_matrices: MapMatrices

    @property
    def scalars(self) -> dict[str, Any]:
        """The new scalar state, which all parameters share."""
        return self.steps[0].scalars

    @property
    def steps(self) -> list[Asking]:
        """All parameters of the wave."""
        return [step for owned in self.owned for step in owned]

    @property
    def own(self) -> list[Asking]:
        """The parameters of which this rank owns the matrices."""
        return self.owned[self.ranks.own]

    def start(self) -> Received | None:
        """Step all parts up to their questions, and send what is asked; None if nothing is."""
        for step in self.steps:
            step.proceed()
        if self.steps[0].question is None:
            return None
        outgoing = [[step.asked.X for step in owned] for owned in self.owned]
        expected = of_ranks(list(map(self._likes, self.own)), self.ranks)
        return self.ranks.exchange(outgoing, expected, self._device)

    @property
    def _device(self) -> torch.device:
        return self.steps[0].asked.X.device

    def _likes(self, step: Asking) -> list[Tensor]:
        return step.cut.parts(torch.empty(step.cut.shape, dtype=step.asked.X.dtype, device="meta"))

    def finish(self, arriving: Received | None) -> None:
        """Answer what was asked, and continue, until nothing is."""
        while arriving is not None:
            self._send_back(self._answers(arriving()))
            arriving = self.start()

    def _answers(self, arrived: list[list[Tensor]]) -> list[Tensor]:
        """Return the results for the whole matrices that this rank owns."""
        if not self.own:
            return []
        wholes = [
            step.cut.joined(list(parts)) for step, parts in zip(self.own, zip(*arrived, strict=True), strict=True)
        ]
        asked = self.own[0].asked
        matrices = [step.cut.seen(x) for step, x in zip(self.own, wholes, strict=True)]
        results = self.map_matrices(lambda X: WHOLE(asked.function, X, *asked.args), matrices)
        return [new.reshape(x.shape) for new, x in zip(results, wholes, strict=True)]

    def _send_back(self, results: list[Tensor]) -> None:
        parts = [step.cut.parts(x) for step, x in zip(self.own, results, strict=True)]
        expected = [[step.asked.X for step in owned] for owned in self.owned]
        arrived = self.ranks.exchange(of_ranks(parts, self.ranks), expected, self._device)()
        for owned, of_owner in zip(self.owned, arrived, strict=True):
            for step, answer in zip(owned, of_owner, strict=True):
                step.answers.append(answer)


@dataclass(frozen=True)
class Gathered:
    """The run of a bucket of parts.

    Attributes:
        cuts: how each parameter is cut.
        waves: for the ranks of some parameters and each of their waves, the places of those that each rank owns.
        map_matrices: applies a function to matrices, as the executor does.
    """

    cuts: list[Cut]
    waves: list[tuple[Ranks, list[list[int]]]]
    map_matrices: MapMatrices

    @staticmethod
    def of(cuts: list[Cut], map_matrices: MapMatrices) -> Gathered:
        """Deal the parameters to owners."""
        together: dict[Ranks, list[int]] = {}
        for place, cut in enumerate(cuts):
            together.setdefault(cut.ranks, []).append(place)
        waves = [wave for ranks, places in together.items() for wave in _waves(ranks, places, cuts)]
        return Gathered(cuts, waves, map_matrices)

    def run(self, batch: Batch) -> dict[str, Any]:
        """Step the parts of a batch; the next wave is on its way while one is answered."""
        waves = [
            Wave(ranks, [[Asking(batch, i, self.cuts[i]) for i in of_rank] for of_rank in places], self.map_matrices)
            for ranks, places in self.waves
        ]
        arriving = waves[0].start()
        for wave, following in zip_longest(waves, waves[1:]):
            arrived, arriving = arriving, following.start() if following is not None else None
            wave.finish(arrived)
        return waves[0].scalars


def _waves(ranks: Ranks, places: list[int], cuts: list[Cut]) -> Iterator[tuple[Ranks, list[list[int]]]]:
    costs, sizes = [cuts[i].cost for i in places], [cuts[i].shape.numel() for i in places]
    for wave in dealt_in_waves(costs, sizes, ranks.count):
        yield ranks, [[places[i] for i in of_rank] for of_rank in wave]


def can_run(spec: GroupSpec, p: Any, held: Mapping[str, Any]) -> bool:
    """Return whether the parts of a parameter can be stepped, with its state cut as it is.

    Over two dimensions of a mesh a matrix is gathered by the owner of its whole step.
    """
    if not spec.rule.takes_whole or not spec.is_by_element or spec.options.get("capturable"):
        return False
    if not is_split_in_chunks(p) or sum(placement.is_shard() for placement in p.placements) > 1:
        return False
    return all_placed_as(p, held)


def make_buckets(live: ActiveParams, map_matrices: MapMatrices, cuts: Mapping[int, Cut]) -> Iterator[BatchBucket]:
    """Put parts together; ``cuts`` says how each is cut, by its identity."""
    for bucket in split(live, run=reference.run):
        bucket.run = Gathered.of([cuts[id(p)] for p in bucket.params], map_matrices).run
        yield bucket
