"""Checks of the installation: the parts that are there, the parts that are missing, and advice."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import torch

from steepest.executors.base import UnsupportedError
from steepest.executors.native.compiler import find_compiler
from steepest.study.data import fashion_mnist
from steepest.study.errors import DataError
from steepest.study.records import machine

STUDY_PACKAGES: Final = ("numpy", "scipy", "scikit-learn", "typer", "rich", "plotly", "matplotlib", "jinja2")
LITTLE_SPACE: Final = 1.0  # GiB


@dataclass(frozen=True)
class Check:
    """The result of one check. `advice` says what to do when it is not `good`."""

    name: str
    found: str
    good: bool = True
    advice: str = ""


def examine(folder: Path) -> Iterator[Check]:
    """Yield the results of the checks; `folder` is the folder for studies."""
    yield from _versions()
    yield _machine()
    yield _threads()
    yield _compiler()
    yield _data()
    yield from _disk(folder)


def _versions() -> Iterator[Check]:
    versions = machine.versions()
    yield Check("steepest", f"{versions['steepest']} ({machine.PACKAGE})")
    yield Check("python", versions["python"])
    yield Check("torch", versions["torch"])
    packages = {name: _version(name) for name in STUDY_PACKAGES}
    missing = [name for name, version in packages.items() if version is None]
    listed = ", ".join(f"{name} {version or 'missing'}" for name, version in packages.items())
    yield Check("study packages", listed, not missing, 'pip install "steepest[study]"')


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> Check:
    facts = machine.machine()
    memory = f"{facts['memory_gib']} GiB of memory" if facts["memory_gib"] else "memory unknown"
    return Check("machine", f"{facts['cpu']}, {facts['cores']} cores, {memory}")


def _threads() -> Check:
    threads, cores = torch.get_num_threads(), machine.cores()
    advice = f"more threads than cores slow training down: set OMP_NUM_THREADS={cores}"
    return Check("threads", f"{threads} for {cores} cores", threads <= cores, advice)


def _compiler() -> Check:
    try:
        command = find_compiler().command[0]
    except UnsupportedError as error:
        return Check("C compiler", str(error), False, "without one, optimizers run on the foreach executor")
    return Check("C compiler", shutil.which(command) or command)


def _data() -> Check:
    try:
        folder = fashion_mnist.find()
        if folder is not None:
            fashion_mnist.read(folder)
    except DataError as error:
        return Check("fashion-mnist", str(error), False, "studies on it stop with this error")
    advice = "steepest data fetch fashion-mnist"
    return Check("fashion-mnist", f"{folder}, SHA-256 right" if folder else "not found", folder is not None, advice)


def _disk(folder: Path) -> Iterator[Check]:
    free = shutil.disk_usage(folder).free / 2**30
    yield Check("disk", f"{free:.1f} GiB free in {folder}", free > LITTLE_SPACE, "make room")
    try:
        with tempfile.TemporaryFile(dir=folder):
            yield Check("writable", f"{folder} takes new files")
    except OSError as error:
        yield Check("writable", f"{folder}: {error.strerror}", False, "work in another folder, or use --out")
