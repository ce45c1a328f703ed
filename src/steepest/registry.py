"""Registry of optimizers by name, and reader of ``name[key=value,...]`` from the command line."""

from __future__ import annotations

import ast
import difflib
import importlib
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from . import drivers, rules
from .fields import Field
from .optimizer import Optimizer


class UnknownNameError(ValueError):
    """Error for a name that does not exist; the message holds the close match and the list of names."""


def suggest(word: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'adam'?"`` for a near miss, whatever its case, else nothing."""
    known = {one.lower(): one for one in allowed}
    close = difflib.get_close_matches(word.lower(), known, 1, 0.5)
    return f"; did you mean {known[close[0]]!r}?" if close else ""


@cache
def optimizers() -> dict[str, type[Optimizer]]:
    """Return every optimizer of the library by its lower-case name.

    Optimizers are found in rules/ and drivers/, and listed nowhere.
    """
    found: dict[str, type[Optimizer]] = {}
    for package in (rules, drivers):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            held = vars(importlib.import_module(module.name)).values()
            own = (c for c in held if isinstance(c, type) and c.__module__ == module.name)
            found.update({c.__name__.lower(): c for c in own if issubclass(c, Optimizer)})
    return dict(sorted(found.items()))


def find(name: str) -> type[Optimizer]:
    """Return the optimizer of that name; case, ``-`` and ``_`` do not matter.

    Raises:
        UnknownNameError: no optimizer has that name.
    """
    plain = re.sub(r"[-_\s]", "", name).lower()
    known = optimizers()
    if plain not in known:
        hint = suggest(plain, known)
        raise UnknownNameError(f"unknown optimizer {name!r}{hint} (there are: {', '.join(known)})")
    return known[plain]


@dataclass(frozen=True)
class Recipe:
    """Optimizer and the options that were given for it.

    Attributes:
        name: the optimizer's lower-case name.
        options: the options that were given; all others keep their defaults.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check names and values at once, so that a study never fails late."""
        cls = find(self.name)
        for key in self.options:
            declared, index = _find_field(cls, key)
            if index is not None:
                raise UnknownNameError(
                    f"{key!r} is an entry of {declared.name!r}; give {declared.name} whole, as a tuple"
                )
        values = self.resolved()
        for key, value in values.items():
            cls.fields[key].validate(value)
        cls.check(values)

    @property
    def optimizer(self) -> type[Optimizer]:
        """The optimizer's class."""
        return find(self.name)

    @property
    def label(self) -> str:
        """The class's name with the given options: ``Adam[lr=0.01]``."""
        given = ",".join(f"{key}={spell(value)}" for key, value in self.options.items())
        return self.optimizer.__name__ + (f"[{given}]" if given else "")

    def resolved(self) -> dict[str, Any]:
        """Return every option of the optimizer with its value.

        The values are plain, and JSON can hold them (tuples become lists there).
        """
        return {name: f.default for name, f in self.optimizer.fields.items()} | dict(self.options)

    def with_defaults(self, options: Mapping[str, Any]) -> Recipe:
        """Return this recipe on top of ``options``; the options that the recipe was given win."""
        return Recipe(self.name, {**options, **self.options})

    def build(self, params: Any) -> Optimizer:
        """Build the optimizer over ``params``."""
        return self.optimizer(params, **self.options)


def spell(value: Any) -> str:
    """Return a value as a label has it; different numbers never look alike."""
    if isinstance(value, tuple):
        return "(" + ",".join(map(spell, value)) + ")"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse(text: str) -> Recipe:
    """Read a recipe such as ``adam`` or ``adam[lr=0.01,betas=(0.9,0.99),amsgrad=true]``.

    A key such as ``beta2=0.99`` sets one entry of a tuple.

    Raises:
        UnknownNameError: the optimizer or an option does not exist.
        ValueError: the text is not of this form, or a value is not allowed.
    """
    match = re.fullmatch(r"\s*([^\[\]]+?)\s*(?:\[(.*)\])?\s*", text, re.DOTALL)
    if not match:
        raise ValueError(f"cannot read {text!r}; write NAME or NAME[key=value,...], such as adam[lr=0.01]")
    name, body = match.groups()
    cls = find(name)
    options: dict[str, Any] = {}
    given: set[str] = set()
    for item in _split(body or ""):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key or not value:
            raise ValueError(f"cannot read {item.strip()!r} in {text!r}; write key=value")
        _set(cls, options, given, key, value)
    try:
        return Recipe(cls.__name__.lower(), options)
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {error}") from error


def _split(body: str) -> list[str]:
    """Split at commas that are outside parentheses."""
    return [item for item in re.split(r",(?![^(]*\))", body) if item.strip()]


def _set(cls: type[Optimizer], options: dict[str, Any], given: set[str], key: str, text: str) -> None:
    declared, index = _find_field(cls, key)
    if key in given or (declared.name in options and index is None):
        raise ValueError(f"{key!r} is given twice for {cls.__name__}")
    given.add(key)
    value = _value(declared, key, text)
    if index is not None:
        entries = list(options.get(declared.name, declared.default))
        entries[index] = value
        value = tuple(entries)
    options[declared.name] = value


def _find_field(cls: type[Optimizer], key: str) -> tuple[Field, int | None]:
    free = {f.name: f for f in cls.fields.values() if not f.fixed}
    if key in free:
        return free[key], None
    for declared in free.values():
        if key in declared.names:
            return declared, declared.names.index(key)
    names = [n for f in free.values() for n in dict.fromkeys((f.name, *f.names))]
    message = f"{cls.__name__} has no option {key!r}{suggest(key, names)} (it has: {', '.join(names)})"
    raise UnknownNameError(message)


def _worded(text: str) -> Any:
    """Return a value that has words without quotes in it: ``(head,8)`` is ``("head", 8)``."""
    entries = re.fullmatch(r"\((.*)\)", text)
    if entries:
        return tuple(_worded(entry.strip()) for entry in entries[1].split(","))
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _value(declared: Field, key: str, text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if declared.choices:
        return text.strip("'\"")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if declared.convert is not None:
            return _worded(text)
        raise ValueError(f"{key}={text} is no value for {key}; it must be {declared.allowed}") from None
