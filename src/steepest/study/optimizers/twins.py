"""Twins: library classes that another source's class derives from, or that have the name of torch's class.

What a workload or the library declares for an optimizer (settings, search ranges, whether it takes a schedule) holds
for its twins too. Otherwise one rule would run at different rates, only because of its spelling.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from steepest import registry
from steepest.optimizer import Optimizer


def twin(target: Callable[..., Any]) -> type[Optimizer] | None:
    """Return the library's class that `target` is, derives from, or shares its name with if it is torch's.

    A function is its author's own choice of an optimizer and its options, so it has no twin.

    >>> twin(torch.optim.SGD)
    <class 'steepest.rules.sgd.SGD'>
    """
    for base in getattr(unwrapped(target), "__mro__", ()):
        ours = registry.optimizers().get(base.__name__.lower())
        if ours is not None and base in (ours, getattr(torch.optim, base.__name__, None)):
            return ours
    return None


def unwrapped(target: Callable[..., Any]) -> Callable[..., Any]:
    """Return the class or function inside a `functools.partial`, whose options appear in the signature."""
    return unwrapped(target.func) if isinstance(target, functools.partial) else target


def bound(target: Callable[..., Any]) -> Iterator[str]:
    """Yield the names of the options that a `functools.partial` has set."""
    if isinstance(target, functools.partial):
        yield from target.keywords
        yield from bound(target.func)
