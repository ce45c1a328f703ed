"""Checked inputs of the statistics: vectors of numbers, and probabilities."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steepest.study.errors import UsageError

Vector = NDArray[np.float64]


def vector(values: Sequence[float], name: str) -> Vector:
    """Return the values as float64, shape (n,), n >= 1. Infinite values are allowed.

    Raises:
        UsageError: the values are empty, hold a NaN, or are not a flat sequence.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise UsageError(f"{name} have the shape {array.shape}; give a flat sequence of at least one number.")
    if np.isnan(array).any():
        where = int(np.flatnonzero(np.isnan(array))[0])
        raise UsageError(
            f"{name} hold NaN at position {where}; give an infinite value for a trial that diverged or missed, "
            "or leave its seed out."
        )
    return array


def finite_vector(values: Sequence[float], name: str) -> Vector:
    """Return the values as float64, shape (n,), n >= 1, all finite.

    Raises:
        UsageError: as `vector`, or a value is infinite.
    """
    array = vector(values, name)
    if np.isinf(array).any():
        raise UsageError(f"{name} hold an infinite value, which has no mean; ask for the median instead.")
    return array


def probability(value: float, name: str) -> float:
    """Return the value, strictly between 0 and 1.

    Raises:
        UsageError: it is not between 0 and 1.
    """
    if not 0.0 < value < 1.0:
        raise UsageError(f"{name} is {value}; give a number between 0 and 1, both excluded.")
    return value
