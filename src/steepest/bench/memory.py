"""Memory: the bytes of a step and of all that it works on, and the bytes that are available."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from ..collector import collector_paused

STATUS: Final = Path("/proc/self/status")
RESET: Final = Path("/proc/self/clear_refs")
RESET_PEAK: Final = "5"
"""The value that resets the peak resident size, for the kernel's clear_refs: see proc(5)."""

STEPS_BEFORE: Final = 2
"""Steps before the one whose memory is measured. They create state, and whatever else stays alive between steps."""
MEASURED: Final = "steepest: the measured step"


class Footprint(NamedTuple):
    """Bytes of tensors: those alive before a step, and the most that are alive at a time while it runs."""

    held: int
    peak: int


def footprint(make: Callable[[], Callable[[], Any]], device: str) -> Footprint:
    """Measure the bytes of everything that ``make`` creates and its step uses, as torch's allocator counts them.

    The allocator's count includes temporaries inside of torch's operations. It excludes what others allocate: generated
    code, oneDNN's scratch memory.

    Args:
        make: creates tensors, and returns a step over them. `STEPS_BEFORE` steps precede the measured one.
        device: ``cpu``, where torch's profiler records every allocation, or ``cuda``.
    """
    with collector_paused():  # garbage of before must not be freed in between, as if it belonged to this step
        return _cuda_footprint(make) if device == "cuda" else _profiled_footprint(make)


def _cuda_footprint(make: Callable[[], Callable[[], Any]]) -> Footprint:
    before = torch.cuda.memory_allocated()
    step = _after_first_steps(make)
    held = torch.cuda.memory_allocated() - before
    return Footprint(held, held + _cuda_peak(step))


def _profiled_footprint(make: Callable[[], Callable[[], Any]]) -> Footprint:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step = _after_first_steps(make)
        with record_function(MEASURED):
            step()
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    (measured,) = (event for event in events if event.name() == MEASURED)
    start, end = measured.start_ns(), measured.end_ns()
    levels = list(_levels(events))
    held = next((level for time, level in reversed(levels) if time < start), 0)
    return Footprint(held, max([held, *(level for time, level in levels if start <= time <= end)]))


def _levels(events: Any) -> Iterator[tuple[int, int]]:
    """Yield time in nanoseconds and bytes alive after every allocation and release, in order of time."""
    alive = 0
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    for time, change in sorted(changes, key=lambda pair: pair[0]):
        alive += change
        yield time, alive


def _after_first_steps(make: Callable[[], Callable[[], Any]]) -> Callable[[], Any]:
    step = make()
    for _ in range(STEPS_BEFORE):
        step()
    return step


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
