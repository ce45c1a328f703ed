"""Lookup of surfaces: by name with options, in a file of the user's, or a function."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from steepest import registry
from steepest.landscapes.declaration import Declared, Point, Surface, Window
from steepest.landscapes.surfaces import surfaces
from steepest.study import user_files
from steepest.study.errors import UsageError
from steepest.study.suggest import choices

USUAL_START: Final = (-1.5, 1.0)
"""The start on a function that names none."""

ADVICE: Final = "a surface is a function of one tensor of two numbers that returns one number: def f(p): x, y = p; ..."


def find(what: Any) -> Surface:
    """Return a surface.

    Args:
        what: a name, perhaps with options, such as `"ravine[condition=100,rotation=30]"`; `"FILE.py:NAME"`; a function
            of a tensor of shape (2,); or a `Surface`.

    Raises:
        UsageError: the surface does not exist, or it cannot be walked on.
    """
    if isinstance(what, Surface):
        return what if what.name else replace(what, name="surface", title=what.title or "Surface")
    if isinstance(what, Declared):
        return what()
    if isinstance(what, str):
        return _named(what)
    if callable(what):
        return _of_function(what, getattr(what, "__name__", type(what).__name__))
    raise UsageError(f"a surface is a name, FILE.py:NAME or a function, not {what!r}")


def _named(text: str) -> Surface:
    try:
        name, given = registry.read(text)
    except ValueError as error:
        raise UsageError(str(error).replace("adam[lr=0.01]", "ravine[condition=100]")) from error
    if name.endswith(".py"):
        raise UsageError(f"{name} is a file; name the function in it: {name}:NAME")
    if ".py:" in name:
        return _in_file(name, given)
    known = surfaces()
    plain = name.lower().replace("_", "-")
    if plain not in known:
        raise UsageError(choices("surface", name, known) + " Or give a function of yours: FILE.py:NAME")
    return known[plain](**given)


def declared(text: str) -> tuple[Declared, dict[str, Any]]:
    """Return the declaration of a surface with options, and the options that are given. Raise UsageError for others."""
    made = find(text)
    name, given = registry.read(text)
    target = surfaces().get(made.name)
    if target is None or ":" in name:
        raise UsageError(f"{name} has no options to draw over; take one of {', '.join(_with_options())}")
    return target, given


def _with_options() -> list[str]:
    return [name for name, each in surfaces().items() if each.options]


def _in_file(source: str, given: dict[str, Any]) -> Surface:
    file, _, name = source.rpartition(":")
    module = user_files.load(file)
    target = getattr(module, name, None)
    if isinstance(target, Declared):
        return target(**given)
    if given:
        raise UsageError(f"{source} takes no options; put @surface(...) above it to declare some: docs/landscapes.md")
    if isinstance(target, Surface):
        return find(target)
    if not callable(target):
        own = [key for key, value in vars(module).items() if callable(value) and value.__module__ == module.__name__]
        raise UsageError(f"{file} has no function {name!r}{registry.suggest(name, own)}; {ADVICE}")
    return _of_function(target, f"{Path(file).stem}:{name}")


def _of_function(function: Callable[..., Any], name: str) -> Surface:
    """Return a user's function as a surface; it may have attributes `starts`, `minima` and `window`."""
    points = {key: tuple(map(_point, getattr(function, key, ()))) for key in ("starts", "minima")}
    made = Surface(
        value=function,
        formula="",
        source="",
        starts=points["starts"] or (USUAL_START,),
        minima=points["minima"],
        window=read_window(getattr(function, "window", None)),
        is_elementwise=False,
        name=name,
        title=name,
    )
    _check_function(made, function)
    return made


def read_points(surface: Surface, points: Sequence[Any]) -> tuple[Point, ...]:
    """Return the points of a call, checked: as many numbers as the surface has, finite, and a value that is finite."""
    found = tuple(map(_point, points))
    if not found:
        raise UsageError("no start is given; give at least one, or leave starts out")
    for point in found:
        check_start(surface, point)
    return found


def check_start(surface: Surface, start: Point) -> None:
    """Raise UsageError for a start from which nothing can be walked."""
    if len(start) != surface.size:
        raise UsageError(f"a start on {surface.name} has {surface.size} numbers, and {start} has {len(start)}")
    if not all(map(math.isfinite, start)):
        raise UsageError(f"the start {spelled(start)} is not finite; give finite numbers")
    if surface.box and not all(surface.box[0] <= number <= surface.box[1] for number in start):
        low, high = surface.box
        raise UsageError(
            f"the start {spelled(start)} is outside of {surface.name}; its numbers are {low:g} to {high:g}"
        )
    value = surface.at(start)
    if not math.isfinite(value):
        raise UsageError(
            f"the start {spelled(start)} is outside of the domain of {surface.name}, whose value there is {value}; "
            "give a start where the value is finite"
        )


def spelled(point: Point) -> str:
    """Return a point as a reader expects it; only the first numbers of many."""
    shown = ", ".join(f"{number:.4g}" for number in point[:4])
    return f"({shown}, ...)" if len(point) > 4 else f"({shown})"


def read_window(window: Any) -> Window | None:
    """Return a window, ((left, right), (bottom, top)), checked; None stays."""
    if window is None:
        return None
    try:
        (left, right), (bottom, top) = window
        ends = tuple(map(float, (left, right, bottom, top)))
    except (TypeError, ValueError):
        ends = (math.nan,) * 4
    if not (-math.inf < ends[0] < ends[1] < math.inf and -math.inf < ends[2] < ends[3] < math.inf):
        raise UsageError(
            f"a window is ((left, right), (bottom, top)) with left < right and bottom < top, not {window!r}"
        )
    return (ends[0], ends[1]), (ends[2], ends[3])


def _point(point: Any) -> Point:
    try:
        return tuple(float(number) for number in torch.as_tensor(point, dtype=torch.float64).flatten())
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"a point is a list of numbers, such as (-1.5, 1), not {point!r}") from error


def _check_function(surface: Surface, function: Callable[..., Any]) -> None:
    """Raise UsageError for a function that is not one of two numbers with a gradient."""
    start = surface.starts[0]
    check = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    if len(start) != surface.size:
        raise UsageError(f"{surface.name} starts at {spelled(start)}; a start has two numbers")
    try:
        value = function(check)
    except Exception as error:  # whatever the user's code raises
        file = user_files.file_of(function)
        why = user_files.reason(error, Path(file) if file else None)
        raise UsageError(f"{surface.name} stopped with {why} at {spelled(start)}; {ADVICE}") from error
    if not isinstance(value, Tensor) or value.shape != ():
        what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(f"{surface.name} must return one number as a 0-dim tensor; it returned {what}")
    if not value.requires_grad:
        raise UsageError(
            f"the value of {surface.name} has no gradient: it must be computed from its argument by torch's "
            "differentiable operations, without .item(), .detach(), float() or NumPy"
        )
