"""Triton in this process: its version, the compilation of generated kernels, and their launch."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from ..base import UnsupportedError
from .kernel import Kernel

OLDEST = (3, 7)
"""Oldest version of Triton that is taken, as major and minor number. The tests ran with 3.7.1."""

CAPABILITY = (8, 0)
"""Oldest compute capability, which converts bfloat16 in hardware. The tests compile for 8.0 and 9.0."""

OPTIONS = {"enable_fp_fusion": False}
"""Options of a launch. Without fusion every operation rounds once, as on the CPU."""


@cache
def missing_triton() -> str:
    """Return why Triton cannot be used in this process; empty if it can. Nothing is imported."""
    needed = ".".join(map(str, OLDEST))
    try:
        found = version("triton")
    except PackageNotFoundError:
        return f"Triton is not installed; install triton>={needed}: pip install 'steepest[gpu]'"
    if tuple(map(int, found.split(".")[:2])) < OLDEST:
        return f"Triton {found} is installed, which is too old; install triton>={needed}: pip install 'steepest[gpu]'"
    return ""


def unsupported_device(device: torch.device) -> str:
    """Return why kernels cannot run on a CUDA device; empty if they can."""
    if torch.version.hip is not None:
        return f"{device} is an AMD device, for which kernels were compiled, but no launch was ever tried"
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        found, needed = (".".join(map(str, each)) for each in (capability, CAPABILITY))
        return f"{device} has compute capability {found}, and the kernels need {needed} or newer"
    return ""


@cache
def loaded(source: str) -> Mapping[str, Any]:
    """Return the functions of a generated kernel, for Triton to compile at their first launch.

    Triton reads a function's source through `linecache`, where the generated text is put under a name of its own.
    """
    name = f"<steepest triton {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {"__name__": "steepest_triton_kernel"}
    exec(compile(source, name, "exec"), namespace)  # our own generated text, from a checked trace
    return namespace


def launch(kernel: Kernel, function: str, programs: int, arguments: Sequence[Any], **fixed: int) -> None:
    """Run ``programs`` of a kernel's function on the device of its arguments and its current stream.

    The function is compiled for each value of the ``fixed`` arguments.

    Raises:
        UnsupportedError: Triton cannot be used here.
    """
    if reason := missing_triton():
        raise UnsupportedError(reason)
    on_device: Any = torch.cuda.device_of
    with on_device(arguments[0]):
        loaded(kernel.source)[function][(programs,)](*arguments, **fixed, num_warps=kernel.warps, **OPTIONS)
