"""Processes that a training function leaves behind, which would take cores and memory from the next trials."""

import gc
import multiprocessing
from collections.abc import Collection
from multiprocessing.process import BaseProcess
from typing import Final

PATIENCE: Final = 5.0
"""Seconds in which a process may end before it is killed."""


def running() -> set[BaseProcess]:
    """Return the processes that this one has started with `multiprocessing` and that still run."""
    return set(multiprocessing.active_children())


def end_others(known: Collection[BaseProcess]) -> list[str]:
    """End all running processes but the known ones, and return their names.

    Worker processes of a DataLoader end with its last reference, and do not count.
    """
    if running() <= set(known):
        return []
    gc.collect()
    left = sorted(running() - set(known), key=lambda process: process.name)
    for process in left:
        process.terminate()
    for process in left:
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.name for process in left]
