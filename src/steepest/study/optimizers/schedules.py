"""Learning-rate schedules: a factor on every group's rate, as a pure function of a trial's progress.

A schedule is one function of `steepest.schedules`. Its keyword arguments are its options, which `OPTIONS` declares once
for all.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from steepest import registry
from steepest.fields import Field, Search, hyper
from steepest.schedules import (
    COOLDOWN,
    FINAL,
    LENGTH,
    WARMUP,
    constant,
    cosine,
    in_steps,
    inverse_sqrt,
    is_length,
    linear,
    wsd,
)
from steepest.study.errors import UsageError
from steepest.study.suggest import choices

CONSTANT: Final = "constant"
TUNED: Final = "cosine"
SCHEDULE: Final = "schedule"
"""The key of a schedule in an optimizer's brackets, and in a search space."""


SHAPES: Final[dict[str, Callable[..., float]]] = {
    shape.__name__: shape for shape in (constant, cosine, linear, wsd, inverse_sqrt)
}


def _length(value: Any) -> Any:
    """Return a number of steps, or a share of them in [0, 1), as it is. Raise TypeError for anything else."""
    if not is_length(value):
        raise TypeError
    return value


def _declared(**options: Field) -> dict[str, Field]:
    return {name: option.named(name, keyword_only=True) for name, option in options.items()}


OPTIONS: Final = _declared(
    warmup=hyper(WARMUP, "length of the straight rise", convert=_length, words=LENGTH, search=Search(0.01, 0.2)),
    cooldown=hyper(COOLDOWN, "length of the last decay", convert=_length, words=LENGTH, search=Search(0.05, 0.5)),
    final=hyper(FINAL, "factor at the end", low=0.0, high=1.0),
)
"""Every option of any schedule. A length keeps its meaning by its type: `1` is a step, `0.1` a tenth of the steps."""

KEYS: Final = (SCHEDULE, *OPTIONS)
"""Names in an optimizer's brackets that are its schedule's, unless the optimizer has an option of that name itself."""


@cache
def names_of(shape: str) -> tuple[str, ...]:
    """Return the names of the options that a schedule has."""
    parameters = inspect.signature(SHAPES[shape]).parameters.values()
    return tuple(one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Schedule:
    """A shape with the options that were given for it; all others keep their defaults.

    The text of a schedule leaves out what equals a default:

    >>> str(read("cosine[warmup=100,final=0]"))
    'cosine[warmup=100]'
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an unknown shape, an option that it does not have, and a value that is not allowed."""
        if self.name not in SHAPES:
            raise UsageError(choices("schedule", self.name, SHAPES))
        for key, value in self.options.items():
            self._check(key, value)

    def _check(self, key: str, value: Any) -> None:
        if key not in self.names:
            own = ", ".join(self.names) or "no options"
            hint = f"; {in_words(key)}" if having(key) else registry.suggest(key, self.names)
            raise UsageError(f"schedule {self.name!r} has no {key!r}{hint} ({self.name} has: {own})")
        try:
            OPTIONS[key].validate(value)
        except (ValueError, TypeError):
            raise UsageError(f"{key} of schedule {self.name!r} must be {OPTIONS[key].allowed}, not {value!r}") from None

    def __str__(self) -> str:
        return registry.labelled(self.name, {key: self.values[key] for key in self.names if not self._is_usual(key)})

    def _is_usual(self, key: str) -> bool:
        return bool(self.values[key] == OPTIONS[key].default)

    @property
    def in_full(self) -> str:
        """Its text with every option, including defaults."""
        return registry.labelled(self.name, self.values)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the options that it has."""
        return names_of(self.name)

    @property
    def values(self) -> dict[str, Any]:
        """Every option with its value."""
        return {key: self.options.get(key, OPTIONS[key].default) for key in self.names}

    def factor(self, step: int, steps: int) -> float:
        """Return the factor on the rate at a step, counted from 0, of a trial of so many steps."""
        return SHAPES[self.name](step, steps, **{key: self._argument(key, steps) for key in self.names})

    def _argument(self, key: str, steps: int) -> Any:
        value = self.values[key]
        return in_steps(value, steps) if OPTIONS[key].convert is _length else value

    def check_lengths(self, steps: int) -> None:
        """Raise UsageError if its parts are longer than a trial of so many steps."""
        given = {key: value for key, value in self.values.items() if OPTIONS[key].convert is _length}
        total = sum(value if isinstance(value, int) else value * steps for value in given.values())
        if round(total, 6) > steps:
            parts = " and ".join(f"{key}={registry.spell(value)}" for key, value in given.items())
            raise UsageError(
                f"schedule {str(self)!r} does not fit: {parts} take {total:g} steps, and a trial has {steps}; give "
                "fewer, or shares of the steps such as warmup=0.1"
            )

    def changed(self, options: Mapping[str, Any]) -> "Schedule":
        """Return the schedule with these options on top of its own."""
        return Schedule(self.name, {**self.options, **options})

    def without(self, names: Iterable[str]) -> "Schedule":
        """Return the schedule with the defaults of these options."""
        dropped = set(names)
        return Schedule(self.name, {key: value for key, value in self.options.items() if key not in dropped})

    def drawn(self, point: Mapping[str, Any]) -> "Schedule":
        """Return the schedule at a point of a search, which may name another shape.

        The other shape keeps those of its options that both have, and values of the point for the others are left out.
        """
        shape = read(point[SCHEDULE]) if SCHEDULE in point else self
        return Schedule(shape.name, {key: value for key, value in _together(self, shape, point) if key in shape.names})

    def entries(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the values of those options that it has; under `schedule` the text without these options."""
        wanted = list(names)
        return {
            name: str(self.without(wanted)) if name == SCHEDULE else self.values[name]
            for name in wanted
            if name in (SCHEDULE, *self.names)
        }

    def changes(self, usual: "Schedule") -> dict[str, Any]:
        """Return what differs from the usual schedule, as an optimizer's brackets have it."""
        if self.name != usual.name:
            return {SCHEDULE: self.name, **{key: self.values[key] for key in self.names if not self._is_usual(key)}}
        return {key: value for key, value in self.values.items() if value != usual.values[key]}


def _together(own: Schedule, shape: Schedule, point: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    drawn = {key: value for key, value in point.items() if key != SCHEDULE}
    return {**own.options, **shape.options, **drawn}.items()


def having(option: str) -> list[str]:
    """Return the names of the schedules that have an option."""
    return [name for name in SHAPES if option in names_of(name)]


def in_words(option: str) -> str:
    """Return a clause on the schedules that have an option.

    >>> in_words("cooldown"), in_words("final")
    ('wsd has it', 'cosine, linear, wsd have it')
    """
    names = having(option)
    return f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} it"


def read(text: object) -> Schedule:
    """Read `NAME` or `NAME[key=value,...]`.

    Raises:
        UsageError: the schedule or an option does not exist, or a value is not allowed.
    """
    return _read(str(text))


@cache
def _read(text: str) -> Schedule:
    try:
        name, options = registry.read(text)
    except ValueError as error:
        raise UsageError(f"schedule {text!r}: {error}") from error
    return Schedule(name, options)


def factor(text: str) -> Callable[[int, int], float]:
    """Return a schedule's function from (step, steps) to the factor on the rate."""
    return read(text).factor


def recipe(given: Mapping[str, Any], usual: Schedule) -> Schedule:
    """Return the schedule of an optimizer, from its brackets: a schedule of its own, or the usual one with changes.

    Raises:
        UsageError: a value is wrong, or an option is given twice.
    """
    own = read(given[SCHEDULE]) if SCHEDULE in given else None
    options = {key: value for key, value in given.items() if key != SCHEDULE}
    twice = [key for key in options if own and key in own.options]
    if twice:
        raise UsageError(f"{twice[0]} is given twice, in {SCHEDULE}={str(own)!r} and outside of it; give it once")
    return (own or usual).changed(options)
