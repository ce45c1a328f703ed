"""Lookup of a study's optimizers: in the library, in any module, or in a file of the user's."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from steepest import registry
from steepest.study.errors import UsageError
from steepest.study.optimizers import modules
from steepest.study.optimizers.external import ExternalOptimizer, signature
from steepest.study.optimizers.library import LibraryOptimizer
from steepest.study.optimizers.modules import HERE
from steepest.study.optimizers.source import OptimizerSource
from steepest.study.optimizers.wrapped import BASE, WrappedOptimizer, split


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Read `NAME[key=value,...]` into the optimizer's source and the given options.

    A value is a number, true, false, none, a word, or a tuple of these. An entry of a tuple keeps its own name.

    >>> parse("AdamW[lr=1e-3,beta2=0.99]")
    ('adamw', {'lr': 0.001, 'beta2': 0.99})
    """
    try:
        source, options = registry.read(text)
    except ValueError as error:
        raise UsageError(str(error)) from error
    wrapped = split(source)
    if wrapped is not None:
        cls, inner = wrapped
        name, others = parse(str(options.pop(BASE, inner)))
        return f"{cls.__name__.lower()}({name})", {**others, **options}
    name = canonical(source)
    return (name, options) if ":" in name else registry.expand(source, options)


def canonical(source: str) -> str:
    """Return the canonical form of a source: lower case for the library's names, `a.py:X` for `./a.py:X`."""
    wrapped = split(source)
    if wrapped is not None:
        cls, inner = wrapped
        return f"{cls.__name__.lower()}({canonical(inner)})"
    place, colon, name = (part.strip() for part in source.rpartition(":"))
    if colon and (not place or not name):
        raise UsageError(f"{source!r} names no optimizer; write MODULE:NAME or FILE.py:NAME")
    if colon:
        return f"{Path(place) if place.endswith('.py') else place}:{name}"
    if name.endswith(".py"):
        raise UsageError(f"{name} is a file; name the optimizer in it: {name}:NAME")
    try:
        return registry.find(name).__name__.lower()
    except registry.UnknownNameError as error:
        module, dot, last = name.rpartition(".")
        advice = f"; what is in a module is written MODULE:NAME, here {module}:{last}" if dot else ""
        raise UsageError(f"{error}{advice}") from None


def find(source: str) -> OptimizerSource:
    """Return the optimizer of this source."""
    wrapped = split(source)
    if wrapped is not None:
        cls, inner = wrapped
        return WrappedOptimizer(cls, find(inner))
    if ":" not in source:
        return LibraryOptimizer(registry.find(source).__name__.lower())
    place, _, name = source.rpartition(":")
    if place == HERE:
        return _handed_over(source, name)
    module = modules.load(source)
    target = getattr(module, name, None)
    if not callable(target):
        raise UsageError(modules.missing(source, module))
    signature(source, target)
    return ExternalOptimizer(source, target)


def texts(optimizers: Iterable[Any] | Mapping[str, Any], each: str) -> list[str]:
    """Return the texts of some optimizers, and register those that are classes or functions.

    Args:
        optimizers: texts, classes and functions of the parameters; or a mapping from labels to classes and functions.
        each: the word for the thing that has an optimizer of its own, such as `seed`.

    Raises:
        UsageError: one is an optimizer that is built already, or an object without a name and without a label.
    """
    if isinstance(optimizers, Mapping):
        return [give(label, maker) for label, maker in optimizers.items()]
    return [one if isinstance(one, str) else give(_name(one, each), one) for one in optimizers]


def _name(maker: Any, each: str) -> str:
    if isinstance(maker, torch.optim.Optimizer):
        raise UsageError(
            f"this {type(maker).__name__} is built already, and every {each} needs its own; give the class"
        )
    name = getattr(maker, "__name__", "")
    if not name.isidentifier():
        raise UsageError(f"{maker!r} has no name of its own; give a mapping: {{'a label': {maker!r}}}")
    return str(name)


def give(label: str, target: Callable[..., Any]) -> str:
    """Register a class or function under a label. Return the source that names it in this process."""
    if not label.strip() or re.search(r"[\[\]:]", label):
        raise UsageError(f"{label!r} cannot be a label; it must have letters or digits, and no colon or square bracket")
    if isinstance(target, torch.optim.Optimizer):
        raise UsageError(f"{label!r} is an optimizer that is built already; give its class {type(target).__name__}")
    if not callable(target):
        raise UsageError(f"{label!r} must be a class or a function of the parameters, not {target!r}")
    ours = registry.optimizers().get(label.lower())
    if target is ours:
        return label.lower()
    modules.HANDED_OVER[label] = target
    return f"{HERE}:{label}"


def _handed_over(source: str, name: str) -> OptimizerSource:
    if name not in modules.HANDED_OVER:
        raise UsageError(f"{name!r} was an object of the program that called compare; only that program can run it")
    return ExternalOptimizer(source, modules.HANDED_OVER[name])
