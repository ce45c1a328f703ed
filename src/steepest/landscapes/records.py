"""The record of a trace: the paths of some optimizers on a surface, and the figures that tables show of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from steepest.landscapes.declaration import Point, Surface, Window
from steepest.landscapes.paths import Array, Walk
from steepest.landscapes.plane import Plane
from steepest.landscapes.rates import RESOLUTION, Choice, final_score
from steepest.landscapes.sources import spelled

TARGET: Final = 1e-3
"""The share of the start's height above the minimum that counts as reached."""


@dataclass(frozen=True, eq=False)
class Path(Walk):
    """The path of an optimizer from a start.

    Attributes:
        label: the optimizer's label.
        config: the optimizer's configuration, as a study's records store it.
        choice: the rate, and the search for it.
        start: the place of the start among all starts.
        plane: (n + 1, 2) the coordinates in the plane that is drawn; of a surface of one number the evaluations and
            the number.
    """

    label: str
    config: Mapping[str, Any]
    choice: Choice
    start: int
    plane: Array

    @property
    def rate(self) -> float | None:
        """The rate; None for an optimizer without one."""
        return self.choice.rate


@dataclass(frozen=True, eq=False, repr=False)
class Paths:
    """The paths of some optimizers on a surface.

    Attributes:
        surface: the surface.
        paths: the paths of every optimizer, from every start.
        skipped: label and reason of the optimizers that cannot walk on the surface.
        starts: the starts.
        budget: gradients that every path may take.
        plane: the plane that is drawn; None for a surface of one number.
        window: the part of the plane that is drawn.
    """

    surface: Surface
    paths: tuple[Path, ...]
    skipped: tuple[tuple[str, str], ...]
    starts: tuple[Point, ...]
    budget: int
    plane: Plane | None
    window: Window

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the optimizers that have paths."""
        return tuple(dict.fromkeys(path.label for path in self.paths))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The figures of every path, by heading; None where there is nothing to say."""
        return [self._row(path) for path in self.paths]

    def _row(self, path: Path) -> dict[str, Any]:
        return {
            "optimizer": path.label,
            **({"start": spelled(self.starts[path.start])} if len(self.starts) > 1 else {}),
            "rate": path.rate,
            "chosen": path.choice.how if path.choice.ties < 2 else f"{path.choice.how}, {path.choice.ties} tie",
            "value": float(path.values[-1]),
            "evaluations": int(path.evaluations[-1]),
            "to threshold": self.reached(path),
            "distance": self.distance(path),
            "ended": path.ended,
        }

    def reached(self, path: Path) -> int | None:
        """Return the evaluations until the value is at most `TARGET` of the start's height above the minimum."""
        if self.surface.floor is None:
            return None
        heights = path.values - self.surface.floor
        below = np.flatnonzero(heights <= TARGET * heights[0])
        return int(path.evaluations[below[0]]) if len(below) else None

    def distance(self, path: Path) -> float | None:
        """Return the distance from the end of a path to the nearest minimum; None where no point is known."""
        return float(self.distances(path)[-1]) if self.surface.minima else None

    def distances(self, path: Path) -> Array:
        """Return the distance (n + 1,) of every position of a path from the nearest minimum; infinite without one."""
        each = [np.linalg.norm(path.positions - np.array(point), axis=1) for point in self.surface.minima]
        found: Array = np.min([np.full(len(path.positions), np.inf), *each], axis=0)
        return found

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences to know before comparing: ties, and optimizers that were skipped."""
        return (*self.ties, *(f"{label} is skipped: {reason}" for label, reason in self.skipped))

    @property
    def ties(self) -> tuple[str, ...]:
        """A sentence for every start from which several optimizers end best, equally well."""
        found = []
        for place, start in enumerate(self.starts):
            ends = {p.label: final_score(self.surface, float(p.values[-1])) for p in self.paths if p.start == place}
            best = [label for label, end in ends.items() if end == min(ends.values())]
            if len(best) > 1:
                where = f" from {spelled(start)}" if len(self.starts) > 1 else ""
                found.append(f"{', '.join(best)} end equally low{where}, as far as values are told apart")
        return tuple(found)


def value_curve(path: Walk, floor: float | None) -> Array:
    """Return the values of a path above the minimum, at least the resolution; as they are where it is not known."""
    return path.values if floor is None else np.maximum(path.values - floor, RESOLUTION)
