"""Locks on files, so that two processes do not write one study or one trial at once. They vanish with the process."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from steepest.study.disk import writing_to
from steepest.study.errors import StoreError

POLL: Final = 0.05  # seconds between two tries

if sys.platform == "win32":
    import msvcrt

    def _acquire(file: IO[Any]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _acquire(file: IO[Any]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def acquire(file: IO[Any], patience: float = 0.0) -> bool:
    """Lock an open file until it is closed; return whether that succeeded within so many seconds."""
    last = time.monotonic() + patience
    while True:
        try:
            _acquire(file)
        except OSError:
            if time.monotonic() >= last:
                return False
            time.sleep(POLL)
        else:
            return True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process, or raise StoreError when another has it."""
    path = folder / ".lock"
    with writing_to(path):
        file = path.open("a+", encoding="utf-8")
    with file:
        if not acquire(file):
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise StoreError(
                f"{folder} is in use by another study ({owner}); wait for it, or give another folder with --out"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
