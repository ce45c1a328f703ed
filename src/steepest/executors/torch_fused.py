"""Torch's own fused functions, for ``fused=True`` on an accelerator, until a kernel of ours runs there.

The step of torch's class of the same name runs on our parameters, state and group. Their names and meanings are the
same as torch's.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices

from ..fields import EXECUTION_SWITCHES, Options
from ..group import GroupSpec
from .base import ActiveParams, Executor, suits_planned


class TorchBucket:
    """The parameters of a group that torch steps at once."""

    def __init__(
        self,
        twin: type[torch.optim.Optimizer],
        options: Options,
        members: list[int],
        params: list[Tensor],
        held: list[dict[str, Any]],
    ) -> None:
        """Make a stand-in for torch's optimizer that shares our state."""
        self.members = members
        self._options, self._params = options, params
        self._stand_in = cast(Any, object.__new__(twin))
        self._stand_in.state = dict(zip(params, held, strict=True))
        self._stand_in.defaults = options
        # Without torch's wrappers, which would call hooks a second time.
        self._step = inspect.unwrap(twin.step)

    def ready(self, grads: list[Tensor]) -> bool:
        """Return True, because torch checks its arguments itself."""
        return True

    def step(self, numbers: Mapping[str, Any]) -> None:
        """Run torch's step under the group's current values."""
        self._stand_in.param_groups = [{**self._options, "params": self._params, "fused": True, "foreach": False}]
        scale = numbers.get("grad_scale")
        # Without a scale torch's kernels ask for neither; what is infinite has been found before.
        self._stand_in.grad_scale = None if scale is None else self._on_device(scale)
        self._stand_in.found_inf = None if scale is None else self._on_device(0.0)
        self._step(self._stand_in)

    def _on_device(self, value: float) -> Tensor:
        return torch.full((), value, dtype=torch.float32, device=self._params[0].device)


def runs_on(device: torch.device) -> bool:
    """Return whether torch has fused functions for an accelerator."""
    return device.type != "cpu" and device.type in _get_fused_kernels_supported_devices()


def _suits(spec: GroupSpec) -> bool:
    devices = {p.device for p in spec.options["params"]}
    is_asked_for = suits_planned(spec) and spec.options.get("fused")
    return bool(is_asked_for and devices and all(map(runs_on, devices)))


def _refusal(spec: GroupSpec) -> str:
    reason = refusal(spec)
    where = ", ".join(sorted({p.device.type for p in spec.options["params"]}))
    return f"`fused=True` on {where} runs torch's own kernels, but {reason}; leave fused=None" if reason else ""


def refusal(spec: GroupSpec) -> str:
    """Return why torch's fused functions cannot run a group; empty if they can."""
    twin = getattr(torch.optim, spec.name, None)
    if twin is None or "fused" not in inspect.signature(twin).parameters:
        return f"torch has no fused {spec.name}"
    taken = inspect.signature(twin).parameters.keys() | EXECUTION_SWITCHES
    free = {n: field for n, field in spec.fields.items() if n not in taken and not field.fixed}
    own = [n for n, field in free.items() if spec.options[n] != field.default]
    return f"torch's fused {spec.name} does not know {', '.join(own)}" if own else ""


def make_buckets(live: ActiveParams) -> Iterator[TorchBucket]:
    """Put a group's parameters in one bucket, and those that take their first step in another."""
    twin = getattr(torch.optim, live.spec.name)
    for is_first in (False, True):  # torch's SGD cannot take a parameter that joins late together with the others
        members = [i for i, of_this in enumerate(live.first) if of_this == is_first]
        params, states, _ = live.at(members)
        if is_first:
            for held in states:
                held.clear()  # torch makes its own, in its own way
        if members:
            yield TorchBucket(twin, live.spec.options, members, params, states)


TORCH_FUSED = Executor("torch", make_buckets, _suits, switch="fused", refusal=_refusal)
