"""What the timing depends on, beside what a study records: the caches, the compiler, the device."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

CACHES: Final = Path("/sys/devices/system/cpu/cpu0/cache")
COMPILERS: Final = ("cc", "gcc", "clang")


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
    named = shlex.split(os.environ.get("CC", ""))[:1]
    found = next((path for name in (*named, *COMPILERS) if (path := shutil.which(name))), None)
    if found is None:
        return None
    try:
        done = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.partition("\n")[0].strip() or None
