"""Extraction of files from a Debian package, without installing it and without root."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from steepest.study.errors import DataError

LIMIT: Final = 180.0  # seconds for one apt or dpkg command


def extract(package: str, inside: Path, files: Sequence[str], folder: Path) -> None:
    """Copy files from the folder `inside` of a package into a folder."""
    with tempfile.TemporaryDirectory(prefix="deb-", dir=folder) as temporary:
        unpack(package, Path(temporary))
        for file in files:
            path = Path(temporary) / inside / file
            if not path.is_file():
                raise DataError(f"the package {package} holds no {inside / file}")
            path.replace(folder / file)


def unpack(package: str, folder: Path) -> None:
    """Download a package and unpack it into a folder."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise DataError(f"there is no {tool} on this machine")
    archive = _download(package, folder)
    _run(["dpkg-deb", "-x", str(archive), str(folder)], folder)
    archive.unlink()


def _download(package: str, folder: Path) -> Path:
    try:
        _run(["apt-get", "download", package], folder)
    except DataError:
        # Containers often come without apt's lists. Lists of our own, in our own folder, need no root.
        lists = _own_lists(folder)
        _run(["apt-get", *lists, "update"], folder)
        _run(["apt-get", *lists, "download", package], folder)
    archives = list(folder.glob(f"{package}_*.deb"))
    if not archives:
        raise DataError(f"apt-get downloaded no {package}")
    return archives[0]


def _own_lists(folder: Path) -> list[str]:
    lists, cache = folder / "lists", folder / "cache"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    (cache / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "Debug::NoLocking=1"]


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"`{' '.join(command)}` took longer than {LIMIT:.0f} seconds") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.startswith(("E:", "dpkg-deb:"))]
        raise DataError(lines[-1] if lines else f"`{' '.join(command)}` failed") from error
