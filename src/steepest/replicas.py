"""Replicas: parameters of which ranks have copies, and a check that the copies have stayed the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .sharding import is_dtensor, local_part

MOST = 5
"""Number of parameters that a message names."""

PIECE = 2**20
"""Bytes that are looked at together."""

ODD = 0x9E3779B97F4A7C15 - 2**64
"""Odd multiplier that spreads places over 64 bits."""


def check_replicas(params: torch.optim.Optimizer | Iterable[Tensor], group: Any = None) -> None:
    """Raise an error if ranks that should have the same weights and gradients do not have them, bit by bit.

    A gradient that was not reduced, weights that were not broadcast, or random numbers that differ let the copies of a
    model drift apart, and no step notices. Every rank of the group must call this with the same parameters, after the
    backward pass and before the step. It reads every tensor once and sends 32 bytes for each.

    Args:
        params: the optimizer, or its parameters. Of DTensors the parts are compared along those dimensions of the mesh
            on which they are replicated.
        group: the process group whose ranks have copies of the other parameters; None for all ranks.

    Raises:
        RuntimeError: torch.distributed is not initialised.
        ValueError: copies differ. The message names the parameters by their places, and the ranks.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError("check_replicas compares ranks, and needs torch.distributed.init_process_group() first")
    tensors = list(_params_of(params))
    copies = _by_groups(tensors, group)
    found = [line for each, places in copies.items() for line in _differences(tensors, places, each)]
    if found:
        more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
        raise ValueError(f"ranks should have the same numbers, and differ in {'; '.join(found[:MOST])}{more}")


def _params_of(params: Any) -> Iterator[Tensor]:
    groups = getattr(params, "param_groups", None)
    if groups is None:
        yield from params
        return
    for group in groups:
        yield from group["params"]


def _by_groups(tensors: list[Tensor], group: Any) -> dict[Any, list[int]]:
    """Return the places of the tensors that each process group has copies of."""
    found: dict[Any, list[int]] = {}
    for place, p in enumerate(tensors):
        for each in _replicated_over(p) if is_dtensor(p) else [group or dist.group.WORLD]:
            found.setdefault(each, []).append(place)
    return found


def _replicated_over(p: Any) -> list[Any]:
    return [p.device_mesh.get_group(dim) for dim, each in enumerate(p.placements) if each.is_replicate()]


def _differences(tensors: list[Tensor], places: list[int], group: Any) -> Iterator[str]:
    """Yield what differs between the first rank of a group and others."""
    first, *others = dist.get_process_group_ranks(group)
    if not others:
        return
    own = torch.stack([torch.stack([_digest(tensors[i]), _digest(tensors[i].grad)]) for i in places])
    tables = [torch.empty_like(own) for _ in range(len(others) + 1)]
    dist.all_gather(tables, own, group)
    differs = torch.stack([(table != tables[0]).any(-1) for table in tables[1:]], -1)
    for place, of_tensors in zip(places, differs.tolist(), strict=True):
        for what, of_ranks in zip(("weights", "gradient"), of_tensors, strict=True):
            if any(of_ranks):
                told = ", ".join(str(rank) for rank, is_other in zip(others, of_ranks, strict=True) if is_other)
                shape = tuple(tensors[place].shape)
                yield f"the {what} of parameter {place}, of shape {shape}: rank {first} against {told}"


def _digest(x: Any) -> Tensor:
    """Return two sums of a tensor's bytes, by value and by place, which differ for other bytes; -1 for no tensor."""
    if x is None:
        return torch.tensor([-1, -1])
    data = local_part(x).detach().to_dense().contiguous().view(-1).view(torch.uint8)
    sums = torch.zeros(2, dtype=torch.int64, device=data.device)
    for start in range(0, len(data), PIECE):
        piece = data[start : start + PIECE].long()
        places = torch.arange(start + 1, start + 1 + len(piece), device=data.device) * ODD
        sums += torch.stack([piece.sum(), (piece * places).sum()])
    return sums
