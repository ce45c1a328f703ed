"""Frames of axes: one value that is far from all others must not flatten them."""

import math
from collections.abc import Iterable

import numpy as np

FAR = 30.0
"""Beyond so many times the scale of the middle half, a value lies outside the frame."""
LEAST = 0.1
"""Least scale, as a share of the median: a value near several equal ones must not be left out."""
DECADES = 4.0
"""On a log axis: beyond so many decades, and three times the spread of the middle half."""
NOTE = " What lies far beyond all else is outside the frame; the tables have its value."

Bounds = tuple[float, float]
EVERYTHING: Bounds = (-math.inf, math.inf)


def fence(values: Iterable[float], *, log: bool = False) -> Bounds:
    """Return the ends between which values are drawn where they are; infinite where none is far from the others.

    >>> fence([0.3, 0.4, 0.5, 0.6, 1e30])[1] < 10.0
    True
    >>> fence([1.0, 1.0, 1.0, 0.5]), fence([0.0, 0.0, 0.0, 3.0])
    ((-inf, inf), (-inf, inf))
    """
    finite = np.array([value for value in values if math.isfinite(value) and (value > 0 or not log)])
    if not len(finite):
        return EVERYTHING
    shown = np.log10(finite) if log else finite / (np.abs(finite).max() or 1.0)  # sums of 1e308 overflow
    first, middle, third = np.quantile(shown, [0.25, 0.5, 0.75])
    room = DECADES + 3 * (third - first) if log else FAR * max(third - first, LEAST * abs(middle))
    kept = finite[np.abs(shown - middle) <= room] if room > 0 else finite
    return EVERYTHING if len(kept) == len(finite) else _around(kept, log)


def bounds_of(ends: Bounds) -> Bounds | None:
    """Return the bounds of an axis between the ends; None where nothing lies outside."""
    return None if ends == EVERYTHING else ends


def note_of(ends: Bounds) -> str:
    """Return the note of a chart whose frame leaves something out; empty where nothing lies outside."""
    return "" if ends == EVERYTHING else NOTE


def _around(kept: np.ndarray, log: bool) -> Bounds:
    """Return a little more than the values that are kept."""
    low, high = float(kept.min()), float(kept.max())
    if log:
        return low / 2, high * 2
    room = (high - low) / 2 or 0.1 * abs(high) or 0.1
    return low - room, high + room


def within(values: Iterable[float], ends: Bounds) -> list[float]:
    """Return the values between the ends; all of them where none is."""
    found = list(values)
    return [value for value in found if ends[0] <= value <= ends[1]] or found


def clamped(value: float, ends: Bounds) -> float:
    """Return the value, or the end that it lies beyond."""
    return min(max(value, ends[0]), ends[1])
