"""Steps that are left out because a gradient is NaN or infinite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..fields import Options, hyper
from ..rule import Rule, Wrapper
from ..views import real_view, whole
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


def are_finite(grads: Iterable[Tensor]) -> bool:
    """Return whether all entries of all gradients are finite. Each device is waited for once.

    The shards of a DTensor are looked at on all ranks.
    """
    norms: dict[torch.device, list[Tensor]] = {}
    for grad in grads:
        values = real_view((grad._values() if grad.is_sparse else grad).resolve_conj())
        if values.numel():
            largest = torch.linalg.vector_norm(values.detach(), torch.inf)  # NaN if an entry is NaN
            found = whole(largest)
            norms.setdefault(found.device, []).append(found.double())
    return all(bool(torch.isfinite(torch.stack(found)).all()) for found in norms.values())


class Skipping:
    """The part of an optimizer that leaves out steps with gradients that are not finite.

    Attributes:
        skipped: the number of steps left out since the optimizer was made. It is not saved.
    """

    param_groups: list[dict[str, Any]]
    skipped: int = 0
    _skipped_in_a_row: int = 0

    def _is_skipped(self) -> bool:
        """Return whether the step is to be left out, and count it.

        Raises:
            RuntimeError: it is one too many in a row.
        """
        groups = [group for group in self.param_groups if group["skip_nonfinite"]]
        if not groups:
            return False
        if are_finite(p.grad for group in groups for p in group["params"] if p.grad is not None):
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
