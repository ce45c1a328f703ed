"""Where a study's optimizers come from: the library, any module, or a file of the user's."""

import ast
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol

import torch

from steepest import registry
from steepest.fields import Search
from steepest.optimizer import Optimizer
from steepest.registry import Recipe
from steepest.study import user_files
from steepest.study.errors import UsageError
from steepest.study.records import plain

UNDECLARED: Final = 100.0
"""The rate of an optimizer that declares no range is searched from a hundredth to a hundred times its default."""

HERE: Final = "here"
"""Before the colon of a source: the class or function was handed over in Python, and only this process has it."""

Options = Mapping[str, Any]
_HANDED_OVER: dict[str, Callable[..., Any]] = {}


class Origin(Protocol):
    """An optimizer's class or factory, and what a study must know of it."""

    @property
    def takes_schedule(self) -> bool:
        """Whether a schedule of its learning rate makes sense."""

    @property
    def ranges(self) -> Mapping[str, Search]:
        """The declared search range of every hyperparameter that has one, tuples entry by entry."""

    def label(self, options: Options) -> str:
        """Return its name with these options in brackets."""

    def resolved(self, options: Options) -> dict[str, Any]:
        """Return every option with its value, as plain data."""

    def merged(self, options: Options, others: Options) -> dict[str, Any]:
        """Return `options` overridden by `others`, whose names may be entries of a tuple; raise for a wrong one."""

    def sha256(self, options: Options) -> str:
        """Return the digest of the source code that its numbers depend on."""

    def build(self, params: Iterable[torch.nn.Parameter], options: Options) -> torch.optim.Optimizer:
        """Return the optimizer."""


@dataclass(frozen=True)
class Ours:
    """A class of the library's."""

    name: str

    @property
    def takes_schedule(self) -> bool:
        """What the class says."""
        return "lr" in self._class.fields and self._class.takes_schedule

    @property
    def ranges(self) -> Mapping[str, Search]:
        """What the class declares."""
        return declared_ranges(self._class)

    def label(self, options: Options) -> str:
        """Return the class's name, and the options in brackets."""
        return Recipe(self.name, options).label

    def resolved(self, options: Options) -> dict[str, Any]:
        """Return every option of the class."""
        return Recipe(self.name, options).resolved()

    def merged(self, options: Options, others: Options) -> dict[str, Any]:
        """Override, check names and values."""
        whole = whole_tuples(options, others, self._class.fields.values())
        return dict(Recipe(self.name, whole).options)

    def sha256(self, options: Options) -> str:
        """Return the digest of the rule."""
        return _digest(self._class.rule_for(self.resolved(options)).fn)

    def build(self, params: Iterable[torch.nn.Parameter], options: Options) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return Recipe(self.name, options).build(params)

    @property
    def _class(self) -> type[Optimizer]:
        return registry.find(self.name)


@dataclass(frozen=True)
class Foreign:
    """Any class or factory that takes parameters and options and returns a `torch.optim.Optimizer`."""

    source: str
    target: Callable[..., Any]

    @property
    def takes_schedule(self) -> bool:
        """Unless a class of ours says otherwise, a rate can be scheduled."""
        return bool(getattr(self.target, "takes_schedule", True))

    @property
    def ranges(self) -> Mapping[str, Search]:
        """What a class of ours declares; for others the learning rate alone, around its default."""
        if inspect.isclass(self.target) and issubclass(self.target, Optimizer):
            return declared_ranges(self.target)
        default = self._defaults().get("lr")
        if isinstance(default, int | float) and default > 0:
            return {"lr": Search(default / UNDECLARED, default * UNDECLARED)}
        return {"lr": Search(1e-5, 1.0)} if "lr" in self._parameters() else {}

    def label(self, options: Options) -> str:
        """Return the name that it was found by, without its file, and the options in brackets."""
        module, _, name = self.source.rpartition(":")
        shown = name if module.endswith(".py") or module == HERE else f"{module}.{name}"
        given = ",".join(f"{key}={_spell(value)}" for key, value in options.items())
        return shown + (f"[{given}]" if given else "")

    def resolved(self, options: Options) -> dict[str, Any]:
        """Return the signature's defaults under the options; values that JSON lacks are written out."""
        known = {**self._defaults(), **options}
        return {key: value if _is_plain(value) else repr(value) for key, value in known.items()}

    def merged(self, options: Options, others: Options) -> dict[str, Any]:
        """Override, and check the names against the signature."""
        fields = getattr(self.target, "fields", {})
        whole = whole_tuples(options, others, fields.values())
        parameters = self._parameters()
        takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
        for key in () if takes_any else whole:
            if key not in parameters:
                hint = registry.suggest(key, parameters)
                raise UsageError(f"{self.source} has no option {key!r}{hint} (it has: {', '.join(parameters)})")
        return whole

    def sha256(self, options: Options) -> str:
        """Return the digest of the class's or the factory's source."""
        return _digest(self.target)

    def build(self, params: Iterable[torch.nn.Parameter], options: Options) -> torch.optim.Optimizer:
        """Return the optimizer, or say that it is none."""
        made = self.target(params, **options)
        if not isinstance(made, torch.optim.Optimizer):
            raise UsageError(f"{self.source} must make a torch.optim.Optimizer; it made a {type(made).__name__}")
        return made

    def _parameters(self) -> dict[str, inspect.Parameter]:
        _, *others = inspect.signature(self.target).parameters.values()
        return {one.name: one for one in others}

    def _defaults(self) -> dict[str, Any]:
        given = {name: one.default for name, one in self._parameters().items()}
        return {name: value for name, value in given.items() if value is not inspect.Parameter.empty}


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Read `NAME[key=value,...]` into where the optimizer comes from and the options that were given."""
    source, _, _ = text.partition("[")
    if ":" not in source:
        recipe = registry.parse(text)
        return recipe.name, dict(recipe.options)
    match = re.fullmatch(r"([^\[\]]+)(?:\[(.*)\])?", text.strip(), re.DOTALL)
    if match is None:
        raise UsageError(f"cannot read {text!r}; write MODULE:NAME or FILE.py:NAME, and [key=value,...] after it")
    return match[1].strip(), {key: _value(text, key, value) for key, value in _pairs(text, match[2] or "")}


@cache
def find(source: str) -> Origin:
    """Return the optimizer of this name, module or file."""
    if ":" not in source:
        return Ours(registry.find(source).__name__.lower())
    place, _, name = source.rpartition(":")
    if place == HERE:
        return _handed_over(source, name)
    if place.endswith(".py"):
        module = user_files.load(place)
    else:
        try:
            module = importlib.import_module(place)
        except ImportError as error:
            raise UsageError(f"cannot import {place!r} for the optimizer {source!r}: {error}") from error
    target = getattr(module, name, None)
    if not callable(target):
        callables = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        hint = registry.suggest(name, callables) or "."
        raise UsageError(f"{place} has no class or function {name!r}{hint}")
    return Foreign(source, target)


def give(label: str, target: Callable[..., Any]) -> str:
    """Hand over a class or function under a label; return the source that names it in this process."""
    if not callable(target):
        raise UsageError(f"{label!r} must be a class or a function of the parameters, not {target!r}")
    ours = registry.optimizers().get(label.lower())
    if target is ours:
        return label.lower()
    _HANDED_OVER[label] = target
    find.cache_clear()  # the label may have meant another one before
    return f"{HERE}:{label}"


def _handed_over(source: str, name: str) -> Origin:
    if name not in _HANDED_OVER:
        raise UsageError(f"{name!r} was an object of the program that called compare; only that program can run it")
    return Foreign(source, _HANDED_OVER[name])


def declared_ranges(cls: type[Optimizer]) -> dict[str, Search]:
    """Return the search ranges that a class of ours declares, tuples entry by entry."""
    searched = [field for field in cls.fields.values() if field.search is not None]
    return {name: field.search for field in searched for name in field.names or (field.name,) if field.search}


def whole_tuples(options: Options, others: Options, fields: Iterable[Any]) -> dict[str, Any]:
    """Return `options` overridden by `others`, whose names may be entries of tuple fields: `beta2` of `betas`."""
    merged = {**options, **others}
    for field in fields:
        entries = [name for name in field.names if name in merged and name != field.name]
        if entries:
            values = dict(zip(field.names, merged.get(field.name, field.default), strict=True))
            merged[field.name] = tuple((values | {name: merged.pop(name) for name in entries}).values())
    return merged


def _pairs(text: str, body: str) -> list[tuple[str, str]]:
    pairs = [item.partition("=") for item in re.split(r",(?![^(]*\))", body) if item.strip()]
    if any(not equals for _, equals, _ in pairs):
        raise UsageError(f"cannot read the options of {text!r}; write key=value, separated by commas")
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _value(text: str, key: str, value: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return words[value.lower()]
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        raise UsageError(
            f"cannot read {key}={value} in {text!r}; write a number, true, false, none or 'text'"
        ) from None


def _spell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(plain(value))
    except TypeError:
        return False
    return True


def _digest(code: Callable[..., Any]) -> str:
    """Return the SHA-256 of the source text; code that has none is told by its name."""
    try:
        text = inspect.getsource(code)
    except (OSError, TypeError):
        text = repr(code)
    return hashlib.sha256(text.encode()).hexdigest()
