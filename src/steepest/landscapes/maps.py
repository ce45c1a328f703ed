"""Maps: where an optimizer ends from every start, and how fast it is for every pair of options."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from steepest.fields import Search
from steepest.landscapes.declaration import Declared, Option, Point, Surface
from steepest.landscapes.paths import BEYOND, Array, UnsuitedError, Walk, walk
from steepest.landscapes.rates import Choice
from steepest.landscapes.records import TARGET
from steepest.landscapes.together import is_walked_together, walk_together
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.planning.search import Range
from steepest.study.suggest import choices

ELSEWHERE: Final = -1
LOST: Final = -2
NEAR: Final = 0.02
"""A path is at a minimum if it is nearer to it than this share of the window's width."""


@dataclass(frozen=True, eq=False)
class BasinMap:
    """The minimum in which an optimizer ends, from every start of a grid.

    Attributes:
        label, choice: the optimizer and its rate.
        x, y: (n,) the coordinates of the starts, the middles of equal parts of the window.
        minimum: (n, n) by y and x, the place of the minimum among those of the surface; `ELSEWHERE` for a path that
            ended near none of them, `LOST` for one whose numbers were not finite or too large.
        evaluations: (n, n) gradients after which a path stayed near the minimum in which it ended; NaN for others.
        is_together: whether all starts were walked from at once.
    """

    label: str
    choice: Choice
    x: Array
    y: Array
    minimum: NDArray[np.int64]
    evaluations: Array
    is_together: bool


def basin_map(
    surface: Surface, config: OptimizerConfig, choice: Choice, *, budget: int, together: int, single: int, seed: int
) -> BasinMap:
    """Return the map of an optimizer over the surface's window.

    A rule that acts on each number by itself, on a surface without noise, walks from all starts at once: they are one
    parameter of shape (2, n * n), and the gradient of the sum of all values is that of each. Any other optimizer walks
    from one start after the other.

    Args:
        surface: a surface of two numbers, with minima and a window.
        config, choice: the optimizer with its rate.
        budget: gradients of every path.
        together: starts along each side, for an optimizer that walks from all at once.
        single: starts along each side, for any other.
        seed: the seed of the noise.
    """
    if surface.size != 2 or not surface.minima or surface.window is None:
        raise UsageError(f"a map of basins needs two numbers, minima and a window, which {surface.name} has not all")
    is_together = is_walked_together(surface, config)
    count = together if is_together else single
    x, y = (low + (np.arange(count) + 0.5) / count * (high - low) for low, high in surface.window)
    starts = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    ends = _Ends(surface, starts)
    if is_together:
        for evaluation, positions, values in walk_together(surface, config, starts, budget, seed):
            ends.note(np.arange(len(starts)), positions[0], values[0], np.full(len(starts), evaluation))
    else:
        for place, start in enumerate(starts):
            _note_single(ends, place, surface, config, (float(start[0]), float(start[1])), budget, seed)
    minimum, evaluations = ends.found()
    shape = (count, count)
    return BasinMap(config.label, choice, x, y, minimum.reshape(shape), evaluations.reshape(shape), is_together)


def _note_single(
    ends: "_Ends", place: int, surface: Surface, config: OptimizerConfig, start: Point, budget: int, seed: int
) -> None:
    path = _walked(surface, config, start, budget=budget, seed=seed)
    for position, value, evaluation in zip(path.positions, path.values, path.evaluations, strict=True):
        ends.note(np.array([place]), position[None], np.array([value]), np.array([evaluation]))
    if path.is_lost:
        ends.lose(place)


def _walked(surface: Surface, config: OptimizerConfig, start: Point, **how: Any) -> Walk:
    """Return what `walk` does. Raise UsageError for an optimizer that cannot be built."""
    try:
        return walk(surface, config, start, **how)
    except UnsuitedError as error:
        raise UsageError(f"{config.label} cannot walk on {surface.name}: {error}") from error


class _Ends:
    """The minima that many paths are near to, and since when."""

    def __init__(self, surface: Surface, starts: Array) -> None:
        assert surface.window is not None
        (left, right), _ = surface.window
        self._radius = NEAR * (right - left)
        self._minima = np.array(surface.minima)
        self._near = np.full(len(starts), ELSEWHERE)
        self._since = np.full(len(starts), math.nan)

    def note(self, places: NDArray[np.int64], positions: Array, values: Array, evaluations: NDArray[Any]) -> None:
        """Note the next point of some paths. One that is lost stays lost."""
        is_here = np.isfinite(positions).all(1) & (np.abs(values) <= BEYOND)
        moved = np.where(is_here[:, None], positions, math.nan)[:, None] - self._minima
        distances = np.linalg.norm(moved, axis=2)
        near = np.where(distances.min(1) <= self._radius, distances.argmin(1), ELSEWHERE)
        near[~is_here] = LOST
        before = self._near[places]
        near[before == LOST] = LOST
        is_new = near != before
        self._since[places[is_new]] = evaluations[is_new]
        self._near[places] = near

    def lose(self, place: int) -> None:
        """Note that a path is lost."""
        self._near[place] = LOST

    def found(self) -> tuple[NDArray[np.int64], Array]:
        """Return the minima, and the evaluations since when; NaN for paths that end at none."""
        return self._near, np.where(self._near >= 0, self._since, math.nan)


@dataclass(frozen=True, eq=False)
class SpeedMap:
    """The evaluations that an optimizer needs, for every pair of a rate and another option.

    Attributes:
        surface: the surface.
        label: the optimizer's label.
        over: the name of the other option, of the optimizer or of the surface.
        rates: (n,) the rates.
        others: (m,) the values of the other option.
        evaluations: (m, n) gradients until the value is at most `TARGET` of the start's height above the minimum;
            infinite if it is not within the budget, NaN if the path is lost.
        budget: gradients of every path.
    """

    surface: Surface
    label: str
    over: str
    rates: Array
    others: Array
    evaluations: Array
    budget: int


def speed_map(
    declared: Declared, given: Mapping[str, Any], config: OptimizerConfig, over: str, budget: int, count: int, seed: int
) -> SpeedMap:
    """Return the map of an optimizer over its rates and another option. Paths are walked one by one.

    Args:
        declared, given: the surface and its options.
        config: the optimizer.
        over: the other option: one of the optimizer with a declared range, or one of the surface.
        budget: gradients of every path.
        count: values along each side.
        seed: the seed of the noise.

    Raises:
        UsageError: the optimizer has no range of rates, or nobody has the other option.
    """
    ranges = config.origin.ranges
    if "lr" not in ranges or not config.origin.takes_schedule or "lr" in config.fixed:
        raise UsageError(f"{config.label} has no range of rates to draw; take an optimizer that is tuned by its rate")
    own = [name for name in ranges if name != "lr"]
    if over not in (*own, *declared.options):
        raise UsageError(choices(f"option of {config.label} and of {declared.name}", over, [*own, *declared.options]))
    rates = _middles(ranges["lr"], count)
    others = _middles(ranges[over], count) if over in own else _spread(declared.options[over], count)
    evaluations = np.empty((count, count))
    for row, other in enumerate(others):
        surface = declared(**given) if over in own else declared(**{**given, over: other})
        for column, rate in enumerate(rates):
            chosen = config.with_options({"lr": rate, **({over: other} if over in own else {})})
            evaluations[row, column] = _evaluations(surface, chosen, budget, seed)
    return SpeedMap(declared(**given), config.label, over, np.array(rates), np.array(others), evaluations, budget)


def _middles(search: Search, count: int) -> Sequence[float]:
    return sorted(Range(search).at((place + 0.5) / count) for place in range(count))


def _spread(option: Option, count: int) -> Sequence[float]:
    """Return values of a surface's option: up to a hundred times its default or a hundredth, or all of its range."""
    if option.low > 0:
        low, high = max(option.low, option.default / 100), min(option.high, option.default * 100)
        return [float(value) for value in np.geomspace(low, high, count)]
    return [float(value) for value in np.linspace(option.low, option.high, count)]


def _evaluations(surface: Surface, config: OptimizerConfig, budget: int, seed: int) -> float:
    """Return the evaluations of a path to the target; infinite if it does not reach it, NaN if it is lost."""
    floor, start = surface.floor, surface.starts[0]
    if floor is None:
        raise UsageError(f"nobody knows the minimum of {surface.name}, so that nothing says when it is reached")
    target = floor + TARGET * (surface.at(start) - floor)
    path = _walked(surface, config, start, budget=budget, seed=seed, target=target)
    if path.is_lost:
        return math.nan
    return float(path.evaluations[-1]) if path.values[-1] <= target else math.inf
