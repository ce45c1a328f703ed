"""Writing so that it is really written, and saying clearly when it cannot be."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from steepest.study.errors import StoreError


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn what the system says about a file that cannot be written into an error that tells what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}. Finished trials are kept: "
            "make room or give another folder with --out, then run the same command again."
        ) from error


@contextmanager
def reading_from(path: Path) -> Iterator[None]:
    """Turn what the system says about a file that cannot be read into one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error


def remove_empty(folder: Path) -> None:
    """Delete a folder in which there is nothing."""
    with suppress(OSError):
        folder.rmdir()


def flush(file: IO[bytes]) -> None:
    """Return when what was written is on the disk, not only on its way there."""
    file.flush()
    os.fsync(file.fileno())
