"""The search space of an optimizer, and the points of it that a study tries: the same number for every optimizer.

Points are drawn in the unit cube from the stream `search`, which no optimizer is part of: optimizers that search
equally many hyperparameters try the same points of the cube.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeGuard

import numpy as np
import scipy

from steepest import registry
from steepest.fields import Search
from steepest.study import seeds
from steepest.study.errors import UsageError
from steepest.study.optimizers import schedules, sources
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.optimizers.source import storable
from steepest.study.records.format import SearchedRange, SearchedValues
from steepest.study.suggest import choices

SAMPLERS: Final = {
    "sobol": "scrambled Sobol points (Sobol 1967, Owen 1998): evenly spread; the number must be a power of two",
    "random": "independent uniform points: any number",
}
EVERYTHING: Final = "all"
EXAMPLE: Final = "{ low = 1e-4, high = 1e-1 }"
DIGITS: Final = 4  # of a drawn value: enough to search, few enough to type again


@dataclass(frozen=True)
class Choice:
    """A hyperparameter that takes one of several values."""

    values: tuple[Any, ...]

    def at(self, unit: float) -> Any:
        """Return the value at a point of [0, 1)."""
        return self.values[min(int(unit * len(self.values)), len(self.values) - 1)]

    def entry(self) -> SearchedValues:
        """Return the dimension as a study's document stores it."""
        return SearchedValues(self.values)


@dataclass(frozen=True)
class Range:
    """A hyperparameter that is drawn from a range."""

    search: Search

    def at(self, unit: float) -> float:
        """Return the value at a point of [0, 1), with four significant digits and within the range."""
        low, high = self.search.low, self.search.high
        value = low * (high / low) ** unit if self.search.scale == "log" else low + (high - low) * unit
        rounded = min(max(float(f"{value:.{DIGITS - 1}e}"), low), high)
        return round(1 - rounded, 12) if self.search.complement else rounded

    def entry(self) -> SearchedRange:
        """Return the dimension as a study's document stores it."""
        return SearchedRange(**vars(self.search))

    def between(self, low: float, high: float) -> "Range":
        """Return the range with other ends."""
        return Range(replace(self.search, low=low, high=high))


Dimension = Choice | Range
Space = Mapping[str, Dimension]


def space_of(config: OptimizerConfig, names: Sequence[str], own: Space) -> dict[str, Dimension]:
    """Return the search space of an optimizer and its schedule.

    `own` is the user's space for it and replaces the declared ranges; its schedule's dimensions are left out where the
    schedule lacks them. Otherwise `names` chooses from those: `all` for every one of the optimizer, a tuple's name for
    its entries, and a schedule's options by their names. Options that were given are not searched.
    """
    wanted = _possible(config, own) if own else _declared(config, names)
    return {name: dimension for name, dimension in wanted.items() if name not in config.fixed}


def _declared(config: OptimizerConfig, names: Sequence[str]) -> dict[str, Dimension]:
    origin = config.origin
    entries = {entry for whole, members in origin.entries.items() if whole in names for entry in members}
    found = {name: search for name, search in origin.ranges.items() if {name, EVERYTHING} & {*names, *entries}}
    timing = {name: search for name, search in schedule_ranges(config).items() if name in names}
    return {name: Range(search) for name, search in {**found, **timing}.items()}


def schedule_ranges(config: OptimizerConfig) -> dict[str, Search]:
    """Return the declared ranges of the options of an optimizer's schedule."""
    found = {name: schedules.OPTIONS[name].search for name in schedules.read(config.schedule).names}
    return {name: search for name, search in found.items() if search and name in config.recipe_names}


def _possible(config: OptimizerConfig, own: Space) -> dict[str, Dimension]:
    lacking = set(schedules.KEYS) - config.origin.names - schedule_dimensions(config, own)
    return {name: dimension for name, dimension in own.items() if name not in lacking}


def schedule_dimensions(config: OptimizerConfig, own: Space) -> set[str]:
    """Return the names that an optimizer's schedule can be searched in, if the user's space also draws the schedule."""
    drawn = own.get(schedules.SCHEDULE)
    shapes = drawn.values if isinstance(drawn, Choice) else (config.schedule,)
    names = {name for shape in shapes for name in schedules.read(shape).names}
    return {schedules.SCHEDULE, *names}.intersection(config.recipe_names)


def check_searched(names: Iterable[str], configs: Iterable[OptimizerConfig]) -> None:
    """Raise UsageError for a name without a declared range in any optimizer of the study."""
    known = {EVERYTHING}
    for config in configs:
        known.update(config.origin.ranges, config.origin.entries, schedule_ranges(config))
    for name in names:
        if name not in known:
            raise UsageError(
                f"{_lacking(name, sorted(known))} A range for another one is given in a file: --space FILE"
            )


def _lacking(name: str, known: Sequence[str]) -> str:
    if schedules.having(name):
        return f"no optimizer of the study has a schedule with {name} to search ({schedules.in_words(name)})."
    return choices("hyperparameter", name, known)


def check_schedules(space: Space, configs: Sequence[OptimizerConfig]) -> None:
    """Raise UsageError if the user's space for these optimizers draws schedules, or options of them, that are wrong."""
    names = [name for name in schedules.KEYS if name in space and any(name not in one.origin.names for one in configs)]
    if schedules.SCHEDULE in names:
        _check_drawn(space)
    for name in names:
        if not any(name in {*one.origin.names, *schedule_dimensions(one, space)} for one in configs):
            have = " and ".join(f"{one.label} has the schedule {one.schedule}" for one in configs)
            hint = f" ({schedules.in_words(name)})" if schedules.having(name) else ", and takes no other"
            raise UsageError(f"the search space has {name}, which no schedule there has{hint}: {have}")


def _check_drawn(space: Space) -> None:
    drawn = space[schedules.SCHEDULE]
    if not isinstance(drawn, Choice):
        raise UsageError('the search space draws schedule from a range; list schedules: schedule = ["cosine", "wsd"]')
    for shape in drawn.values:
        twice = schedules.read(shape).options.keys() & space.keys()
        if twice:
            raise UsageError(
                f"the search space sets {', '.join(twice)} in schedule {shape!r} and draws it too; give one of the two"
            )


def points(space: Space, count: int, sampler: str, start: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """Return so many points of a space, in the order of drawing, after the first `start`; none without dimensions.

    `seed` is the number of the draw: another one gives other points.
    """
    if not space or not count:
        return []
    rows = _unit_points(len(space), start + count, sampler, seed)[start:]
    return [dict(zip(space, _values(space, row), strict=True)) for row in rows]


def check(sampler: str, count: int) -> None:
    """Raise UsageError for an unknown sampler, or a number of trials that it cannot draw evenly."""
    if sampler not in SAMPLERS:
        raise UsageError(choices("sampler", sampler, SAMPLERS))
    if sampler == "sobol" and count & (count - 1):
        below = 1 << count.bit_length() - 1
        raise UsageError(
            f"--trials {count} is no power of two, and Sobol points are evenly spread only in powers of two; "
            f"take --trials {below} or --trials {2 * below}, or --sampler random"
        )


def read_spaces(path: Path) -> dict[str, dict[str, Dimension]]:
    """Return the user's search spaces from a TOML file, by optimizer as `-o` names it.

    Names with dots or colons are quoted, as TOML demands.

        [adamw]
        lr = { low = 1e-4, high = 1e-1 }                         # scale = "log" (default) or "linear"
        beta2 = { low = 0.001, high = 0.1, complement = true }   # draws 1 - beta2
        weight_decay = [0.0, 0.01, 0.1]                          # one of these
        schedule = ["cosine", "wsd"]                             # drawn with the others, and so are its options
        warmup = { low = 0.01, high = 0.2 }                      # shares of the steps; [10, 100] are steps

        ["torch.optim:AdamW"]
        betas = [[0.9, 0.95], [0.9, 0.999]]

    Raises:
        UsageError: the file cannot be read, or an entry is neither a range nor a list; the message says which.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the search space {path}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError
        advice = 'a name with dots or colons must be quoted: ["torch.optim:AdamW"], ["my_rules.py:MyOpt"]'
        raise UsageError(f"{path} is no TOML: {error}; {advice}") from error
    spaces: dict[str, dict[str, Dimension]] = {}
    for name, table in tables.items():
        source = _source(path, name)
        if source in spaces:
            raise UsageError(f"{path} names {source} twice; put all of its hyperparameters under one [{name}]")
        spaces[source] = _dimensions(path, name, table)
    return spaces


def _source(path: Path, name: str) -> str:
    try:
        return sources.canonical(name)
    except UsageError as error:
        advice = 'name each optimizer as -o does, and quote what has dots or colons: ["torch.optim:AdamW"]'
        raise UsageError(f"{path}: {error}; {advice}") from error


def _dimensions(path: Path, name: str, table: Any) -> dict[str, Dimension]:
    if not isinstance(table, dict) or not table:
        raise UsageError(f"{path}: [{name}] must be a table of hyperparameters, such as lr = {EXAMPLE}; not {table!r}")
    return {key: _dimension(f"{path}: {name}.{key}", value) for key, value in table.items()}


def _dimension(place: str, value: Any) -> Dimension:
    if isinstance(value, list) and value:
        return Choice(tuple(storable(place, entry) for entry in value))
    if not isinstance(value, dict):
        raise UsageError(f"{place} must be a range {EXAMPLE} or a list of values [0.0, 0.1], not {value!r}")
    for key in value:
        if key not in vars(Search(0, 1)):
            raise UsageError(f"{place}: {choices('entry', key, vars(Search(0, 1)))}")
    low, high, scale = value.get("low"), value.get("high"), value.get("scale", "log")
    if not (_is_number(low) and _is_number(high) and low < high):
        raise UsageError(f"{place} needs two finite numbers low < high, not low = {low!r} and high = {high!r}")
    if scale not in ("log", "linear") or (scale == "log" and low <= 0):
        raise UsageError(f"{place}: scale must be 'linear', or 'log' with low > 0; not {scale!r} with low = {low!r}")
    if not isinstance(value.get("complement", False), bool):
        raise UsageError(f"{place}: complement must be true or false, not {value['complement']!r}")
    return Range(Search(**value))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _unit_points(dimensions: int, count: int, sampler: str, seed: int) -> Any:
    generator = np.random.default_rng(seeds.derive("search", seed))
    if sampler == "random":
        return generator.random((count, dimensions))
    return scipy.stats.qmc.Sobol(dimensions, scramble=True, rng=generator).random(count)


def _values(space: Space, row: Iterable[float]) -> list[Any]:
    return [dimension.at(float(unit)) for dimension, unit in zip(space.values(), row, strict=True)]


def check_names(spaces: Mapping[str, Mapping[str, object]], known: Iterable[str]) -> None:
    """Raise UsageError if a search space is for an optimizer outside the study, or its values are not dimensions."""
    names = list(known)
    for name, space in spaces.items():
        for key, dimension in space.items():
            if not callable(getattr(dimension, "at", None)):
                advice = "write Range(Search(1e-4, 1e-1)) or Choice((0.0, 0.1))"
                raise UsageError(f"the search space of {name!r} has {key} = {dimension!r}; {advice}")
        if name not in names:
            hint = registry.suggest(name, names)
            raise UsageError(
                f"the search space names {name!r}, which takes no part{hint} (these do: {', '.join(names)})"
            )
