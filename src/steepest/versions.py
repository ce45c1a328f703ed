"""Version counters: autograd counts a tensor's writes there, to refuse a backward that needs an overwritten value.

A kernel that writes memory must count by itself. Counters lie apart from each other in memory, so in a step of many
small tensors the counting takes half as long as the kernel. The state that an optimizer makes therefore shares one
counter. Then a backward may also be refused where somebody has written only another state by hand; no overwritten value
goes unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from .modes import intercepting


def share_versions(made: dict[str, Any], states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return new state whose tensors count their writes where the first of the tensors in ``states`` does.

    Only plain tensors on the CPU share a counter, since only there do kernels of ours write. Others are returned as
    they are, and so is all state under a mode that intercepts operations.
    """
    sharing = {name: x for name, x in made.items() if _can_share(x)}
    if not sharing or intercepting() is not None:
        return made
    first = next(x for held in chain(states, [sharing]) for x in held.values() if _can_share(x))
    return {**made, **{name: _counted_with(first, x) for name, x in sharing.items()}}


def _can_share(x: Any) -> bool:
    is_plain = type(x) is Tensor and x.is_cpu and x.layout == torch.strided
    return is_plain and not x.requires_grad and x.grad_fn is None and not x.is_inference()


def _counted_with(first: Tensor, x: Tensor) -> Tensor:
    """Return ``x`` with the counter of ``first``, which another tensor's data does not replace."""
    shared = first.detach()
    shared.data = x
    return shared


def distinct_versions(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return one tensor for each version counter; each counts one write."""
    before = [(x, x._version) for x in tensors if not x.is_inference()]
    found = []
    for x, version in before:
        if x._version == version:
            increment_version(x)
            found.append(x)
    return found
