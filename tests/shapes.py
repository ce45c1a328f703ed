"""Which shapes an optimizer's class takes, ours or torch's, found out by trying."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache

import torch

Shape = tuple[int, ...]
Class = Callable[..., torch.optim.Optimizer]


@cache
def takes(cls: Class, shape: Shape) -> bool:
    """Whether a class can be made with a parameter of this shape, and its own rule runs there."""
    rule = getattr(cls, "rule", None)
    if rule is not None and rule.kind == "matrix" and len(shape) != 2:
        return False
    try:
        cls([torch.zeros(shape)])
    except ValueError:
        return False
    return True


def fitted(cls: Class, shape: Shape) -> Shape:
    """The shape itself or, for a class that takes matrices alone, the matrix of its last dimension."""
    return shape if takes(cls, shape) else (math.prod(shape[:-1]), *(shape[-1:] or (1,)))


@cache
def steps_on(cls: Class, shape: Shape) -> bool:
    """Whether it can step as well: torch's Adafactor divides by the number of elements."""
    p = torch.zeros(shape)
    p.grad = torch.zeros(shape)
    try:
        cls([p]).step()
    except ZeroDivisionError:
        return False
    except (RuntimeError, TypeError):
        return True  # it wants a closure, or sparse gradients, and not another shape
    return True


def comparable(cls: Class, shapes: Iterable[Shape]) -> list[Shape]:
    """The shapes, fitted, on which torch's class steps."""
    return [shape for shape in (fitted(cls, shape) for shape in shapes) if 0 not in shape or steps_on(cls, shape)]
