"""The machine that the timing depends on, in addition to a study's records: caches, compiler, device."""

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
    """Return the first core's caches, the C compiler, torch's threads, the device, and the load of the last minute."""
    return {
        "caches": dict(caches()),
        "compiler": compiler(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }


def caches(folder: Path = CACHES) -> Iterator[tuple[str, str]]:
    """Return name and size of each cache, such as ``("L2 Unified", "2048K")``; empty where the system does not say."""
    for index in sorted(folder.glob("index*")):
        try:
            level, kind, size = ((index / name).read_text("ascii").strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        yield f"L{level} {kind}", size


def compiler() -> str | None:
    """Return the first line of the C compiler's version ($CC, cc, gcc or clang), or None without a compiler."""
    try:
        return find_compiler().version.partition("\n")[0].strip() or None
    except UnsupportedError:
        return None
