"""Locks on files: only one process writes a study or a trial at a time. A lock ends with its process."""

import importlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from steepest.study.errors import StoreError
from steepest.study.records.disk import writing_to

POLL: Final = 0.05  # seconds between two tries

FAR: Final = 2**30  # the byte that is locked on Windows: one place whatever the file's length, past all that is read


def _acquire_on_windows(file: IO[Any]) -> None:
    """Lock the first byte. msvcrt locks from the file's position on, which differs between processes."""
    msvcrt: Any = importlib.import_module("msvcrt")
    position = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    os.lseek(file.fileno(), FAR, os.SEEK_SET)
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    finally:
        os.lseek(file.fileno(), position, os.SEEK_SET)


def _acquire_on_posix(file: IO[Any]) -> None:
    fcntl: Any = importlib.import_module("fcntl")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_acquire = _acquire_on_windows if sys.platform == "win32" else _acquire_on_posix


def acquire(file: IO[Any], patience: float = 0.0) -> bool:
    """Lock an open file until it is closed. Return whether that succeeded within so many seconds."""
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
    """Lock a folder for this process, or raise StoreError if another process has locked it."""
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
