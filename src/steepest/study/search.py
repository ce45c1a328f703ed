"""The search space of an optimizer, and the points of it that a study tries: the same number for every optimizer.

Points are drawn in the unit cube from the stream `search`, which no optimizer is part of: optimizers that search
equally many hyperparameters try the same points of the cube.
"""

import math
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from steepest import registry
from steepest.fields import Search
from steepest.study import seeds
from steepest.study.errors import UsageError
from steepest.study.origins import Origin
from steepest.study.suggest import choices

SAMPLERS: Final = {
    "sobol": "scrambled Sobol points (Sobol 1967, Owen 1998): evenly spread; the number must be a power of two",
    "random": "independent uniform points: any number",
}
EVERYTHING: Final = "all"
DIGITS: Final = 4  # of a drawn value: enough to search, few enough to type again


@dataclass(frozen=True)
class Choice:
    """A hyperparameter that takes one of several values."""

    values: tuple[Any, ...]

    def at(self, unit: float) -> Any:
        """Return the value at a point of [0, 1)."""
        return self.values[min(int(unit * len(self.values)), len(self.values) - 1)]

    def document(self) -> dict[str, Any]:
        """Return the dimension as plain data."""
        return {"values": list(self.values)}


@dataclass(frozen=True)
class Range:
    """A hyperparameter that is drawn from a range."""

    search: Search

    def at(self, unit: float) -> float:
        """Return the value at a point of [0, 1), with four significant digits."""
        low, high = self.search.low, self.search.high
        value = low * (high / low) ** unit if self.search.scale == "log" else low + (high - low) * unit
        rounded = float(f"{value:.{DIGITS - 1}e}")
        return round(1 - rounded, 12) if self.search.complement else rounded

    def document(self) -> dict[str, Any]:
        """Return the dimension as plain data."""
        return dict(vars(self.search))

    def between(self, low: float, high: float) -> "Range":
        """Return it with other ends."""
        return Range(replace(self.search, low=low, high=high))


Dimension = Choice | Range
Space = Mapping[str, Dimension]


def space_of(origin: Origin, names: Sequence[str], given: Collection[str], own: Space) -> dict[str, Dimension]:
    """Return what is searched for an optimizer.

    `own` is the user's space for it and replaces the declared ranges; otherwise `names` says which of those are taken,
    `all` for every one. What is `given` is not searched.
    """
    declared = {name: Range(search) for name, search in origin.ranges.items()}
    wanted = own or {name: one for name, one in declared.items() if name in names or EVERYTHING in names}
    return {name: one for name, one in wanted.items() if name not in given}


def points(space: Space, count: int, sampler: str, start: int = 0) -> list[dict[str, Any]]:
    """Return so many points of a space, in the order of drawing, after the first `start`; none without dimensions."""
    if not space or not count:
        return []
    rows = _unit_points(len(space), start + count, sampler)[start:]
    return [dict(zip(space, _values(space, row), strict=True)) for row in rows]


def check(sampler: str, count: int) -> None:
    """Raise UsageError for an unknown sampler, or a number of trials that it cannot draw evenly."""
    if sampler not in SAMPLERS:
        raise UsageError(choices("sampler", sampler, SAMPLERS))
    if sampler == "sobol" and count & (count - 1):
        near = 2 ** round(math.log2(count))
        raise UsageError(
            f"--trials {count} is no power of two, and Sobol points are evenly spread only in powers of two; "
            f"take --trials {near}, or --sampler random"
        )


def read_spaces(path: Path) -> dict[str, dict[str, Dimension]]:
    """Return the user's search spaces from a TOML file, by optimizer as `-o` names it.

    [adamw]
    lr = { low = 1e-4, high = 1e-1 }              # scale = "log" (default) or "linear"
    beta2 = { low = 0.001, high = 0.1, complement = true }    # draws 1 - beta2
    weight_decay = [0.0, 0.01, 0.1]               # one of these
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the search space {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML: {error}") from error
    return {name: _dimensions(path, name, table) for name, table in tables.items()}


def _dimensions(path: Path, name: str, table: Any) -> dict[str, Dimension]:
    if not isinstance(table, dict) or not table:
        raise UsageError(f"{path}: [{name}] must be a table of hyperparameters")
    return {key: _dimension(f"{path}: {name}.{key}", value) for key, value in table.items()}


def _dimension(place: str, value: Any) -> Dimension:
    if isinstance(value, list) and value:
        return Choice(tuple(value))
    if not isinstance(value, dict):
        raise UsageError(f"{place} must be a list of values or {{ low = ..., high = ... }}, not {value!r}")
    for key in value:
        if key not in vars(Search(0, 1)):
            raise UsageError(f"{place}: {choices('entry', key, vars(Search(0, 1)))}")
    low, high, scale = value.get("low"), value.get("high"), value.get("scale", "log")
    if not (isinstance(low, int | float) and isinstance(high, int | float) and low < high):
        raise UsageError(f"{place} needs two numbers low < high, not {low!r} and {high!r}")
    if scale not in ("log", "linear") or (scale == "log" and low <= 0):
        raise UsageError(f"{place}: scale must be 'linear', or 'log' with low > 0; not {scale!r} with low = {low!r}")
    return Range(Search(**value))


def _unit_points(dimensions: int, count: int, sampler: str) -> Any:
    generator = np.random.default_rng(seeds.derive("search", 0))
    if sampler == "random":
        return generator.random((count, dimensions))
    from scipy.stats import qmc  # slow to import, and only a search needs it

    return qmc.Sobol(dimensions, scramble=True, rng=generator).random(count)


def _values(space: Space, row: Iterable[float]) -> list[Any]:
    return [dimension.at(float(unit)) for dimension, unit in zip(space.values(), row, strict=True)]


def check_names(spaces: Mapping[str, Space], known: Iterable[str]) -> None:
    """Raise UsageError if a search space is for an optimizer that takes no part."""
    names = list(known)
    for name in spaces:
        if name not in names:
            raise UsageError(f"the search space names {name!r}, which takes no part{registry.suggest(name, names)}")
