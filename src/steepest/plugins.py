"""Optimizers of other installed packages, which declare them as entry points of the group ``steepest.rules``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from importlib import metadata
from types import ModuleType
from typing import Any

from .optimizer import Optimizer

GROUP = "steepest.rules"
"""Group of the entry points. Each is a subclass of `Optimizer`, or a module with some."""


class PluginWarning(UserWarning):
    """Warning about an optimizer of another package that is left out."""


def plain(name: str) -> str:
    """Return a name as the registry has it: in lower case, without ``-``, ``_`` and spaces."""
    return re.sub(r"[-_\s]", "", name).lower()


def own_classes(module: ModuleType) -> list[type[Optimizer]]:
    """Return the optimizers that a module defines; imported ones do not count."""
    own = (c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__)
    return [c for c in own if issubclass(c, Optimizer)]


def optimizers(taken: Mapping[str, type[Optimizer]]) -> dict[str, type[Optimizer]]:
    """Return the optimizers of other packages by name.

    An entry point that cannot be imported is left out with a `PluginWarning`, and so is a class whose name is taken.

    Args:
        taken: the library's own names.
    """
    found: dict[str, type[Optimizer]] = {}
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda p: (_package(p), p.name)):
        for cls in _classes(point):
            name = plain(cls.__name__)
            holder = taken.get(name, found.get(name, cls))
            if holder is cls:
                found[name] = cls
            else:
                problem = f"has the class {cls.__name__}, but {name!r} is {_place(holder)}; that one is used"
                _warn(point, f"{problem}. Rename yours")
    return found


def warn_of_alias(alias: str, cls: type[Optimizer], holder: type[Optimizer]) -> None:
    """Warn of an alias of another package's class that is another optimizer's name."""
    problem = f"has the alias {alias!r}, but that is {_place(holder)}, which is used; rename the alias"
    warnings.warn(f"{_place(cls)} {problem}", PluginWarning, stacklevel=2)


def _place(cls: type[Optimizer]) -> str:
    return f"{cls.__module__}.{cls.__name__}"


def _classes(point: metadata.EntryPoint) -> Iterator[type[Optimizer]]:
    try:
        loaded: Any = point.load()
    except Exception as error:  # whatever the other package raises
        _warn(point, f"cannot be imported ({type(error).__name__}: {error}); its optimizers are left out")
        return
    classes = own_classes(loaded) if isinstance(loaded, ModuleType) else [loaded]
    right = [c for c in classes if isinstance(c, type) and issubclass(c, Optimizer)]
    if not right:
        _warn(point, "must be a subclass of steepest.Optimizer, or a module that defines one; it is left out")
    yield from right


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else ""


def _warn(point: metadata.EntryPoint, problem: str) -> None:
    place = f"{point.name} = {point.value} of {_package(point) or 'an unknown package'}"
    warnings.warn(f"the entry point {place} ({GROUP}) {problem}", PluginWarning, stacklevel=2)
