"""Devices to train on: their choice, their seconds and memory, and the part of them that a worker process sees."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch

from steepest.study.errors import UsageError

CPU: Final = torch.device("cpu")
AUTO: Final = "auto"
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
WORKSPACE: Final = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""The setting without which cuBLAS has no deterministic algorithms."""


def choose(text: str) -> torch.device:
    """Return the device of a name: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto` for an accelerator if one is here.

    Raises:
        UsageError: no such device is here.
    """
    here = names()
    if text == AUTO:
        return torch.device(here[-1].partition(":")[0])
    try:
        device = torch.device(text)
    except RuntimeError:
        device = None
    if device is None or (text not in here and f"{text}:0" not in here):
        raise UsageError(f"there is no device {text!r} here; torch {torch.__version__} finds {', '.join(here)}")
    return device


def names() -> list[str]:
    """Return the names of the devices here, the CPU first."""
    if not torch.accelerator.is_available():
        return [CPU.type]
    kind = torch.accelerator.current_accelerator() or CPU
    count = torch.accelerator.device_count()
    return [CPU.type, *([kind.type] if kind.type == "mps" else (f"{kind.type}:{number}" for number in range(count)))]


@contextmanager
def used(device: torch.device) -> Iterator[None]:
    """Make a device the current one of its kind inside the block."""
    index: int | None = device.index
    if index is None:
        yield
        return
    before = torch.accelerator.current_device_index()
    torch.accelerator.set_device_index(index)
    try:
        yield
    finally:
        torch.accelerator.set_device_index(before)


def environments(device: torch.device, *, deterministic: bool = False) -> list[dict[str, str]]:
    """Return the variables for worker processes, one entry per physical device; they take turns."""
    common = WORKSPACE if deterministic else {}
    if device.type != "cuda":
        return [dict(common)]
    known = os.environ.get(VISIBLE, "")
    ids = known.split(",") if known else [name.partition(":")[2] for name in names()[1:]]
    index: int | None = device.index
    chosen = ids if index is None else [ids[index]]
    return [{**common, VISIBLE: one} for one in chosen]


def description(device: torch.device) -> dict[str, Any] | None:
    """Return the kind, name and driver of an accelerator; None for a CPU, which a study describes anyway."""
    if device.type == CPU.type:
        return None
    module = torch.get_device_module(device)
    name = module.get_device_name(device) if hasattr(module, "get_device_name") else device.type
    return {"kind": device.type, "name": name, "driver": _driver() if device.type == "cuda" else None}


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all that it was asked to."""
    if device.type != CPU.type:
        torch.accelerator.synchronize(device)


def forget_peak(device: torch.device) -> None:
    """Begin the measurement of peak memory anew."""
    module: Any = None if device.type == CPU.type else torch.get_device_module(device)
    if hasattr(module, "reset_peak_memory_stats"):
        module.reset_peak_memory_stats()


def peak_bytes(device: torch.device) -> int | None:
    """Return the most memory that tensors have taken on a device; None where it is not measured."""
    module: Any = None if device.type == CPU.type else torch.get_device_module(device)
    return int(module.max_memory_allocated()) if hasattr(module, "max_memory_allocated") else None


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Let torch use deterministic algorithms only, inside the block."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    variables = {name: os.environ.get(name) for name in WORKSPACE}
    os.environ.update(WORKSPACE)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        _restore(variables)


def _restore(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip() if done.stdout else None
