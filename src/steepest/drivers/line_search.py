"""Line searches as generators: they yield step sizes to try and are sent (loss, slope) there, and return a step size.

Source: Nocedal and Wright 2006, "Numerical Optimization", algorithms 3.1, 3.5 and 3.6.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import NamedTuple


class Point(NamedTuple):
    """A point on the line: step size, loss and directional derivative."""

    step: float
    loss: float
    slope: float


Search = Generator[float, tuple[float, float], float]


class LineSearchError(RuntimeError):
    """No acceptable step was found."""


def armijo(loss: float, slope: float, *, lr: float, c1: float, max_evals: int, noise: float = 0.0) -> Search:
    """Halve the step, from ``lr``, until the loss falls by ``c1`` times what the slope promises (algorithm 3.1).

    ``noise`` is how far rounding may move the loss: at a minimum no step lowers it by more.
    """
    step = lr
    for _ in range(max_evals):
        trial, _ = yield step
        if trial <= loss + c1 * step * slope + noise:
            return step
        step /= 2
    raise LineSearchError(f"no decrease along the gradient after {max_evals} halvings of lr={lr:g}")


def strong_wolfe(
    loss: float, slope: float, *, lr: float, c1: float, c2: float, max_evals: int, noise: float = 0.0
) -> Search:
    """Bracket, from ``lr`` upwards, then zoom in on a step of enough decrease and small slope (algorithms 3.5, 3.6).

    If ``max_evals`` run out, the lowest point with enough decrease is taken; without one the search raises. ``noise``
    is how far rounding may move the loss.
    """
    start = Point(0.0, loss, slope)
    tried: list[Point] = []
    low, high, step = start, None, lr
    for _ in range(max_evals):
        trial = Point(step, *(yield step))
        tried.append(trial)
        enough = trial.loss <= loss + c1 * step * slope + noise
        if enough and abs(trial.slope) <= c2 * abs(slope):
            return step
        low, high = _shrink(low, high, trial, enough)
        step = 2 * step if high is None else _between(low, high)
    best = min((t for t in tried if t.loss <= loss + c1 * t.step * slope + noise), key=lambda t: t.loss, default=None)
    if best is None:
        raise LineSearchError(f"no decrease along the gradient after {max_evals} evaluations from lr={lr:g}")
    return best.step


def _shrink(low: Point, high: Point | None, trial: Point, enough: bool) -> tuple[Point, Point | None]:
    """The bracket after a trial: ``low`` has the lower loss, and its slope points into the bracket."""
    if not enough or trial.loss >= low.loss:
        return low, trial
    if high is None:
        return (trial, low) if trial.slope >= 0 else (trial, None)
    return (trial, low) if trial.slope * (high.step - low.step) >= 0 else (trial, high)


def _between(low: Point, high: Point) -> float:
    """A step inside the bracket: the minimum of the parabola through both, kept off its ends, else the middle."""
    width = high.step - low.step
    curvature = high.loss - low.loss - low.slope * width
    middle = low.step + 0.5 * width
    if not math.isfinite(high.loss) or curvature <= 0:
        return middle
    fraction = -low.slope * width / (2 * curvature)
    return low.step + width * min(max(fraction, 0.1), 0.9)
