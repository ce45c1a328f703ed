"""The environment of a study: versions, machine, commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy
import torch

PACKAGE: Final = Path(__file__).resolve().parents[2]


def versions() -> dict[str, str]:
    """Return the versions that results may depend on."""
    return {
        "steepest": metadata.version("steepest"),
        "torch": str(torch.__version__),
        "numpy": str(numpy.__version__),
        "python": platform.python_version(),
    }


def machine() -> dict[str, Any]:
    """Return the processor, the cores this process may use, the memory and the system."""
    return {"cpu": _cpu(), "cores": cores(), "memory_gib": _memory_gib(), "platform": platform.platform()}


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str | None:
    """Return the commit of the checkout that Steepest runs from, with + if files differ from it; None without one."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top) / "src" / "steepest" != PACKAGE:
        return None
    head = _git("rev-parse", "--short=12", "HEAD")
    return head and head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
