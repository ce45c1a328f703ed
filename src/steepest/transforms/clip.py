"""Clipping of the gradient by its norm over all groups that ask for it. ``.grad`` stays as it is."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..fields import Options, hyper
from ..norms import norms
from ..rule import Rule, Update, Values, Wrapper
from ..views import real_view
from ..vocabulary import rescaled
from .base import Transform


def group_name(group: Any) -> str:
    """Return the name of a process group, for a parameter group to keep: a name can be saved, a process group cannot.

    Raises:
        TypeError: ``group`` is neither a process group nor a name.
    """
    name = group if isinstance(group, str) else getattr(group, "group_name", None)
    if not isinstance(name, str):
        raise TypeError(f"norm_group must be a torch.distributed process group, its name or 'WORLD', not {group!r}")
    return name


def clipped(update: Update) -> Update:
    """Let the rule see ``clip * g``, where ``clip`` is `clip_factor` of the global norm."""

    def clip(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, rescaled(g, scalars["clip"]), state, scalars)

    return clip


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    return None if options.get("max_norm") is None else clipped


def _numbers(options: Options, shared: Values) -> dict[str, Any]:
    if options["max_norm"] is None:
        return {}
    return {"clip": clip_factor(options["max_norm"], shared["norm"]) if "norm" in shared else 1.0}


def clipping(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups that clip by the norm of all their gradients."""
    return [group for group in groups if group["max_norm"] is not None or group["zclip"] is not None]


def shared_norm(groups: list[dict[str, Any]], scale: Any, holder: str) -> Tensor | None:
    """Return the norm of the gradients of ``groups``, over all ranks that have a part of them.

    It is None if there is nothing to clip.

    Args:
        groups: the groups that clip.
        scale: the factor by which the gradients are still multiplied.
        holder: the wrapper that handed over only a part of the parameters; see `holder_of_parts`.
    """
    params = [p for group in groups for p in group["params"]]
    grads = [p.grad for p in params if p.grad is not None]
    name = norm_group_of(groups, holder)
    if not grads and name is None:
        return None
    norm = total_norm(grads, scale) if grads else torch.zeros((), dtype=torch.float64, device=params[0].device)
    return norm if name is None else over_ranks(norm, name)


def norm_group_of(groups: list[dict[str, Any]], holder: str) -> str | None:
    """Return the ``norm_group`` of groups that clip together.

    Raises:
        ValueError: the groups differ in it, or it is None and ``holder`` has kept a part of the parameters.
    """
    names = {group["norm_group"] for group in groups}
    if len(names) > 1:
        told = ", ".join(sorted(map(repr, names)))
        raise ValueError(f"groups that set max_norm share one norm, so they need one norm_group, not {told}")
    if holder and names == {None}:
        raise ValueError(
            f"max_norm within {holder} would clip by the norm of this rank's part of the parameters; give "
            "norm_group='WORLD' (or the process group) too, or clip before the step"
        )
    return next(iter(names), None)


def total_norm(grads: list[Tensor], scale: Any) -> Tensor:
    """Return the Euclidean norm of all gradients together, 0-dim, in double, after unscaling.

    Unlike torch's norm it is differentiable, and right for gradients whose squares overflow.
    """
    of_each: list[Tensor] = []
    real = [real_view(g.resolve_conj()) for g in grads]
    for kind in dict.fromkeys((g.dtype, g.device) for g in real):
        of_each += norms([g for g in real if (g.dtype, g.device) == kind])
    of_each = [x.full_tensor() if hasattr(x, "full_tensor") else x for x in of_each]  # of all shards of a DTensor
    together = torch.stack([x.to(of_each[0].device) for x in of_each]).double()
    norm: Tensor = torch.linalg.vector_norm(together) / scale
    return norm


def over_ranks(norm: Tensor, name: str) -> Tensor:
    """Return the norm over all ranks of the process group ``name``, from the norm of this rank.

    Every rank of the group must take part.

    Raises:
        RuntimeError: torch.distributed is not initialised, or does not have this group.
    """
    return added_over_ranks(norm * norm, name).sqrt()


def added_over_ranks(sums: Tensor, name: str) -> Tensor:
    """Return the sums over all ranks of the process group ``name``, from the sums of this rank; see `over_ranks`."""
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(f"norm_group={name!r} needs torch.distributed.init_process_group() before the first step")
    total = sums.clone()
    dist.all_reduce(total, group=dist.group.WORLD if name == "WORLD" else _named(name))
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


def clip_factor(max_norm: float, norm: Tensor) -> Tensor:
    """Return the factor for the gradients, as in ``torch.nn.utils.clip_grad_norm_``.

    It is NaN for a norm that is NaN.
    """
    factor: Tensor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    return factor


CLIP = Transform(
    _wrapper,
    {
        "max_norm": hyper(
            None,
            "largest norm of the gradient, over all groups that set it, as torch's clip_grad_norm_ has it; None: any",
            low=0.0,
        ),
        "norm_group": hyper(
            None,
            "process group, or its name, over whose ranks norms and sums add up; 'WORLD': all; None: this process",
            convert=group_name,
            words="a process group, its name or None",
        ),
    },
    numbers=_numbers,
    takes_elements=False,
    is_global=True,
)
