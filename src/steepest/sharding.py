"""DTensors: what a rank has of a tensor that is spread over ranks, and where its parts lie in the whole."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor


def is_dtensor(x: Any) -> TypeGuard[Any]:
    """Return whether a tensor is a DTensor. Where nothing has imported the module that makes them, none is."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def is_split(x: Any) -> bool:
    """Return whether ranks have different parts of a tensor."""
    return is_dtensor(x) and not all(placement.is_replicate() for placement in x.placements)


def is_split_in_chunks(x: Any) -> bool:
    """Return whether ranks have different parts of a tensor, each as `torch.chunk` cuts it."""
    module = sys.modules.get("torch.distributed.tensor")
    return is_split(x) and module is not None and {*map(type, x.placements)} <= {module.Shard, module.Replicate}


def is_partial(x: Any) -> bool:
    """Return whether a tensor is a sum over ranks that has not been taken."""
    return is_dtensor(x) and any(placement.is_partial() for placement in x.placements)


def split_dim(p: Any) -> int:
    """Return the first dimension of the mesh that a tensor is split over, of one that is split in chunks."""
    return next(dim for dim, placement in enumerate(p.placements) if placement.is_shard())


def run_length(p: Any) -> int | None:
    """Return the elements of a rank's part, where the parts of all ranks in their order make the tensor in its order.

    So it is for a DTensor that is split along its first dimension, over one dimension of a mesh; None for any other.
    The last parts that are not empty may be shorter.
    """
    if not is_split_in_chunks(p):
        return None
    if [placement.dim for placement in p.placements if placement.is_shard()] != [0]:
        return None
    rows: int = -(-p.shape[0] // p.device_mesh.size(split_dim(p)))
    return rows * int(p.shape[1:].numel())


def run_start(p: Any) -> int:
    """Return the place in a tensor with a `run_length` at which this rank's part starts, though it may be empty."""
    return int(run_length(p) or 0) * int(p.device_mesh.get_local_rank(split_dim(p)))


def split_in_runs(p: Any, x: Tensor, size: int) -> Tensor:
    """Return a plain vector with a number for every ``size`` elements of a parameter, as the runs of that are split.

    A vector that does not divide as the runs do is returned as it is.
    """
    length = run_length(p)
    if not length or length % size or -(-len(x) // p.device_mesh.size(split_dim(p))) != length // size:
        return x
    return _placed(x, p, list(p.placements))


def placements_of(x: Any, kept: int | None) -> list[Any]:
    """Return the placements of a DTensor gathered over all dimensions of its mesh but ``kept``."""
    replicated = sys.modules["torch.distributed.tensor"].Replicate()
    return [each if dim == kept else replicated for dim, each in enumerate(x.placements)]


def outline(p: Tensor) -> Tensor:
    """Return a tensor of a parameter's shape, for what asks about shapes; a DTensor's has no values."""
    return torch.empty(p.shape, dtype=p.dtype, device="meta") if is_dtensor(p) else p.detach()


def whole(x: Any) -> Any:
    """Return a DTensor as a plain tensor, from the parts of all ranks, which must take part; anything else as it is."""
    return x.full_tensor() if is_dtensor(x) else x


def local_part(x: Any) -> Any:
    """Return the part of a DTensor on this rank, the same object each time, and anything else as it is.

    `DTensor.to_local` makes a new view of a parameter at each call, and asks autograd.
    """
    return x._local_tensor if is_dtensor(x) else x


def placed_as(target: Tensor, value: Any) -> Any:
    """Return a DTensor's value with the placement of another one, over ranks; any other value as it is."""
    if is_dtensor(target) and is_dtensor(value) and value.placements != target.placements:
        return value.redistribute(placements=target.placements)
    return value


def split_as(p: Any, x: Tensor) -> Tensor:
    """Return a plain tensor that all ranks have, split as a parameter is: a DTensor for a DTensor, and else itself.

    It is split along those dimensions that both have in the same size. A stack of matrices, or a matrix, that shares
    none is split along its first dimension, since it may be as large as the parameter.
    """
    if not is_dtensor(p):
        return x
    tensor = sys.modules["torch.distributed.tensor"]
    placements = _shared_placements(p, x)
    if is_split_in_chunks(p) and min((*x.shape, 0)[:2]) > 1 and all(each.is_replicate() for each in placements):
        placements = [tensor.Shard(0) if each.is_shard() else each for each in p.placements]
    return _placed(x, p, placements)


def _placed(x: Tensor, p: Any, placements: list[Any]) -> Tensor:
    """Place a tensor that all ranks have on the mesh of a parameter; a part does not keep the memory of the whole."""
    tensor = sys.modules["torch.distributed.tensor"]
    held = tensor.DTensor.from_local(x, p.device_mesh, placements_of(p, None), run_check=False)
    part = local_part(held.redistribute(placements=placements))
    own = part.clone() if part.numel() < x.numel() else part
    placed: Tensor = tensor.DTensor.from_local(
        own, p.device_mesh, placements, run_check=False, shape=x.shape, stride=x.stride()
    )
    return placed


def scattered_as(p: Any, x: Tensor) -> Tensor:
    """Return a plain tensor placed as a parameter is, with the values of the mesh's first rank, for a DTensor."""
    if not is_dtensor(p):
        return x
    placed: Tensor = sys.modules["torch.distributed.tensor"].distribute_tensor(x, p.device_mesh, p.placements)
    return placed


def is_placed_as(p: Any, x: Any) -> bool:
    """Return whether a tensor is a DTensor, split as a parameter is along all dimensions that both have."""
    return is_dtensor(x) and list(x.placements) == _shared_placements(p, x)


def all_placed_as(p: Any, held: Mapping[str, Any]) -> bool:
    """Return whether all tensors with elements in a parameter's state are split as the parameter is."""
    return all(is_placed_as(p, x) for x in held.values() if isinstance(x, Tensor) and x.dim())


def _shared_placements(p: Any, x: Tensor) -> list[Any]:
    same = {dim for dim in range(p.ndim) if x.ndim == p.ndim and x.shape[dim] == p.shape[dim]}
    replicated = sys.modules["torch.distributed.tensor"].Replicate()
    return [each if getattr(each, "dim", None) in same else replicated for each in p.placements]
