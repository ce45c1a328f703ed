"""Steps that are left out because a gradient is NaN or infinite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..fields import Options, hyper
from ..rule import Rule, Wrapper
from ..sharding import is_partial, local_part, whole
from ..sums import added, norm_group_of, nothing, over_ranks, over_shards
from ..views import real_view
from .base import Transform


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    return None


def _check(rule: Rule, options: Options) -> None:
    if options["skip_nonfinite"] and rule.kind == "driver":
        raise ValueError(
            f"skip_nonfinite=True cannot run with {rule.fn.__name__}, which evaluates the closure itself; leave it out"
        )
    if options["skip_nonfinite"] and options.get("capturable"):
        raise ValueError(
            "skip_nonfinite=True looks at the gradients before each step, which a captured graph cannot; leave "
            "capturable=False"
        )


SKIP = Transform(
    _wrapper,
    {
        "skip_nonfinite": hyper(False, "leave out a step with a NaN or infinite gradient in any group that sets this"),
        "skip_limit": hyper(
            20, "number of steps left out in a row after which skip_nonfinite raises", low=1, integer=True
        ),
    },
    is_global=True,
    check=_check,
)


GRADIENTS = "the gradients that skip_nonfinite looks at"
"""Name of the gradients in messages."""


def are_finite(params: Sequence[Tensor], norm_group: str | None = None) -> bool:
    """Return whether all entries of all gradients of the parameters are finite. Each device is waited for once.

    The shards of a DTensor are looked at on all ranks, and so are the gradients of the ranks of ``norm_group``. Finite
    parts of a sum that has not been taken do not tell, so it is taken.
    """
    grads = [whole(p.grad) if is_partial(p.grad) else p.grad for p in params if p.grad is not None]
    strange: dict[torch.device, list[Tensor]] = {}
    of_devices: dict[torch.device, list[Tensor]] = {}
    for grad in grads:
        values = local_part(grad.detach())
        values = real_view((values._values() if values.is_sparse else values).resolve_conj())
        largest = torch.linalg.vector_norm(values, torch.inf) if values.numel() else values.new_zeros(())
        strange.setdefault(values.device, []).append(~torch.isfinite(largest))  # NaN if an entry is NaN
        of_devices.setdefault(values.device, []).append(grad)
    counts = [
        over_shards(torch.stack(found).double()[:, None], of_devices[device]) for device, found in strange.items()
    ]
    return not over_ranks(added(counts or [nothing(params, 1)]), norm_group).item()


def skipping_groups(param_groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups whose gradients decide whether a step is left out."""
    return [group for group in param_groups if group["skip_nonfinite"]]


class Skipping:
    """The part of an optimizer that leaves out steps with gradients that are not finite.

    Attributes:
        skipped: the number of steps left out since the optimizer was made. It is not saved.
    """

    param_groups: list[dict[str, Any]]
    skipped: int = 0
    _skipped_in_a_row: int = 0
    _holder: str = ""

    def _is_skipped(self) -> bool:
        """Return whether the step is to be left out, and count it.

        Raises:
            RuntimeError: it is one too many in a row.
        """
        groups = skipping_groups(self.param_groups)
        if not groups:
            return False
        params = [p for group in groups for p in group["params"]]
        if are_finite(params, norm_group_of(groups, GRADIENTS, self._holder)):
            self._skipped_in_a_row = 0
            return False
        self.skipped += 1
        self._skipped_in_a_row += 1
        limit = min(group["skip_limit"] for group in groups)
        if self._skipped_in_a_row >= limit:
            raise RuntimeError(
                f"{limit} steps in a row had a NaN or infinite gradient and were left out (skip_limit={limit}); the "
                "weights are as they were before them. Lower the learning rate, clip, or look for the cause with "
                "torch.autograd.detect_anomaly()"
            )
        return True
