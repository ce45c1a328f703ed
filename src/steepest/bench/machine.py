"""What the timing depends on, beside what a study records: the caches, the compiler, the device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

from ..executors.base import UnsupportedError
from ..executors.native.compiler import find_compiler

CACHES: Final = Path("/sys/devices/system/cpu/cpu0/cache")


def describe(device: str) -> dict[str, Any]:
    """The first core's caches, the C compiler, torch's threads, the device, and the load of the last minute."""
    return {
        "caches": dict(caches()),
        "compiler": compiler(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }


def caches(folder: Path = CACHES) -> Iterator[tuple[str, str]]:
    """Name and size of each cache, such as ``("L2 Unified", "2048K")``; nothing where the system does not say."""
    for index in sorted(folder.glob("index*")):
        try:
            level, kind, size = ((index / name).read_text("ascii").strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        yield f"L{level} {kind}", size


def compiler() -> str | None:
    """The first line that the C compiler says of itself ($CC, cc, gcc or clang), or None without one."""
    try:
        return find_compiler().version.partition("\n")[0].strip() or None
    except UnsupportedError:
        return None
