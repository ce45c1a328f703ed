"""Modules that hold optimizers: imported modules, files of the user's, and objects given in Python."""

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import torch

from steepest import registry
from steepest.optimizer import Optimizer
from steepest.study import source_code, typed_code, user_files
from steepest.study.optimizers import settings, twins

HERE: Final = "here"
"""The text before the colon of the source of an object given in Python, which only this process has."""


HANDED_OVER: dict[str, Callable[..., Any]] = {}


def load(source: str) -> ModuleType:
    """Return the module or the user's file that a source names before its colon."""
    place, _, name = source.rpartition(":")
    if place == HERE:
        return module_of(twins.unwrapped(HANDED_OVER[name]))
    with settings.kept():  # an optimizer's module must not change how the others compute
        return user_files.module_of(source, "optimizer")


def module_of(target: Callable[..., Any]) -> ModuleType:
    """Return the module of a class or function.

    Of one that nobody can import, as from a script under `runpy`, it is an empty module of its name and file.
    """
    name = target.__module__
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    written = [target, *vars(target).values()] if inspect.isclass(target) else [target]
    files = (user_files.file_of(each) for each in written if inspect.isfunction(each) and each.__module__ == name)
    module.__file__ = next(filter(None, files), None)
    return module


def missing(source: str, module: ModuleType) -> str:
    """Return a sentence with the optimizers of a module, for a source whose name it lacks."""
    place, _, name = source.rpartition(":")
    offered = _offered(module)
    there = f" (it has: {', '.join(offered)})" if offered else ""
    if hasattr(module, name):
        return (
            f"{source} is a {type(getattr(module, name)).__name__} and no class or function; name one of {place}{there}"
        )
    return f"{place} has no class or function {name!r}{registry.suggest(name, offered)}{there}"


def _offered(module: ModuleType) -> list[str]:
    """Return the names that may be meant: the module's optimizers, and the functions that it defines itself."""
    bases = (torch.optim.Optimizer, Optimizer)
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    classes = {name: value for name, value in public.items() if inspect.isclass(value) and value not in bases}
    optimizers = [name for name, value in classes.items() if issubclass(value, torch.optim.Optimizer)]
    functions = {name: value for name, value in public.items() if inspect.isfunction(value)}
    return sorted([*optimizers, *(name for name, value in functions.items() if value.__module__ == module.__name__)])


def file_digest(module: ModuleType) -> str:
    """Return the SHA-256 of a module's file. A module without a file is known by its name."""
    file = getattr(module, "__file__", None)
    return source_code.file_digest(file) if typed_code.has_file(file) else module.__name__


def typed_digest(module: ModuleType, target: Callable[..., Any]) -> str:
    """Return the digest of code that was typed into a session; empty for a module with a file."""
    file = getattr(module, "__file__", None)
    return "" if typed_code.has_file(file) else typed_code.digest(twins.unwrapped(target))
