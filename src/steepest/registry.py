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

from . import drivers, plugins, rules
from .fields import Options
from .optimizer import Optimizer
from .wrappers import WRAPPERS, Wrapper


class UnknownNameError(ValueError):
    """Error for a name that does not exist; the message holds the close match and the list of names."""


def suggest(word: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'adam'?"`` for a near miss, whatever its case, else nothing."""
    known = {one.lower(): one for one in allowed}
    close = difflib.get_close_matches(word.lower(), known, 1, 0.5)
    return f"; did you mean {known[close[0]]!r}?" if close else ""


@cache
def optimizers() -> dict[str, type[Optimizer]]:
    """Return every optimizer by its lower-case name: the library's, and those of other packages (see `plugins`)."""
    others = plugins.optimizers({**{name: m.cls for name, m in _aliases(built_in()).items()}, **built_in()})
    return dict(sorted({**others, **built_in()}.items()))


@cache
def built_in() -> dict[str, type[Optimizer]]:
    """Return every optimizer of the library by its lower-case name.

    Optimizers are found in rules/ and drivers/, and listed nowhere.
    """
    found: dict[str, type[Optimizer]] = {}
    for package in (rules, drivers):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            own = plugins.own_classes(importlib.import_module(module.name))
            found.update({cls.__name__.lower(): cls for cls in own})
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Meaning:
    """Meaning of a name: a class, and the options that the name stands for. A class's own name has no options."""

    cls: type[Optimizer]
    options: Options

    def merged(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``given`` on top of the options that the name stands for; ``beta2`` sets one entry of ``betas``."""
        return whole_tuples(entries(self.cls), defaults(self.cls), self.options, given)


@cache
def aliases() -> dict[str, Meaning]:
    """Return the meaning of every alias, which classes declare as `Optimizer.aliases`.

    An alias of another package's class is left out with a `PluginWarning` if it is another optimizer's name.
    """
    found = _aliases(built_in())
    names = {**{name: m.cls for name, m in found.items()}, **optimizers()}
    added = {name: cls for name, cls in optimizers().items() if name not in built_in()}
    for name, meaning in _aliases(added).items():
        if name in names:
            plugins.warn_of_alias(name, meaning.cls, names[name])
        else:
            found[name] = meaning
    return dict(sorted(found.items()))


def _aliases(classes: Mapping[str, type[Optimizer]]) -> dict[str, Meaning]:
    declared = ((cls, declared_aliases(cls)) for cls in classes.values())
    return {name: Meaning(cls, options) for cls, names in declared for name, options in names.items()}


def declared_aliases(cls: type[Optimizer]) -> Mapping[str, Options]:
    """Return the aliases that a class itself declares, with the options that they stand for."""
    own: Mapping[str, Options] = vars(cls).get("aliases", {})
    return own


def in_words(aliases: Mapping[str, Options]) -> str:
    """Return aliases with what they stand for: ``signsgd (momentum=0), tiger (momentum=0.965)``."""
    given = {name: ", ".join(f"{key}={spell(value)}" for key, value in o.items()) for name, o in aliases.items()}
    return ", ".join(f"{name} ({options})" if options else name for name, options in given.items())


def look_up(name: str) -> Meaning:
    """Return the meaning of a class's name or an alias; case, ``-`` and ``_`` do not matter.

    Raises:
        UnknownNameError: no optimizer has that name.
    """
    plain = plugins.plain(name)
    for known in (built_in, optimizers):  # the library's names first: no other package is imported for them
        if plain in known():
            return Meaning(known()[plain], {})
    if plain in aliases():
        return aliases()[plain]
    if plain in WRAPPERS:
        raise UnknownNameError(
            f"{name!r} is built around an optimizer: steepest.create({plain!r}, model, base='adamw'), or "
            f"-o {plain}[base=adamw] in a study"
        )
    hint = suggest(plain, [*optimizers(), *aliases(), *WRAPPERS])
    raise UnknownNameError(f"unknown optimizer {name!r}{hint} (there are: {', '.join(optimizers())})")


def find(name: str) -> type[Optimizer]:
    """Return the class of that name. Of an alias it is the class only; `look_up` and `parse` return the options too.

    Raises:
        UnknownNameError: no optimizer has that name.
    """
    return look_up(name).cls


def wrapper(name: str) -> type[Wrapper] | None:
    """Return the wrapper of that name, such as SAM; None if it is another name."""
    return WRAPPERS.get(plugins.plain(name))


def expand(name: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a class's lower-case name, and ``given`` on top of the options that ``name`` stands for.

    Raises:
        UnknownNameError: no optimizer has that name.
    """
    meaning = look_up(name)
    return meaning.cls.__name__.lower(), meaning.merged(given) if meaning.options else dict(given)


@dataclass(frozen=True)
class Recipe:
    """Optimizer and the options that were given for it.

    Attributes:
        name: the optimizer's lower-case name. An alias is replaced by the class and options that it stands for.
        options: the options that were given; all others keep their defaults.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check names and values at once, so that a study never fails late."""
        name, options = expand(self.name, self.options)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "options", options)
        cls = find(name)
        for key in self.options:
            _check_name(cls, key)
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
        return labelled(self.optimizer.__name__, self.options)

    def resolved(self) -> dict[str, Any]:
        """Return every option of the optimizer with its value.

        The values are plain, and JSON can hold them (tuples become lists there).
        """
        return defaults(self.optimizer) | dict(self.options)

    def with_defaults(self, options: Mapping[str, Any]) -> Recipe:
        """Return this recipe on top of ``options``; the options that the recipe was given win."""
        return Recipe(self.name, {**options, **self.options})

    def build(self, trained: Any) -> Optimizer:
        """Build the optimizer over a model, parameters or groups."""
        return self.optimizer.over(trained, **self.options)


def labelled(name: str, options: Mapping[str, Any]) -> str:
    """Return a name with options in brackets, as `read` takes it."""
    given = ",".join(f"{key}={spell(value)}" for key, value in options.items())
    return name + (f"[{given}]" if given else "")


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
    name, given = read(text)
    return recipe(name, given)


def recipe(name: str, given: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a name and options; an option such as ``beta2`` sets one entry of a tuple.

    Raises:
        UnknownNameError: the optimizer or an option does not exist.
        ValueError: a value is not allowed.
    """
    meaning = look_up(name)
    cls = meaning.cls
    try:
        return Recipe(cls.__name__.lower(), meaning.merged(given))
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {error}") from error


def read(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``NAME[key=value,...]`` into the name and the given options, whatever they name.

    A value is a number, true, false, none, a word, a text in quotation marks, or a tuple of these.

    Raises:
        ValueError: the text is not of this form, or a key is given twice.
    """
    match = re.fullmatch(r"\s*([^\[\]]+?)\s*(?:\[(.*)\])?\s*", text, re.DOTALL)
    if not match:
        raise ValueError(f"cannot read {text!r}; write NAME or NAME[key=value,...], such as adam[lr=0.01]")
    pairs = _pairs(text, match[2] or "")
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is given twice in {text!r}; give it once")
    return match[1], dict(pairs)


def _pairs(text: str, body: str) -> list[tuple[str, Any]]:
    try:
        call = ast.parse(f"_({body})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("a bracket too many")
        pairs = [(item.arg, ast.literal_eval(_Words().visit(item.value))) for item in call.keywords if item.arg]
        if len(pairs) < len(call.args) + len(call.keywords):
            raise ValueError("a value without a name")
    except (ValueError, SyntaxError) as error:
        raise ValueError(
            f"cannot read the options of {text!r}; write key=value, separated by commas: "
            "a value is a number, true, false, none, a word, a 'text', or a tuple such as (0.9,0.99)"
        ) from error
    return pairs


class _Words(ast.NodeTransformer):
    """Transformer that turns the words of a command line into constants."""

    def visit_Name(self, node: ast.Name) -> ast.Constant:
        known = {"true": True, "false": False, "none": None}
        return ast.Constant(known.get(node.id.lower(), node.id))


def entries(cls: type[Optimizer]) -> dict[str, tuple[str, ...]]:
    """Return the names of the entries of every option of a class that is a tuple: ``beta1`` and ``beta2`` of betas."""
    return {name: field.names for name, field in cls.fields.items() if len(field.names) > 1}


def defaults(cls: type[Optimizer]) -> dict[str, Any]:
    """Return the default of every option of a class."""
    return {name: field.default for name, field in cls.fields.items()}


def whole_tuples(
    entries: Mapping[str, tuple[str, ...]],
    defaults: Mapping[str, Any],
    options: Mapping[str, Any],
    others: Mapping[str, Any],
) -> dict[str, Any]:
    """Return ``options`` overridden by ``others``; both may name entries of tuples: ``beta2`` of ``betas``.

    Args:
        entries: the names of each tuple's entries.
        defaults: the tuples of which neither gives a whole value.
        options: options by name, or by the name of an entry.
        others: options that win.

    Raises:
        ValueError: ``others`` give a tuple both whole and by an entry, or one entry of a tuple that is None.
    """
    merged = {**options, **others}
    for whole, names in entries.items():
        single = [name for name in names if name in merged]
        if single and whole in others:
            raise ValueError(f"{single[0]!r} is an entry of {whole!r}; give one of the two")
        if single:
            usual = merged.get(whole, defaults[whole])
            if usual is None and len(single) < len(names):
                every = ", ".join(names)
                raise ValueError(f"{single[0]!r} is an entry of {whole!r}, which is off; give all of {every}")
            values = dict.fromkeys(names) if usual is None else dict(zip(names, usual, strict=True))
            merged[whole] = tuple((values | {name: merged.pop(name) for name in single}).values())
    return merged


def _check_name(cls: type[Optimizer], key: str) -> None:
    """Raise `UnknownNameError` unless ``key`` names an option of the class as a whole."""
    free = {f.name: f for f in cls.fields.values() if not f.fixed}
    for declared in free.values():
        if len(declared.names) > 1 and key in declared.names and key not in free:
            raise UnknownNameError(f"{key!r} is an entry of {declared.name!r}; give {declared.name} whole, as a tuple")
    if key not in free:
        names = [n for f in free.values() for n in dict.fromkeys((f.name, *f.names))]
        raise UnknownNameError(
            f"{cls.__name__} has no option {key!r}{suggest(key, names)} (it has: {', '.join(names)})"
        )
