"""Learning-rate schedules: a factor on every group's rate, as a pure function of a trial's progress."""

import math
from collections.abc import Callable
from typing import Final

from steepest.study.errors import UsageError
from steepest.study.suggest import choices

CONSTANT: Final = "constant"
TUNED: Final = "cosine"
WARM_UP: Final = 0.05


def constant(step: int, steps: int) -> float:
    """Return 1 at every step."""
    return 1.0


def cosine(step: int, steps: int) -> float:
    """Return the factor of warm-up and cosine to zero (Loshchilov and Hutter 2017, without restarts).

    The rate grows linearly over the first 5 % of the steps, then falls along half a cosine; it would be zero one step
    after the last.

    >>> [round(cosine(step, 40), 3) for step in (0, 1, 2, 21, 39)]
    [0.5, 1.0, 1.0, 0.5, 0.002]
    """
    warm_up = round(WARM_UP * steps)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def linear(step: int, steps: int) -> float:
    """Return the factor of `cosine`'s warm-up, then of a straight line to zero.

    >>> [linear(step, 40) for step in (0, 2, 21)]
    [0.5, 1.0, 0.5]
    """
    warm_up = round(WARM_UP * steps)
    return (step + 1) / warm_up if step < warm_up else (steps - step) / max(1, steps - warm_up)


SCHEDULES: Final[dict[str, Callable[[int, int], float]]] = {
    schedule.__name__: schedule for schedule in (constant, cosine, linear)
}


def check(name: str) -> str:
    """Return the name of a schedule. For an unknown name, raise an error with the closest match."""
    if name not in SCHEDULES:
        raise UsageError(choices("schedule", name, SCHEDULES))
    return name
