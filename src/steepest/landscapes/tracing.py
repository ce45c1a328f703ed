"""From a surface and some optimizers to their paths."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch

from steepest import registry
from steepest.landscapes import sources as surface_sources
from steepest.landscapes.declaration import Point, Surface, Window
from steepest.landscapes.paths import UnsuitedError, Walk, try_step, walk
from steepest.landscapes.plane import Plane, plane_of, window_around
from steepest.landscapes.rates import Choice, choose
from steepest.landscapes.records import Path
from steepest.landscapes.traced import Traced
from steepest.study.errors import UsageError
from steepest.study.optimizers import schedules, sources
from steepest.study.optimizers.config import OptimizerConfig, parse_config

Optimizers = str | Callable[..., Any] | Iterable[str | Callable[..., Any]] | Mapping[str, Callable[..., Any]]

BUDGET: Final = 200
RATES: Final = 12

UNFED: Final = "it is fed with estimates of the curvature between its steps, and a surface makes none"


def trace(
    surface: Any,
    optimizers: Optimizers,
    *,
    budget: int = BUDGET,
    starts: int | Sequence[Any] = 1,
    lr: float | None = None,
    rates: int = RATES,
    seed: int = 0,
    window: Any = None,
) -> Traced:
    """Let optimizers walk on a surface, each with the best of the rates that it is tried with.

    Every optimizer gets the same starts, the same budget and the same noise. A step costs the gradients that it asks
    for: one of Adam's 1, one of SAM's 2, one of LBFGS's up to 25. Rates are tried on the same places of every
    optimizer's declared range, with its default, and scored by the final value; among equal scores the smallest rate is
    taken. Parameters are float64.

    Args:
        surface: a name, perhaps with options, `"ravine[condition=100]"`; `"FILE.py:NAME"`; or a function of a tensor of
            shape (2,) that returns a 0-dim tensor, which may have attributes `starts`, `minima` and `window`.
        optimizers: a name such as `"adam[beta1=0.5]"`, a class or a function of the parameters, or several of these; or
            a mapping from labels to classes or functions. A rate in brackets is taken as it is.
        budget: gradients that every path may take.
        starts: how many of the surface's own starts, and beyond those points drawn from its window; or points.
        lr: a rate for all optimizers that take one, without a search.
        rates: how many rates are tried for every optimizer, in addition to its default.
        seed: the seed of the noise, of drawn starts, and of optimizers that draw.
        window: ((left, right), (bottom, top)), the part of the plane that is drawn, instead of the surface's.

    Raises:
        UsageError: an unknown name or option, a function that is not a surface, a start from which nothing can be
            walked, or counts below 1.
    """
    found = surface_sources.find(surface)
    own_window = surface_sources.read_window(window) or found.window
    check_counts(budget=budget, rates=rates)
    points = starts_on(found, starts, seed)
    read, skipped = read_optimizers(optimizers)
    if not read and not skipped:
        raise UsageError("no optimizer is given; name some, such as adam and sgd")
    walked = [
        (chosen, choice, place, walk(found, chosen, start, budget=budget, seed=seed))
        for chosen, choice in chosen_of(found, read, points, skipped, budget=budget, rates=rates, seed=seed, lr=lr)
        for place, start in enumerate(points)
    ]
    plane = plane_of(found, [each[3] for each in walked])
    paths = tuple(path_of(plane, *each) for each in walked)
    return Traced(
        found, paths, tuple(skipped), points, budget, plane, window_of(found, plane, own_window, paths, points)
    )


def chosen_of(
    surface: Surface,
    configs: Iterable[OptimizerConfig],
    starts: Sequence[Point],
    skipped: list[tuple[str, str]],
    *,
    budget: int,
    rates: int,
    seed: int,
    lr: float | None,
) -> Iterator[tuple[OptimizerConfig, Choice]]:
    """Yield each optimizer that can walk on a surface with its rate. Add label and reason of the others to `skipped`.

    For the other arguments see `trace`.
    """
    for config in configs:
        try:
            try_step(surface, config, starts[0], seed)
            yield choose(surface, config, starts, budget=budget, points=rates, seed=seed, lr=lr)
        except UnsuitedError as error:
            skipped.append((config.label, str(error)))


def check_counts(**counts: Any) -> None:
    """Raise UsageError for a count that is not a whole number of at least 1."""
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise UsageError(f"{name} must be a whole number of at least 1, not {count!r}")


def starts_on(surface: Surface, starts: int | Sequence[Any], seed: int) -> tuple[Point, ...]:
    """Return the points that are meant: given ones, or so many of the surface's own and of drawn ones."""
    if not isinstance(starts, int):
        return surface_sources.read_points(surface, starts)
    check_counts(starts=starts)
    own = surface.starts[:starts]
    for point in own:
        surface_sources.check_start(surface, point)
    return (*own, *_drawn(surface, starts - len(own), seed))


def _drawn(surface: Surface, count: int, seed: int) -> tuple[Point, ...]:
    """Return points drawn from the surface's window, evenly."""
    if not count:
        return ()
    if surface.window is None or surface.size != 2:
        known = len(surface.starts)
        raise UsageError(f"{surface.name} has {known} starts and no window to draw others from; give points")
    low, high = torch.tensor(surface.window, dtype=torch.float64).T
    generator = torch.Generator().manual_seed(seed)
    drawn = low + (high - low) * torch.rand(count, 2, dtype=torch.float64, generator=generator)
    return surface_sources.read_points(surface, drawn.tolist())


def read_optimizers(optimizers: Optimizers) -> tuple[list[OptimizerConfig], list[tuple[str, str]]]:
    """Return the optimizers that can walk, and label and reason of those that no surface can feed."""
    configs: list[OptimizerConfig] = []
    skipped: list[tuple[str, str]] = []
    for text in _texts(optimizers):
        unfed = _unfed(text)
        if unfed:
            skipped.append((unfed, UNFED))
            continue
        config = parse_config(text, {})
        if config.schedule != schedules.CONSTANT:
            raise UsageError(f"{config.label}: paths on a surface have constant rates; leave the schedule out")
        if config.label in (each.label for each in configs):
            raise UsageError(f"{config.label} is given twice; give it once")
        configs.append(config)
    return configs, skipped


def _texts(optimizers: Optimizers) -> list[str]:
    is_one = isinstance(optimizers, str | torch.optim.Optimizer) or callable(optimizers)
    several: Any = [optimizers] if is_one else optimizers
    return sources.texts(several, "path")


def _unfed(text: str) -> str:
    """Return the name of a class that takes more than gradients; empty for any other text."""
    name = text.partition("[")[0].strip()
    known = registry.optimizers().get(name.lower())
    return known.__name__ if known is not None and known.takes_estimates else ""


def path_of(plane: Plane | None, config: OptimizerConfig, choice: Choice, start: int, walked: Walk) -> Path:
    """Return the path of an optimizer from a start, with its coordinates in a plane."""
    if plane is None:
        shown = np.stack([walked.evaluations.astype(np.float64), walked.positions[:, 0]], axis=1)
    else:
        shown = plane.coordinates(walked.positions)
    return Path(
        **vars(walked),
        label=config.label,
        config=config.document(),
        choice=choice,
        start=start,
        plane=shown,
    )


def window_of(
    surface: Surface, plane: Plane | None, own: Window | None, paths: Sequence[Path], starts: Sequence[Point]
) -> Window:
    """Return the window: the surface's own, or one that holds the paths, the starts and the minima."""
    if own is not None:
        return own
    held = [path.plane for path in paths]
    if plane is not None:
        held += [plane.coordinates(np.array(points)) for points in (starts, surface.minima) if points]
    return window_around(np.concatenate(held))
