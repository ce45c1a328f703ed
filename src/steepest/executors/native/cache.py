"""Compiled kernels on disk: one folder per user, files named by all that made them, checked before they are loaded."""

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
"""A kernel's file ends with this and the SHA-256 of all before it, which a loader of shared libraries ignores."""


def obtain(identity: str, make: Callable[[Path], None], load: Callable[[Path], Loaded]) -> Loaded:
    """The shared library for ``identity``, loaded: from the cache, or made now.

    Any number of processes may ask for the same one at a time: each writes to a name of its own and renames. A file
    that is truncated or was not written by us is made anew. Where the cache cannot be used, because it is read-only or
    the disk is full or nothing may be executed there, a private temporary folder is, for as long as the process runs.

    Args:
        identity: all that decides the content.
        make: writes the library to the path that it is given.
        load: loads the library, or raises `OSError`.

    Raises:
        UnsupportedError: it cannot be made, or not be loaded.
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
    """Whether a complete library that we wrote lies at ``path``."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    size = len(MARK) + hashlib.sha256().digest_size
    return data[-size:] == _seal(data[:-size])


def _seal(data: bytes) -> bytes:
    return MARK + hashlib.sha256(data).digest()


def _made(make: Callable[[Path], None]) -> bytes:
    """What ``make`` writes, outside the cache: a compiler on a full disk fails for good, we can go elsewhere."""
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
    """The user's cache folder, if it is safe to load code from, then a private one."""
    try:
        folder = cache_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_private(folder.parent) and is_private(folder):
            yield folder
    except (OSError, RuntimeError):  # not writable, a file in its place, or no home directory
        pass
    yield private_folder()


def cache_folder() -> Path:
    """Where compiled kernels are kept: under XDG_CACHE_HOME, or ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))  # the XDG specification: a relative path is ignored
    return (base if base.is_absolute() else Path.home() / ".cache") / "steepest" / "kernels"


def is_private(folder: Path) -> bool:
    """Whether nobody else can put files into ``folder``."""
    found = folder.lstat()
    if not hasattr(os, "geteuid"):  # Windows: a user's folder is the user's own, and the mode says nothing
        return stat.S_ISDIR(found.st_mode)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


@cache
def private_folder() -> Path:
    """A folder of this process alone, removed when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="steepest-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child must not take it away
        shutil.rmtree(folder, ignore_errors=True)
