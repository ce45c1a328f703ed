"""Files and modules of the user's: workloads, optimizers and loggers that lie next to their own code."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from steepest.study import source_code, typed_code
from steepest.study.errors import StudyError, UsageError

LOADING: Final[list[Path]] = []
"""The files that are being loaded, innermost last."""


def module_of(source: str, purpose: str) -> ModuleType:
    """Return the module before the colon of `FILE.py:NAME` or `MODULE:NAME`.

    Args:
        source: the text as it was given.
        purpose: the word for what it names, such as "optimizer", for an error.

    Raises:
        UsageError: the file or module does not exist, or stops while it is run.
    """
    place, _, name = source.rpartition(":")
    if place.endswith(".py"):
        return load(place)
    try:
        return importlib.import_module(place)
    except ImportError as error:
        why = f"{error}; install it, or name a file of yours with its ending, {place.replace('.', '/')}.py:{name}"
        raise UsageError(f"cannot import {place!r} for the {purpose} {source!r}: {why}") from error
    except Exception as error:  # whatever a module does when it is imported
        why = f"it stopped with {reason(error)}"
        raise UsageError(f"cannot import {place!r} for the {purpose} {source!r}: {why}") from error


def load(text: str) -> ModuleType:
    """Run a Python file once and return it as a module. Like a script, it may import the files next to it."""
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"there is no file {text}; the folder is {Path.cwd()}")
    return _load(path.resolve())


def reason(error: BaseException, path: Path | None = None) -> str:
    """Return a one-line description of an error in the user's code, with the last line of `path` that was reached."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if path is not None and Path(frame.filename) == path]
    return f"{text} (line {lines[-1]} of {path})" if lines else text


def file_of(function: Callable[..., Any]) -> str | None:
    """Return the file that a function is written in, None for one without a file."""
    try:
        file = inspect.getsourcefile(function)
    except (TypeError, OSError):  # OSError of a class that was typed into a session
        return None
    return file if typed_code.has_file(file) else None


def code_digest(function: Callable[..., Any]) -> str:
    """Return the SHA-256 of the code in a function's file. A function without a file is known by its lines."""
    file = file_of(function)
    return source_code.file_digest(file) if file else typed_code.digest(function)


@cache
def _load(path: Path) -> ModuleType:
    # The module's name is no word that an import statement could mean: a file called queue.py hides no other module.
    name = f"{path.stem}@{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file; its name must end in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # its classes must be found by their names
    folder = str(path.parent)
    sys.path.insert(0, folder)
    LOADING.append(path)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, StudyError) or not isinstance(error, Exception | SystemExit):
            raise
        advice = "; put what a script does under: if __name__ == '__main__'" if isinstance(error, SystemExit) else ""
        raise UsageError(f"{path} stopped with {reason(error, path)}{advice}") from error
    finally:
        LOADING.pop()
        sys.path.remove(folder)
    if folder not in sys.path:
        sys.path.append(
            folder
        )  # last: its functions may import from there too, and nothing that is installed is hidden
    return module
