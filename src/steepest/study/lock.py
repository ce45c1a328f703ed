"""A lock on a folder, so that two processes do not write one study at once. It vanishes with the process."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from steepest.study.disk import writing_to
from steepest.study.errors import StoreError

if sys.platform == "win32":
    import msvcrt

    def _acquire(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _acquire(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process, or raise StoreError when another has it."""
    path = folder / ".lock"
    with writing_to(path):
        file = path.open("a+", encoding="utf-8")
    with file:
        try:
            _acquire(file)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise StoreError(
                f"{folder} is in use by another study ({owner}); wait for it, or give another folder with --out"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
