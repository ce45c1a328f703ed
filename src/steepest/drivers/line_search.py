"""Line searches as generators: they yield trial step sizes, are sent the points there, and return one of them.

Two of them look for a strong Wolfe point. `strong_wolfe` is ours: it recovers from losses that are NaN, takes rounding
into account, and raises an error if it finds no point. `strong_wolfe_cubic` decides everything as torch's LBFGS does,
so that trial points agree. It always returns a point, even if that is the start or a NaN. So neither can stand in for
the other.

Source: Nocedal and Wright 2006, "Numerical Optimization", algorithms 3.1, 3.5 and 3.6.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..vocabulary import sqrt


class Point(NamedTuple):
    """A point on the line: step size, loss, directional derivative, and the gradient, which a search passes on.

    Step and slope are floats or 0-dim tensors. In 0-dim tensors a search rounds as the gradient's dtype does.
    """

    step: Any
    loss: float
    slope: Any
    gradient: Any = None


Search = Generator[Any, Point, Point]


class LineSearchError(RuntimeError):
    """No acceptable step was found."""


def along(search: Search, x: Tensor, d: Tensor) -> Generator[Tensor, tuple[float, Tensor], tuple[Point, int]]:
    """Run a search on the line x + step * d. Returns the point that it found, and how many it has tried."""
    answer: Any = None
    tried = 0
    while True:
        try:
            step = search.send(answer)
        except StopIteration as found:
            return found.value, tried
        f, g = yield torch.add(x, d, alpha=step)
        answer = Point(step, f, g.dot(d), g)
        tried += 1


def armijo(loss: float, slope: float, *, lr: float, c1: float, max_evals: int, noise: float = 0.0) -> Search:
    """Halve the step, from ``lr``, until the loss falls by ``c1`` times what the slope promises (algorithm 3.1).

    ``noise`` is how far rounding may move the loss: at a minimum no step lowers it by more.
    """
    step = lr
    for _ in range(max_evals):
        trial = yield step
        if trial.loss <= loss + c1 * step * slope + noise:
            return trial
        step /= 2
    raise LineSearchError(f"no decrease along the gradient after {max_evals} halvings of lr={lr:g}")


# -- ours --------------------------------------------------------------------------------------------------------------


def strong_wolfe(
    loss: float, slope: float, *, lr: float, c1: float, c2: float, max_evals: int, noise: float = 0.0
) -> Search:
    """Bracket, from ``lr`` upwards, then zoom in on a step of enough decrease and small slope (algorithms 3.5, 3.6).

    If ``max_evals`` run out, the lowest point with enough decrease is taken; without one the search raises. ``noise``
    is how far rounding may move the loss. It computes in double.
    """
    start = Point(0.0, loss, slope)
    tried: list[Point] = []
    low, high, step = start, None, lr
    for _ in range(max_evals):
        trial = _in_double((yield step))
        tried.append(trial)
        enough = trial.loss <= loss + c1 * step * slope + noise
        if enough and abs(trial.slope) <= c2 * abs(slope):
            return trial
        low, high = _shrink(low, high, trial, enough)
        step = 2 * step if high is None else _between(low, high)
    best = min((t for t in tried if t.loss <= loss + c1 * t.step * slope + noise), key=lambda t: t.loss, default=None)
    if best is None:
        raise LineSearchError(f"no decrease along the gradient after {max_evals} evaluations from lr={lr:g}")
    return best


def _in_double(point: Point) -> Point:
    return point._replace(slope=float(point.slope))


def _shrink(low: Point, high: Point | None, trial: Point, enough: bool) -> tuple[Point, Point | None]:
    """Return the bracket after a trial: ``low`` has the lower loss, and its slope points into the bracket."""
    if not enough or trial.loss >= low.loss:
        return low, trial
    if high is None:
        return (trial, low) if trial.slope >= 0 else (trial, None)
    return (trial, low) if trial.slope * (high.step - low.step) >= 0 else (trial, high)


def _between(low: Point, high: Point) -> float:
    """Return a step inside the bracket: the minimum of the parabola through both, away from its ends, or the middle."""
    width: float = high.step - low.step
    curvature = high.loss - low.loss - low.slope * width
    middle: float = low.step + 0.5 * width
    if not math.isfinite(high.loss) or curvature <= 0:
        return middle
    fraction = -low.slope * width / (2 * curvature)
    return float(low.step + width * min(max(fraction, 0.1), 0.9))


# -- torch's -----------------------------------------------------------------------------------------------------------


def fixed(start: Point, step: Any, *, evaluate: bool) -> Search:
    """Return the point of the given step. If it is not evaluated, it has the start's loss and gradient."""
    return (yield step) if evaluate else start._replace(step=step)


@dataclass(frozen=True)
class Goal:
    """The target of a strong Wolfe search, and its conditions for giving up.

    Attributes:
        start: the point at step 0.
        c1: share of the promised decrease that must be reached.
        c2: share of the slope that may remain.
        extent: largest element of the direction.
        tolerance: the smallest width of a bracket, in that element, in which the search continues.
    """

    start: Point
    c1: float
    c2: float
    extent: Any
    tolerance: float

    def is_missed_by(self, trial: Point) -> bool:
        """Return whether the loss falls by less than ``c1`` times the decrease that the slope promises."""
        return bool(trial.loss > self.start.loss + self.c1 * trial.step * self.start.slope)

    def is_level_at(self, trial: Point) -> bool:
        """Return whether at most ``c2`` of the slope remains."""
        return bool(abs(trial.slope) <= -self.c2 * self.start.slope)

    def is_too_fine(self, bracket: list[Point]) -> bool:
        """Return whether the bracket's ends are as good as one point."""
        return bool(abs(bracket[1].step - bracket[0].step) * self.extent < self.tolerance)


def strong_wolfe_cubic(goal: Goal, step: Any, *, max_evals: int) -> Search:
    """Bracket from ``step`` upwards, then zoom in by cubics, in torch's way (algorithms 3.5, 3.6).

    It tries ``step`` and at most ``max_evals`` points more. It returns a strong Wolfe point, or else the end of the
    bracket with the lower loss, which may be the start.
    """
    before, trial = goal.start, (yield step)
    for tried in range(max_evals):
        if goal.is_missed_by(trial) or (tried > 1 and trial.loss >= before.loss):
            return (yield from _zoom(goal, [before, trial], max_evals - tried))
        if goal.is_level_at(trial):
            return trial
        if trial.slope >= 0:
            return (yield from _zoom(goal, [before, trial], max_evals - tried))
        nearest = trial.step + 0.01 * (trial.step - before.step)
        before, trial = trial, (yield _lowest_of_cubic(before, trial, nearest, 10 * trial.step))
    bracket = [goal.start, trial]
    return bracket[_lower(bracket)]


def _zoom(goal: Goal, bracket: list[Point], max_evals: int) -> Search:
    """Narrow a bracket down on a strong Wolfe point. Which end is which matters: of two equal losses the first wins."""
    low, was_near_an_end = _lower(bracket), False
    for _ in range(max_evals):
        if goal.is_too_fine(bracket):
            break
        step, was_near_an_end = _inside(bracket, was_near_an_end)
        trial = yield step
        if goal.is_missed_by(trial) or trial.loss >= bracket[low].loss:
            bracket[1 - low] = trial
            low = _lower(bracket)
        elif goal.is_level_at(trial):
            return trial
        else:
            if trial.slope * (bracket[1 - low].step - bracket[low].step) >= 0:
                bracket[1 - low] = bracket[low]
            bracket[low] = trial
    return bracket[low]


def _lower(bracket: list[Point]) -> int:
    return 0 if bracket[0].loss <= bracket[1].loss else 1


def _inside(bracket: list[Point], was_near_an_end: bool) -> tuple[Any, bool]:
    """Return the next trial step, and whether it is near an end.

    The step is moved away from the end the second time, or at once where it is the end itself.
    """
    first, second = (end.step for end in bracket)
    low, high = min(first, second), max(first, second)
    step = _lowest_of_cubic(bracket[0], bracket[1], low, high)
    margin = 0.1 * (high - low)
    if not min(high - step, step - low) < margin:
        return step, False
    if not (was_near_an_end or step >= high or step <= low):
        return step, True
    return (high - margin if abs(step - high) < abs(step - low) else low + margin), False


def _lowest_of_cubic(a: Point, b: Point, low: Any, high: Any) -> Any:
    """Return the minimum between ``low`` and ``high`` of the cubic through two points with their slopes.

    See equation 3.59. It is the middle of ``low`` and ``high`` if the cubic does not have a minimum.
    """
    left, right = (a, b) if a.step <= b.step else (b, a)
    d1 = left.slope + right.slope - 3 * (left.loss - right.loss) / (left.step - right.step)
    square = d1 * d1 - left.slope * right.slope
    if not square >= 0:
        return (low + high) / 2.0
    d2 = sqrt(square)
    lowest = right.step - (right.step - left.step) * ((right.slope + d2 - d1) / (right.slope - left.slope + 2 * d2))
    return min(max(lowest, low), high)
