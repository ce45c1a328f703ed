"""The Triton executor: generated kernels on CUDA devices, for ``fused=True`` where torch has no fused function.

What writes and launches kernels is imported when a group first asks for them, and Triton itself at the first launch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...group import GroupSpec
from ...transforms.unscale import GRAD_SCALE
from ...views import compute_dtype
from .. import torch_fused
from ..base import PLAIN_TYPES, ActiveParams, Executor, suits_planned

if TYPE_CHECKING:
    from .bucket import LaunchBucket

DEVICE = "cuda"
"""The type of device that kernels are compiled for."""


def _suits(spec: GroupSpec) -> bool:
    devices = {p.device.type for p in spec.options["params"]}
    is_asked_for = suits_planned(spec) and spec.options.get("fused") and devices == {DEVICE}
    return bool(is_asked_for and torch_fused.refusal(spec))


def _refusal(spec: GroupSpec) -> str:
    reason = refusal(spec)
    return (
        f"`fused=True` cannot run here: {torch_fused.refusal(spec)}, and {reason}; leave fused=None" if reason else ""
    )


def refusal(spec: GroupSpec) -> str:
    """Return why the executor cannot run a group, as far as options and machine say; empty if it can."""
    from .library import missing_triton, unsupported_device

    if reason := unsupported(spec) or missing_triton():
        return reason
    return next(filter(None, map(unsupported_device, {p.device for p in spec.options["params"]})), "")


def unsupported(spec: GroupSpec) -> str:
    """Return why the group's programs have no kernels; empty if they have."""
    from .bucket import unsupported_program

    params = spec.options["params"]
    if spec.options.get("capturable") and spec.rule.shared is not None:
        return f"{spec.rule.fn.__name__} renews shared numbers on the host, for which capturable=True does not wait"
    if other := sorted({t.__name__ for t in map(type, params)} - {t.__name__ for t in PLAIN_TYPES}):
        return f"the Triton executor runs only plain tensors and parameters, not {', '.join(other)}"
    numbers = (*spec.numbers, "t", GRAD_SCALE)
    programs = dict.fromkeys((spec.program(p), compute_dtype(p.dtype.to_real())) for p in params)
    return next(filter(None, (unsupported_program(program, numbers, real) for program, real in programs)), "")


def _make_buckets(live: ActiveParams) -> Iterator[LaunchBucket]:
    from .bucket import make_buckets

    return make_buckets(live)


def _source(spec: GroupSpec) -> str:
    from .bucket import kernel_like

    return kernel_like(spec, spec.options["params"][0]).source


TRITON = Executor(
    "triton",
    _make_buckets,
    _suits,
    switch="fused",
    refusal=_refusal,
    is_opaque=True,
    source=_source,
    is_capturable=True,
)
