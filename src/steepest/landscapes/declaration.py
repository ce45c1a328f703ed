"""Surfaces: functions of a few numbers that optimizers walk on, and all that is needed to draw them."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from steepest import registry
from steepest.study import seeds
from steepest.study.errors import UsageError

Point = tuple[float, ...]
"""Every number of a surface's parameters, one parameter after the other."""

Window = tuple[tuple[float, float], tuple[float, float]]
"""The ends of the first coordinate that is drawn, and of the second."""

PLAIN: Final = ((2,),)
"""The parameters of most surfaces: one vector of two numbers."""


@dataclass(frozen=True)
class Option:
    """A number that a surface takes.

    Attributes:
        default: the usual value.
        meaning: a few words.
        low, high: the smallest and the largest value that is allowed.
    """

    default: float
    meaning: str
    low: float
    high: float

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        return f"a number from {self.low:g} to {self.high:g}"

    def validated(self, name: str, value: Any) -> float:
        """Return a value as a float. Raise UsageError if it is not allowed."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high:
            raise UsageError(f"{name} must be {self.allowed} ({self.meaning}), not {value!r}")
        return float(value)


@dataclass(frozen=True)
class Draw:
    """The noise of one step on a stochastic surface. All evaluations of a step see the same noise.

    Attributes:
        step: the number of the step, from 0.
        seed: the number of the noise. Equal seeds give all optimizers equal noise.
    """

    step: int
    seed: int

    @property
    def generator(self) -> torch.Generator:
        """A fresh generator for this step."""
        return seeds.generator("order", self.seed, "surface", self.step)


@dataclass(frozen=True, eq=False)
class Surface:
    """A function, and all that is needed to walk on it and to draw it.

    Attributes:
        value: function of the parameters, tensors of the `shapes`, that returns a 0-dim tensor. It is drawn. A surface
            of one vector may take further dimensions behind the first, (2, n, m), and then returns a value for each of
            them, (n, m): `is_elementwise`.
        formula: the function in LaTeX.
        source: the paper or book that the function comes from.
        starts: points to start from, the first one by default.
        minima: the points with the lowest value; empty where they are not single points.
        window: the part of the plane that is drawn; None if it is made to fit the paths.
        shapes: the shapes of the parameters.
        lowest: the lowest value, where `minima` is empty; None if nobody knows it.
        seen: function of a `Draw` and the parameters, the loss that an optimizer sees on a stochastic surface.
        box: ends between which every number is put back after each step; a start must lie between them too.
        points: the most points along each side of a drawn grid, where values take long; None is as many as look well.
        note: a remark for readers.
        is_elementwise: whether `value` takes further dimensions.
        name, title, options: filled in where the surface is found.
    """

    value: Callable[..., Tensor]
    formula: str
    source: str
    starts: tuple[Point, ...]
    minima: tuple[Point, ...] = ()
    window: Window | None = None
    shapes: tuple[tuple[int, ...], ...] = PLAIN
    lowest: float | None = None
    seen: Callable[..., Tensor] | None = None
    box: tuple[float, float] | None = None
    points: int | None = None
    note: str = ""
    is_elementwise: bool = True
    name: str = ""
    title: str = ""
    options: Mapping[str, Any] | None = None

    @property
    def label(self) -> str:
        """The name, and in brackets the options that are not the usual ones."""
        return registry.labelled(self.name, self.options or {})

    @cached_property
    def size(self) -> int:
        """The count of numbers in all parameters."""
        return sum(math.prod(shape) for shape in self.shapes)

    @cached_property
    def floor(self) -> float | None:
        """The lowest value; None if nobody knows it."""
        return self.at(self.minima[0]) if self.minima else self.lowest

    def split(self, flat: Tensor) -> list[Tensor]:
        """Return the parameters that a vector of all numbers holds."""
        parts = torch.split(flat, [math.prod(shape) for shape in self.shapes])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def at(self, point: Point) -> float:
        """Return the value at a point."""
        return float(self.value(*self.split(torch.tensor(point, dtype=torch.float64))))

    def values(self, points: Tensor) -> Tensor:
        """Return the values (n,) at points (n, d), which may differ from those of single points in their last bits.

        A function that torch cannot run on many points at once is called for each of them.
        """
        if self.is_elementwise:
            return self.value(points.T)
        try:
            return torch.vmap(lambda flat: self.value(*self.split(flat)))(points)
        except (RuntimeError, ValueError):
            return torch.stack([self.value(*self.split(point)).detach() for point in points])

    def loss(self, draw: Draw, params: list[Tensor]) -> Tensor:
        """Return the loss that an optimizer sees at a step."""
        return self.value(*params) if self.seen is None else self.seen(draw, *params)


@dataclass(frozen=True, eq=False)
class Declared:
    """A surface by name: the function that makes it, and its options."""

    name: str
    title: str
    options: Mapping[str, Option]
    function: Callable[..., Surface]

    def __call__(self, **given: Any) -> Surface:
        """Return the surface with these options; the others keep their defaults."""
        for name in given:
            if name not in self.options:
                hint = registry.suggest(name, self.options)
                known = f"it has: {', '.join(self.options)}" if self.options else "it has none"
                raise UsageError(f"{self.name} has no option {name!r}{hint} ({known})")
        values = {
            name: option.validated(f"{name} of {self.name}", given.get(name, option.default))
            for name, option in self.options.items()
        }
        unusual = {name: value for name, value in values.items() if value != self.options[name].default}
        return replace(self.function(**values), name=self.name, title=self.title, options=unusual)


def surface(**options: Option) -> Callable[[Callable[..., Surface]], Declared]:
    """Declare a function's result as a surface, with the options that the function takes.

    The first line of the function's docstring is the title.
    """

    def declare(function: Callable[..., Surface]) -> Declared:
        name = function.__name__.replace("_", "-")
        title = inspect.cleandoc(function.__doc__ or name).partition("\n")[0].rstrip(".")
        return Declared(name, title, options, function)

    return declare
