"""Durable writing: data reach the disk, and an error names the cause and the remedy."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from steepest.study.errors import StoreError


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn an OSError about a file that cannot be written into a StoreError that names the remedy."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}. Finished trials are kept: "
            "make room or give another folder with --out, then run the same command again."
        ) from error


@contextmanager
def reading_from(path: Path) -> Iterator[None]:
    """Turn an OSError about a file that cannot be read into a StoreError of one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error


def remove_empty(folder: Path) -> None:
    """Delete an empty folder."""
    with suppress(OSError):
        folder.rmdir()


def flush(file: IO[bytes]) -> None:
    """Wait until the written data of a file are on the disk."""
    file.flush()
    os.fsync(file.fileno())
