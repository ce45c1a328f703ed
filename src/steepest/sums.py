"""Sums over all tensors of a step: those of shards, devices, parameter groups and ranks, added in one way.

The norm that gradients are clipped by, the sums of rules that share numbers, and the norms of wrappers are added here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .sharding import is_dtensor


def group_name(group: Any) -> str:
    """Return the name of a process group, for a parameter group to keep: a name can be saved, a process group cannot.

    Raises:
        TypeError: ``group`` is neither a process group nor a name.
    """
    name = group if isinstance(group, str) else getattr(group, "group_name", None)
    if not isinstance(name, str):
        raise TypeError(f"norm_group must be a torch.distributed process group, its name or 'WORLD', not {group!r}")
    return name


def norm_group_of(groups: Iterable[Mapping[str, Any]], what: str, holder: str = "") -> str | None:
    """Return the ``norm_group`` of parameter groups whose sums are added up.

    Args:
        groups: the parameter groups.
        what: name of the sums, for messages; a plural.
        holder: the wrapper that handed over only a part of the parameters; see `holder_of_parts`.

    Raises:
        ValueError: the groups differ in it, or it is None and ``holder`` has kept a part of the parameters.
    """
    names = {group["norm_group"] for group in groups}
    if len(names) > 1:
        told = ", ".join(sorted(map(repr, names)))
        raise ValueError(f"{what} are over all groups, so these need one norm_group, not {told}")
    if holder and names == {None}:
        raise ValueError(
            f"{what} within {holder} would be those of this rank's part of the parameters; give norm_group='WORLD' (or "
            "the process group) too"
        )
    return next(iter(names), None)


def over_shards(rows: Tensor, tensors: Sequence[Tensor | None]) -> Tensor:
    """Return the sum over tensors and over the ranks that have other parts of them. All of these must take part.

    The ranks' sums are added in their order, one collective for each dimension of a mesh.

    Args:
        rows: the sums over this rank's part of each tensor, (tensors, sums).
        tensors: the tensors. None, like a plain tensor, stands for one of which the row is the sum over all of it.
    """
    of_groups: dict[tuple[Any, ...], list[int]] = {}
    for row, x in enumerate(tensors):
        of_groups.setdefault(_split_over(x), []).append(row)
    sums = [in_rank_order(rows[members].sum(0), groups) for groups, members in of_groups.items()]
    return added(sums or [rows.sum(0)])


def _split_over(x: Any) -> tuple[Any, ...]:
    """Return the process groups of the ranks that have other parts of a tensor, one for each dimension of its mesh."""
    if not is_dtensor(x):
        return ()
    return tuple(x.device_mesh.get_group(dim) for dim, each in enumerate(x.placements) if not each.is_replicate())


def in_rank_order(sums: Tensor, groups: Iterable[Any]) -> Tensor:
    """Return sums over the ranks of process groups, one after the other, added in the order of the ranks."""
    for group in groups:
        parts = [torch.empty_like(sums) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, sums, group)
        sums = torch.stack(parts).sum(0)
    return sums


def added(parts: Iterable[Tensor]) -> Tensor:
    """Return the sum of tensors of one shape, on the device of the first one."""
    first, *others = parts
    return sum((x.to(first.device) for x in others), first)


def nothing(params: Sequence[Tensor], *size: int) -> Tensor:
    """Return zeros in double, as the sum over no tensors, on the device of the first parameter."""
    return torch.zeros(size, dtype=torch.float64, device=params[0].device if params else None)


def over_ranks(sums: Tensor, norm_group: str | None) -> Tensor:
    """Return the sums over all ranks of the process group, from the sums of this rank. Every rank must take part.

    Without a process group they are those of this rank.

    Raises:
        RuntimeError: torch.distributed is not initialised, or does not have this group.
    """
    if norm_group is None:
        return sums
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            f"norm_group={norm_group!r} needs torch.distributed.init_process_group() before the first step"
        )
    total = sums.clone()
    dist.all_reduce(total, group=dist.group.WORLD if norm_group == "WORLD" else _named(norm_group))
    return total


def _named(name: str) -> Any:
    from torch.distributed import distributed_c10d  # not in every build of torch

    resolve: Any = distributed_c10d._resolve_process_group  # type: ignore[attr-defined]
    return resolve(name)


def holder_of_parts(params: Iterable[Tensor]) -> str:
    """Return the name of the wrapper that handed over only a part of the parameters; empty if none is seen.

    A ZeroRedundancyOptimizer of several ranks constructs an optimizer without telling it about the other parameters, so
    this function looks at the callers. The flat parameters of the first FSDP say what they are.
    """
    if any(getattr(p, "_is_flat_param", False) for p in params):
        return "FullyShardedDataParallel"
    return "ZeroRedundancyOptimizer" if _is_within_zero() else ""


def _is_within_zero() -> bool:
    module = sys.modules.get("torch.distributed.optim.zero_redundancy_optimizer")
    frame: FrameType | None = sys._getframe(1) if module is not None else None
    while frame is not None:
        caller = frame.f_locals.get("self")
        if module is not None and isinstance(caller, module.ZeroRedundancyOptimizer):
            return dist.get_world_size(caller.process_group) > 1
        frame = frame.f_back
    return False
