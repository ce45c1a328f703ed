"""Memory: the additional bytes that a step needs, and the bytes that are available."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch

STATUS: Final = Path("/proc/self/status")
RESET: Final = Path("/proc/self/clear_refs")
RESET_PEAK: Final = "5"
"""The value that resets the peak resident size, for the kernel's clear_refs: see proc(5)."""


def peak_extra_bytes(step: Callable[[], Any], device: str) -> int | None:
    """Measure how far memory rises above its level before a step while the step runs; None if it cannot be measured.

    On a CPU it is the resident memory of the process, in pages and within a few hundred kilobytes, whoever asks for it:
    torch's allocator or generated code. Memory that earlier steps have freed is given back to the system first; it
    would otherwise be used again, and hide what the step needs.
    """
    return _cuda_peak(step) if device == "cuda" else _resident_peak(step)


def _cuda_peak(step: Callable[[], Any]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _resident_peak(step: Callable[[], Any]) -> int | None:
    if not _give_freed_memory_back():
        return None
    try:
        RESET.write_text(RESET_PEAK, encoding="ascii")
    except OSError:
        return None
    before = _kilobytes(STATUS, "VmRSS")
    step()
    peak = _kilobytes(STATUS, "VmHWM")
    return None if before is None or peak is None else max(0, peak - before) * 1024


def _give_freed_memory_back() -> bool:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library than glibc, or Windows
        return False
    trim(0)
    return True


def available_bytes(device: str) -> int | None:
    """Return the bytes of available memory, or None where the system does not say."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    kilobytes = _kilobytes(Path("/proc/meminfo"), "MemAvailable")
    return None if kilobytes is None else kilobytes * 1024


def _kilobytes(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    fields = [line.split() for line in lines if line.startswith(f"{name}:")]
    return int(fields[0][1]) if fields else None
