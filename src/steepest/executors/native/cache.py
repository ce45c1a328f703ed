"""Compiled kernels on disk, in one folder per user.

A file is named by all that decides its content, and is checked before it is loaded.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

from ..base import UnsupportedError

Loaded = TypeVar("Loaded")

MARK = b"steepest"
"""Mark near the end of a kernel's file, before the library's SHA-256. A loader of shared libraries ignores both."""


def obtain(identity: str, make: Callable[[Path], None], load: Callable[[Path], Loaded]) -> Loaded:
    """Load the shared library for ``identity`` from the cache, or make it now.

    Any number of processes may ask for one library at a time: each writes to a name of its own and renames. A file that
    is truncated or was not written by us is made anew. The cache cannot be used if it is read-only, if the disk is full
    or if nothing may be executed there. A private temporary folder then replaces it for as long as the process runs.

    Args:
        identity: all that decides the content of the library.
        make: writes the library to a path.
        load: loads the library, or raises `OSError`.

    Raises:
        UnsupportedError: the library cannot be made, or not be loaded.
    """
    name, data = hashlib.sha256(identity.encode()).hexdigest() + ".so", b""
    for folder in _folders():
        path = folder / name
        try:
            if not is_intact(path):
                data = data or _made(make)
                _write(path, data + _seal(data))
            return load(path)
        except OSError as error:
            failure = error
    raise UnsupportedError(f"a compiled kernel cannot be written, or cannot be loaded: {failure}")


def is_intact(path: Path) -> bool:
    """Return whether ``path`` is a complete library that we wrote."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    size = len(MARK) + hashlib.sha256().digest_size
    return data[-size:] == _seal(data[:-size])


def _seal(data: bytes) -> bytes:
    return MARK + hashlib.sha256(data).digest()


def _made(make: Callable[[Path], None]) -> bytes:
    """Return the bytes that ``make`` writes to a temporary folder, outside the cache.

    A compiler on a full disk would fail for good, but these bytes can be written elsewhere.
    """
    with tempfile.TemporaryDirectory(prefix="steepest-") as folder:
        target = Path(folder, "kernel.so")
        make(target)
        return target.read_bytes()


def _write(path: Path, data: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="writing-") as folder:
        written = Path(folder, path.name)
        written.write_bytes(data)
        written.replace(path)


def _folders() -> Iterator[Path]:
    """Yield the user's cache folder, if it is safe to load code from, then a private folder."""
    try:
        folder = cache_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_private(folder.parent) and is_private(folder):
            yield folder
    except (OSError, RuntimeError):  # not writable, a file in its place, or no home directory
        pass
    yield private_folder()


def cache_folder() -> Path:
    """Return the folder of compiled kernels, under XDG_CACHE_HOME or ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))  # the XDG specification: a relative path is ignored
    return (base if base.is_absolute() else Path.home() / ".cache") / "steepest" / "kernels"


def is_private(folder: Path) -> bool:
    """Return whether nobody else can put files into ``folder``."""
    found = folder.lstat()
    if not hasattr(os, "geteuid"):  # Windows: a user's folder is the user's own, and the mode says nothing
        return stat.S_ISDIR(found.st_mode)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


@cache
def private_folder() -> Path:
    """Make a folder for this process only, which is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="steepest-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child must not take it away
        shutil.rmtree(folder, ignore_errors=True)
