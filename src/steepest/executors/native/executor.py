"""The native executor: generated C kernels on the CPU.

What writes, compiles and runs the kernels is imported when a group first asks for them: a fifth of the library's start.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch.utils._foreach_utils import _get_fused_kernels_supported_devices

from ...group import GroupSpec
from ...rule import PLANNED_KINDS
from ...transforms.unscale import GRAD_SCALE
from ..base import PLAIN_TYPES, ActiveParams, Executor, UnsupportedError, suits_planned

if TYPE_CHECKING:
    from .bucket import KernelBucket
    from .emit import Kernel


def refusal(spec: GroupSpec) -> str:
    """Return why the executor cannot run a group, as far as the group's options say; empty if it can."""
    from .bucket import check_machine

    params, fn = spec.options["params"], spec.rule.fn.__name__
    devices = {p.device.type for p in params}
    if spec.options.get("fused") and "meta" in devices:
        return ""  # a model may be made there, and its parameters put somewhere before the first step
    if spec.kind == "per_tensor" and (reason := _unknown_sums(spec)):
        return f"`fused=True` cannot run {fn}: {reason}; leave fused=None"
    if other := sorted(devices - {"cpu"}):
        return f"`fused=True` runs on the CPU, and there are parameters on {', '.join(other)}"
    if other := sorted({t.__name__ for t in map(type, params)} - {t.__name__ for t in PLAIN_TYPES}):
        return f"`fused=True` runs only plain tensors and parameters, not {', '.join(other)}"
    try:
        check_machine()
    except UnsupportedError as error:
        return str(error)
    return ""


def _unknown_sums(spec: GroupSpec) -> str:
    """Return why the loops cannot run the rule in its transforms."""
    from .bucket import unknown_sums

    numbers = (*spec.numbers, "t", GRAD_SCALE)
    return next(filter(None, (unknown_sums(program, numbers) for program in spec.programs())), "")


def _make_buckets(live: ActiveParams) -> Iterator[KernelBucket]:
    """Put parameters together that share a kernel.

    Raises:
        RuntimeError: a parameter is on meta, in torch's words.
        UnsupportedError: some parameter cannot be run.
    """
    from .bucket import make_buckets

    supported = _get_fused_kernels_supported_devices()
    for p in live.params:
        if p.is_meta:
            message = "`fused=True` requires all the params to be floating point Tensors of supported devices:"
            raise RuntimeError(f"{message} {supported} but {p.dtype} and {p.device.type}")
    return make_buckets(live)


def kernel_of(spec: GroupSpec) -> Kernel:
    """Return the kernel for parameters like the group's first one.

    Raises:
        RuntimeError: the executor cannot run the rule.
    """
    from .bucket import kernel_like

    rule = spec.rule
    if rule.kind not in PLANNED_KINDS or rule.sparse == "lazy":
        kind = rule.sparse or rule.kind
        raise RuntimeError(f"{rule.fn.__name__} is a {kind} rule, which the native executor does not run")
    p = spec.options["params"][0]
    return kernel_like(spec.program(p), spec.numbers, p, bool(spec.options.get("fused")))


NATIVE = Executor(
    "native",
    _make_buckets,
    suits_planned,
    switch="fused",
    refusal=refusal,
    is_opaque=True,
    source=lambda spec: kernel_of(spec).generated,
)
