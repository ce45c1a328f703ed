"""Downloading data files from their publisher, or from Debian's package. Every attempt has a time limit.

A file is downloaded under a temporary name, checked, and only then renamed: what bears a data file's name is whole.
"""

import logging
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Final

from steepest.study.data import debian
from steepest.study.errors import DataError

PUBLISHERS: Final = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
)
PATIENCE: Final = 15.0  # seconds without a byte
LIMIT: Final = 300.0  # seconds for one file
CHUNK: Final = 1 << 16

DEBIAN_PACKAGE: Final = "dataset-fashion-mnist"
DEBIAN_FOLDER: Final = Path("usr/share/datasets/fashion-mnist")

Check = Callable[[str, Path], object]
Source = Callable[[Sequence[str], Path], None]  # puts the named files into a folder

_log = logging.getLogger(__name__)


class FetchError(DataError):
    """No source delivered the files."""


def fetch(names: Sequence[str], folder: Path, check: Check) -> None:
    """Put the named files (as .gz) into a folder. `check(name, path)` raises DataError for a wrong file."""
    _make(folder)
    failures = []
    for place, source in _sources().items():
        _log.info("getting %d files from %s", len(names), place)
        try:
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as temporary:
                _deliver(names, source, Path(temporary), folder, check)
            return
        except (DataError, OSError, HTTPException) as error:
            failures.append(f"{place}: {_reason(error)}")
            _log.info("%s", failures[-1])
    raise FetchError("no source could deliver it: " + "; ".join(failures))


def download(url: str, path: Path) -> None:
    """Save a URL's content to a file. Raise an error when the download stalls, takes too long or ends early."""
    deadline = time.monotonic() + LIMIT
    received = 0
    with urllib.request.urlopen(url, timeout=PATIENCE) as response, path.open("wb") as file:
        promised = response.headers.get("Content-Length")
        while chunk := response.read(CHUNK):
            file.write(chunk)
            received += len(chunk)
            if time.monotonic() > deadline:
                raise DataError(f"{url} took longer than {LIMIT:.0f} seconds")
    if promised is not None and received != int(promised):
        raise DataError(f"{url} ended after {received:,} of {int(promised):,} bytes")


def _sources() -> dict[str, Source]:
    official: dict[str, Source] = {base: partial(_from_publisher, base) for base in PUBLISHERS}
    return official | {f"Debian's package {DEBIAN_PACKAGE}": partial(debian.extract, DEBIAN_PACKAGE, DEBIAN_FOLDER)}


def _from_publisher(base: str, files: Sequence[str], folder: Path) -> None:
    for file in files:
        download(f"{base}/{file}", folder / file)


def _deliver(names: Sequence[str], source: Source, temporary: Path, folder: Path, check: Check) -> None:
    source([f"{name}.gz" for name in names], temporary)
    for name in names:
        check(name, temporary / f"{name}.gz")
    for name in names:
        (temporary / f"{name}.gz").replace(folder / f"{name}.gz")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FetchError(f"cannot write into {folder}: {error.strerror}; give another with --data-dir") from error


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    if isinstance(error, urllib.error.URLError):
        return str(getattr(error.reason, "strerror", None) or error.reason)
    return str(error)
