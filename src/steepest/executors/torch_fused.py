"""torch's own fused functions, for ``fused=True`` on an accelerator, until a kernel of ours runs there.

The step of torch's class of the same name runs on our parameters, state and group: names and meanings are the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices

from ..fields import EXECUTION_SWITCHES, Field, Options
from ..partition import Cut, Live


class TorchPart:
    """The parameters of a group that torch steps at once."""

    def __init__(
        self,
        twin: type[torch.optim.Optimizer],
        options: Options,
        members: list[int],
        params: list[Tensor],
        held: list[dict[str, Any]],
    ) -> None:
        """A stand-in for torch's optimizer that shares our state."""
        self.members = members
        self._options, self._params = options, params
        self._stand_in = cast(Any, object.__new__(twin))
        self._stand_in.state = dict(zip(params, held, strict=True))
        self._stand_in.defaults = options
        # Without torch's wrappers, which would call hooks a second time.
        self._step = inspect.unwrap(twin.step)

    def ready(self, grads: list[Tensor]) -> bool:
        """Always: torch checks what it is given."""
        return True

    def step(self, numbers: Mapping[str, Any]) -> None:
        """Run torch's step under the group's values of now."""
        self._stand_in.param_groups = [{**self._options, "params": self._params, "fused": True, "foreach": False}]
        scale = numbers.get("grad_scale")
        # Without a scale torch's kernels ask for neither; what is infinite has been found before.
        self._stand_in.grad_scale = None if scale is None else self._on_device(scale)
        self._stand_in.found_inf = None if scale is None else self._on_device(0.0)
        self._step(self._stand_in)

    def _on_device(self, value: float) -> Tensor:
        return torch.full((), value, dtype=torch.float32, device=self._params[0].device)


def runs_on(device: torch.device) -> bool:
    """Whether torch has fused functions for an accelerator."""
    return device.type != "cpu" and device.type in _get_fused_kernels_supported_devices()


def refusal(name: str, fields: Mapping[str, Field], options: Options) -> str:
    """Why torch's fused functions cannot run a class ``name`` under these options; empty if they can."""
    twin = getattr(torch.optim, name, None)
    if twin is None or "fused" not in inspect.signature(twin).parameters:
        return f"torch has no fused {name}"
    taken = inspect.signature(twin).parameters.keys() | EXECUTION_SWITCHES
    own = [n for n, field in fields.items() if n not in taken and not field.fixed and options[n] != field.default]
    return f"torch's fused {name} does not know {', '.join(own)}" if own else ""


def cut_for(name: str, options: Options) -> Cut:
    """How torch's fused functions take a group of the class ``name``: whole."""
    return partial(_cut, twin=getattr(torch.optim, name), options=options)


def _cut(live: Live, *, twin: type[torch.optim.Optimizer], options: Options) -> Iterator[TorchPart]:
    for is_first in (False, True):  # torch's SGD cannot take a parameter that joins late together with the others
        members = [i for i, of_this in enumerate(live.first) if of_this == is_first]
        params, states, _ = live.of(members)
        if is_first:
            for held in states:
                held.clear()  # torch makes its own, in its own way
        if members:
            yield TorchPart(twin, options, members, params, states)
