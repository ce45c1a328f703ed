"""Lookup of loggers: by name, or in a module or a file of the user's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from steepest.study import user_files
from steepest.study.errors import UsageError
from steepest.study.report.loggers.base import METHODS, Logger
from steepest.study.report.loggers.mlflow import MLflow
from steepest.study.report.loggers.tensorboard import TensorBoard
from steepest.study.report.loggers.wandb import WandB

LOGGERS: Final[Mapping[str, Callable[[Path], Logger]]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}
"""The loggers by name. Each is called with the folder that it writes into."""


def find(source: str, out: Path) -> tuple[Logger, Path]:
    """Return a logger and its folder, which is `out` with the logger's name.

    Args:
        source: a name of `LOGGERS`, `MODULE:NAME` or `FILE.py:NAME`, whose object is called with the folder.
        out: the folder of the export.

    Raises:
        UsageError: the logger does not exist, or lacks a method.
        ReportError: its package is not installed.
    """
    place, _, name = source.rpartition(":")
    folder = out / name
    return (_own(source, folder) if place else _named(name, folder)), folder


def _named(name: str, folder: Path) -> Logger:
    if name not in LOGGERS:
        raise UsageError(
            f"a logger is one of {', '.join(LOGGERS)}, or one of yours as MODULE:NAME or FILE.py:NAME, not {name!r}"
        )
    return LOGGERS[name](folder)


def _own(source: str, folder: Path) -> Logger:
    place, _, name = source.rpartition(":")
    make: Any = getattr(user_files.module_of(source, "logger"), name, None)
    if not callable(make):
        raise UsageError(f"{place} has no class or function {name!r}; a logger is one with {_methods()}")
    try:
        made = make(folder)
    except Exception as error:  # whatever the user's code raises
        raise UsageError(f"{source} stopped with {user_files.reason(error)} when it got its folder") from error
    return check(made)


def check(made: Any) -> Logger:
    """Return the logger; raise UsageError if it lacks a method."""
    lacking = [method for method in METHODS if not callable(getattr(made, method, None))]
    if lacking:
        raise UsageError(
            f"a {type(made).__name__} was given as a logger and lacks {', '.join(lacking)}; a logger has {_methods()}"
        )
    logger: Logger = made
    return logger


def _methods() -> str:
    return "begin_trial(trial), points(step, values) and end_trial(status, results): docs/protocol.md"
