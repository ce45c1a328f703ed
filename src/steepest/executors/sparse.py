"""The sparse executor: the rule itself, run only on the elements that sparse gradients (and sparse state) have.

The gradient of an embedding has rows, and a gradient from ``to_sparse()`` has single elements. Both are run alike. The
cost of a step depends on the number of these elements and not on the parameter's size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import transforms
from ..group import GroupSpec
from ..rule import Program
from ..views import compute_dtype, real_view, widen
from . import reference
from .base import IS_SPARSE, ActiveParams, Batch, Bucket, Executor, MakeBuckets
from .partition import BatchBucket, split

NOT_WITH_SPARSE = ("state_dtype", "parameter_rounding", "capturable", "differentiable")
"""Options that work on whole parameters or gradients, in addition to those of some transforms."""


# -- refusals ----------------------------------------------------------------------------------------------------


def check(spec: GroupSpec, params: list[Tensor]) -> None:
    """Raise `RuntimeError` if a rule or its options cannot take gradients of this layout. Torch's words come first.

    Args:
        spec: the group's specification.
        params: the parameters of the group that have gradients.
    """
    sparse = [p for p in params if p.grad is not None and p.grad.is_sparse]
    if spec.rule.sparse == "lazy" and len(sparse) < len(params):
        raise RuntimeError(f"{spec.name} does not support dense gradients, please consider Adam instead")
    if not sparse:
        return
    if spec.rule.sparse is None:
        raise RuntimeError(
            f"{spec.name} does not support sparse gradients, please consider SparseAdam instead, or make them dense "
            f"(sparse=False)"
        )
    if any(p.is_sparse for p in sparse):
        raise RuntimeError(
            f"{spec.name} does not support sparse gradients of sparse parameters; give it dense parameters"
        )
    if reason := _refusal(spec):
        raise RuntimeError(reason)


def _refusal(spec: GroupSpec) -> str:
    """Return why a sparse gradient cannot be run under a group's options; empty if it can."""
    options = spec.options
    if options.get("weight_decay"):
        return "weight_decay option is not compatible with sparse gradients: it moves all of a parameter; leave it 0"
    if options.get("fused"):
        return f"`_fused_{spec.rule.fn.__name__}` does not support sparse gradients; leave fused=None"
    whole = [transform.options for transform in transforms.order() if not transform.takes_elements]
    usual = {name: declared.default for each in whole for name, declared in each.items()}
    for option in (*usual, *NOT_WITH_SPARSE):
        value = options.get(option)
        if value is not None and value is not False and value != usual.get(option):
            return f"{spec.name} does not support sparse gradients with {option}={value!r}; leave {option} out"
    return ""


def check_lazy(specs: list[GroupSpec]) -> None:
    """Raise `ValueError` for parameters (in torch's words) or options that a lazy rule cannot run."""
    name = specs[0].name
    places = [([i, j], p) for i, spec in enumerate(specs) for j, p in enumerate(spec.options["params"])]
    if found := [place for place, p in places if p.is_sparse]:
        raise ValueError(f"Sparse params at indices {found}: {name} requires dense parameter tensors")
    if found := [place for place, p in places if p.is_complex()]:
        raise ValueError(f"Complex params at indices {found}: {name} does not support complex parameters")
    if reason := next(filter(None, map(_refusal, specs)), ""):
        raise ValueError(reason)


# -- putting parameters together ---------------------------------------------------------------------------------------


@dataclass(eq=False)
class SparseBucket(BatchBucket):
    """Parameters with sparse gradients that share a program, a device, a dtype and the values of their counters."""

    takes_sparse = True

    def step(self, numbers: Mapping[str, Any]) -> None:
        """Count the step, run the program on the elements that the gradients have, and store the results."""
        moving = [s.name for s in self.program.tensors if s.sparse]
        gathered = [_gather(p, held, self.program, moving) for p, held in zip(self.params, self.states, strict=True)]
        self.counters.advance()
        params, grads = [x.p for x in gathered], [x.g for x in gathered]
        state = {s.name: [x.state[s.name] for x in gathered] for s in self.program.tensors}
        self.counters.store(self.run(Batch(self.program, {**numbers, **self.counters.values}, params, grads, state)))
        for elements in gathered:
            elements.scatter()


_of_sparse: MakeBuckets = partial(split, run=reference.run, bucket=SparseBucket)
"""Function that puts parameters with sparse gradients together in buckets."""


def make_buckets(live: ActiveParams, *, dense: MakeBuckets) -> Iterator[Bucket]:
    """Put parameters with sparse gradients together for the sparse executor, and the others as ``dense`` does."""
    for is_sparse, make in ((False, dense), (True, _of_sparse)):
        places = [i for i, p in enumerate(live.params) if IS_SPARSE(p.grad) == is_sparse]
        for held in () if is_sparse else live.at(places)[1]:
            _make_dense(held)
        for bucket in make(live.only(places)) if places else ():
            bucket.members = [places[i] for i in bucket.members]
            yield bucket


SPARSE = Executor("sparse", _of_sparse, lambda spec: spec.rule.sparse == "lazy")


def keeps_sparse(held: Mapping[str, Any]) -> bool:
    """Return whether some of a parameter's state is sparse."""
    return any(isinstance(x, Tensor) and x.is_sparse for x in held.values())


def _make_dense(held: dict[str, Any]) -> None:
    """Make sparse state dense from now on, because a dense gradient moves every element."""
    held.update({name: x.to_dense() for name, x in held.items() if isinstance(x, Tensor) and x.is_sparse})


# -- elements ----------------------------------------------------------------------------------------------------------


@dataclass
class Elements:
    """The elements that one parameter's step runs on, as real tensors.

    Attributes:
        p, g: elements of the parameter and its gradient.
        state: elements of the parameter's tensor state, by name.
        indices: the places of these elements: a row for each sparse dimension.
        copies: each tensor that elements were read from, and the copy that is written back to it. Empty if ``p`` and
            ``state`` are the tensors themselves.
    """

    p: Tensor
    g: Tensor
    state: dict[str, Tensor]
    indices: Tensor
    copies: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def scatter(self) -> None:
        """Write the copies back into the tensors that they were read from."""
        for whole, copy in self.copies:
            if whole.is_sparse:
                whole.copy_(_sparse(self.indices, copy.to(whole.dtype), whole))
            else:
                _opened(whole, self.indices).index_put_(_places(self.indices), copy)


def _gather(p: Tensor, held: dict[str, Any], program: Program, moving: list[str]) -> Elements:
    """Read the elements that a step of ``p`` moves: those of its gradient, and of the state named in ``moving``."""
    g: Any = p.grad
    g = _widened(g)
    if any(not held[name].is_sparse or held[name].sparse_dim() != g.sparse_dim() for name in moving):
        _make_dense(held)
        whole = {s.name: real_view(held[s.name]) for s in program.tensors}
        return Elements(real_view(p), real_view(g.to_dense().resolve_conj()), whole, g._indices())
    indices, (g, *moved) = _aligned([g, *(_widened(held[name]) for name in moving)])
    p_copy = _read(p, indices)
    own = {s.name: _read(held[s.name], indices) for s in program.tensors if s.name not in moving}
    own |= dict(zip(moving, moved, strict=True))
    copies = [(p, p_copy), *((held[name], copy) for name, copy in own.items())]
    state = {name: real_view(copy) for name, copy in own.items()}
    return Elements(real_view(p_copy), real_view(g.resolve_conj()), state, indices, copies)


def _widened(x: Tensor) -> Tensor:
    """Return ``x`` in the dtype to compute in, so that repeated elements are added in that dtype."""
    return widen(x, compute_dtype(x.dtype))


def _aligned(tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the indices that any of the sparse tensors has, and the values of each tensor at these indices.

    A value is 0 where only other tensors have an element.
    """
    tensors = [x.coalesce() for x in tensors]
    if len(tensors) == 1:
        return tensors[0].indices(), [tensors[0].values()]
    indices = torch.cat([x.indices() for x in tensors], 1)
    numbers, places = torch.unique(_numbered(indices, tensors[0].shape), return_inverse=True)
    union = indices.new_empty((len(indices), len(numbers))).index_copy_(1, places, indices)
    own = places.split([x._nnz() for x in tensors])
    return union, [_spread(x.values(), at, len(numbers)) for x, at in zip(tensors, own, strict=True)]


def _numbered(indices: Tensor, shape: torch.Size) -> Tensor:
    """Return one number for each column of ``indices``, in the order of the columns."""
    numbers = indices.new_zeros(indices.shape[1])
    for row, size in zip(indices, shape, strict=False):
        numbers = numbers * size + row
    return numbers


def _spread(values: Tensor, places: Tensor, count: int) -> Tensor:
    """Return ``count`` zeros, with ``values`` at ``places`` among them."""
    return values.new_zeros((count, *values.shape[1:])).index_copy_(0, places, values)


def _sparse(indices: Tensor, values: Tensor, like: Tensor) -> Tensor:
    x: Tensor = torch.sparse_coo_tensor(indices, values, like.shape, check_invariants=False, is_coalesced=True)
    return x


def _read(x: Tensor, indices: Tensor) -> Tensor:
    places = _places(indices)
    # For rows this is three times as fast as indexing.
    return _opened(x, indices).index_select(0, places[0]) if len(places) == 1 else x[places]


def _opened(x: Tensor, indices: Tensor) -> Tensor:
    """Return ``x``, with a first dimension of size 1 if it does not have one to index."""
    return x if len(indices) else x.unsqueeze(0)


def _places(indices: Tensor) -> tuple[Tensor, ...]:
    return tuple(indices) or (indices.new_zeros(indices.shape[1]),)
