"""Keeping freed memory inside the process, where the next training step finds it again."""

import ctypes
import os
from typing import Final

MALLOPT: Final = {"M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 2**29), "M_MMAP_MAX": (-4, 0)}
"""glibc's allocator options, by name: number and value. See mallopt(3)."""


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed blocks, and torch to use huge pages. Return whether that was possible.

    By default glibc hands every large block back to the system when it is freed. A training step on a CPU then takes
    its activations as new pages, which the kernel must zero and map, at every layer of every step. For the reference
    study's network that was a third of the time (447 examples/s against 707, in one run on 2 cores). The setting is of
    the whole process, so a command does this and a library function must not.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first large allocation
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    return all(mallopt(number, value) == 1 for number, value in MALLOPT.values())
