"""The plane that is drawn: the two coordinates themselves, or the one that holds most of the paths."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from steepest.landscapes.declaration import Surface, Window
from steepest.landscapes.paths import Array, Walk

MARGIN: Final = 0.08
"""Space around the paths, as a share of their extent, where the window is made to fit them."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane through the space of all numbers.

    Attributes:
        origin: (d,) the point with the coordinates (0, 0).
        directions: (2, d) two orthonormal directions.
        names: the names of the two coordinates.
        share: the share of the squared distances of all positions from the origin that lies in the plane.
    """

    origin: Array
    directions: Array
    names: tuple[str, str]
    share: float

    def coordinates(self, positions: Array) -> Array:
        """Return the coordinates (n, 2) of the points of the plane nearest to positions (n, d)."""
        found: Array = (positions - self.origin) @ self.directions.T
        return found

    def points(self, coordinates: Array) -> Array:
        """Return the points (n, d) with these coordinates (n, 2)."""
        found: Array = self.origin + coordinates @ self.directions
        return found


BOTH: Final = Plane(np.zeros(2), np.eye(2), ("x", "y"), 1.0)
"""The plane of a surface of two numbers."""


def plane_of(surface: Surface, walks: Sequence[Walk]) -> Plane | None:
    """Return the plane that is drawn; None for a surface of one number, which is drawn over the evaluations.

    With more than two numbers it passes through the minimum, or through the lowest point of all paths where the minimum
    is not known, in the two directions in which the positions of all paths together vary most (Li et al. 2018,
    arXiv:1712.09913, section 7).
    """
    if surface.size == 1:
        return None
    if surface.size == 2:
        return BOTH
    ends = min(walks, key=lambda each: float(each.values.min()), default=None)
    lowest = None if ends is None else ends.positions[int(ends.values.argmin())]
    origin = np.array(surface.minima[0]) if surface.minima or lowest is None else lowest
    moved = np.concatenate([each.positions - origin for each in walks] or [np.zeros((1, surface.size))])
    padded = np.concatenate([moved, np.zeros((2, surface.size))])  # two directions exist, however few positions
    _, strengths, directions = np.linalg.svd(padded, full_matrices=False)
    total = float((strengths**2).sum())
    share = float((strengths[:2] ** 2).sum()) / total if total else 1.0
    return Plane(origin, _pointing(directions[:2]), ("first direction", "second direction"), share)


def _pointing(directions: Array) -> Array:
    """Return directions with a sign that does not depend on the machine: their largest number is positive."""
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
    pointing: Array = directions * np.sign(largest)
    return pointing


def window_around(points: Array) -> Window:
    """Return a window that holds points (n, 2), with a margin."""
    low, high = points.min(0), points.max(0)
    extent = np.maximum(high - low, 1e-9 + 0.25 * (high - low).max())
    centre = (low + high) / 2
    left, bottom = centre - extent * (0.5 + MARGIN)
    right, top = centre + extent * (0.5 + MARGIN)
    return (float(left), float(right)), (float(bottom), float(top))


def heights(surface: Surface, plane: Plane, window: Window, count: int) -> tuple[Array, Array, NDArray[np.float64]]:
    """Return the coordinates (n,) and (n,) of a grid in the window, and the values (n, n) there.

    n is `count`, or the surface's own `points` if that is less. Values are computed row by row, as a row may have
    many numbers.
    """
    count = min(count, surface.points or count)
    return _known_heights(surface, window, count) if plane is BOTH else _heights(surface, plane, window, count)


@lru_cache(maxsize=16)
def _known_heights(surface: Surface, window: Window, count: int) -> tuple[Array, Array, Array]:
    """Return the heights of a surface of two numbers, which many figures show."""
    found = _heights(surface, BOTH, window, count)
    for each in found:
        each.flags.writeable = False
    return found


def _heights(surface: Surface, plane: Plane, window: Window, count: int) -> tuple[Array, Array, Array]:
    x, y = (np.linspace(low, high, count) for low, high in window)
    rows = [np.stack([x, np.full(count, height)], axis=1) for height in y]
    with torch.no_grad():
        values = [surface.values(torch.from_numpy(plane.points(row))).numpy() for row in rows]
    return x, y, np.stack(values)
