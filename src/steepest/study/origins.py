"""Where a study's optimizers come from: the library, any module, or a file of the user's."""

import ast
import hashlib
import importlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol

import torch

from steepest import registry
from steepest.fields import Search
from steepest.optimizer import Optimizer
from steepest.registry import Recipe
from steepest.study import seeds, settings, source_code, twins, typed_code, user_files
from steepest.study.errors import UsageError

UNDECLARED: Final = 100.0
"""The rate of an optimizer that declares no range is searched from a hundredth to a hundred times its default."""

HERE: Final = "here"
"""Before the colon of a source: the class or function was handed over in Python, and only this process has it."""

MODEL: Final = ("model", "module")
NAMED: Final = ("named_parameters", "named_params")
"""Names of a factory's first parameter that is given the model, or a list of pairs of name and parameter."""

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

    @property
    def entries(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the entries of every option that is a tuple: `beta1` and `beta2` of `betas`."""

    @property
    def twin(self) -> str | None:
        """The name of the library's optimizer that it is, or derives from."""

    def adopted(self, setting: Options) -> dict[str, Any]:
        """Return the part of its twin's setting that holds for it: the options of which it keeps the twin's default."""

    def label(self, options: Options) -> str:
        """Return its name with these options in brackets."""

    def resolved(self, options: Options) -> dict[str, Any]:
        """Return every option with its value, as plain data."""

    def merged(self, options: Options, others: Options) -> dict[str, Any]:
        """Return `options` overridden by `others`, whose names may be entries of a tuple; raise for a wrong one."""

    def sha256(self, options: Options) -> str:
        """Return the digest of the source code that its numbers depend on."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files that hold this code."""

    def build(self, model: torch.nn.Module, options: Options) -> torch.optim.Optimizer:
        """Return the optimizer over the model's parameters."""


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

    @property
    def entries(self) -> Mapping[str, tuple[str, ...]]:
        """What the class declares."""
        return declared_entries(self._class)

    @property
    def twin(self) -> str:
        """The class itself."""
        return self.name

    def adopted(self, setting: Options) -> dict[str, Any]:
        """Return the whole setting."""
        return dict(setting)

    def label(self, options: Options) -> str:
        """Return the class's name, and the options in brackets."""
        return Recipe(self.name, options).label

    def resolved(self, options: Options) -> dict[str, Any]:
        """Return every option of the class."""
        return Recipe(self.name, options).resolved()

    def merged(self, options: Options, others: Options) -> dict[str, Any]:
        """Override, check names and values."""
        whole = whole_tuples(self, options, others)
        return dict(Recipe(self.name, whole).options)

    def sha256(self, options: Options) -> str:
        """Return the digest of the rule."""
        return source_code.function_digest(self._class.rule_for(self.resolved(options)).fn)

    @property
    def files(self) -> tuple[str, ...]:
        """The file of the class."""
        return (inspect.getfile(self._class),)

    def build(self, model: torch.nn.Module, options: Options) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return Recipe(self.name, options).build(model.parameters())

    @property
    def _class(self) -> type[Optimizer]:
        return registry.find(self.name)


@dataclass(frozen=True)
class Foreign:
    """Any class or factory that takes parameters and options and returns a `torch.optim.Optimizer`.

    `source` is where it was found, `MODULE:NAME` or `FILE.py:NAME`, and `target` what was found there.
    """

    source: str
    target: Callable[..., Any]

    @property
    def takes_schedule(self) -> bool:
        """What an attribute `takes_schedule` says, or its twin; without both: yes, unless it averages on its own.

        A schedule-free optimizer (Defazio 2024), told by its methods `train` and `eval`, takes a constant rate.
        """
        averages = all(callable(getattr(self.target, mode, None)) for mode in ("train", "eval"))
        usual = not averages and (self.twin is None or Ours(self.twin).takes_schedule)
        return bool(getattr(self.target, "takes_schedule", usual))

    @property
    def ranges(self) -> Mapping[str, Search]:
        """What a class of ours or a twin declares; for others the learning rate alone, around its default."""
        if self._own_class:
            return declared_ranges(self._own_class)
        declared = declared_ranges(self._twin_class) if self._twin_class else {}
        kept = {name: declared[name] for name in self.adopted(declared)}
        return kept if "lr" in kept else self._around_the_default()

    def _around_the_default(self) -> dict[str, Search]:
        default = self._usual_rate()
        if isinstance(default, int | float) and default > 0:
            return {"lr": Search(default / UNDECLARED, default * UNDECLARED)}
        return {"lr": Search(1e-5, 1.0)} if "lr" in self._parameters() else {}

    @property
    def entries(self) -> Mapping[str, tuple[str, ...]]:
        """What a class of ours or a twin declares; others take their tuples whole."""
        cls = self._own_class or self._twin_class
        return {whole: names for whole, names in declared_entries(cls).items() if self._takes(whole)} if cls else {}

    @property
    def twin(self) -> str | None:
        """The class of the library among the class's bases, or torch's of the same name."""
        return self._twin_class.__name__.lower() if self._twin_class else None

    def adopted(self, setting: Options) -> dict[str, Any]:
        """Return the options of the setting that the class takes, and of which its author has not changed the default.

        What a `functools.partial` has settled is its author's choice too.
        """
        kept = {name for name in self._twin_class.fields if self._keeps(name)} if self._twin_class else set()
        entries = {entry for whole, names in self.entries.items() if whole in kept for entry in names}
        return {name: value for name, value in setting.items() if name in kept | entries}

    def label(self, options: Options) -> str:
        """Return its module's or file's name, its own, and the options in brackets."""
        place, _, name = self.source.rpartition(":")
        module = Path(place).stem if place.endswith(".py") else place
        shown = name if place == HERE else f"{module}.{name}"
        given = ",".join(f"{key}={registry.spell(value)}" for key, value in options.items())
        return shown + (f"[{given}]" if given else "")

    def resolved(self, options: Options) -> dict[str, Any]:
        """Return the signature's defaults under the options; values that JSON lacks are written out."""
        return {key: _written(value) for key, value in {**self._defaults(), **options}.items()}

    def merged(self, options: Options, others: Options) -> dict[str, Any]:
        """Override, and check the names against the signature, and the values where they are declared."""
        whole = whole_tuples(self, options, others)
        parameters = self._parameters()
        for key in () if self._takes_any else whole:
            if key not in parameters:
                hint = registry.suggest(key, parameters)
                raise UsageError(f"{self.source} has no option {key!r}{hint} (it has: {', '.join(parameters)})")
        if self._own_class:
            for key, value in whole.items():
                self._own_class.fields[key].validate(value)
            self._own_class.check({**self._defaults(), **whole})
        return whole

    def sha256(self, options: Options) -> str:
        """Return the digest of the files that hold it and, for a class, its base classes."""
        modules = self._modules
        digests = dict.fromkeys((*map(_module_digest, modules), _loose_source(modules[0], self.target)))
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """The files of its module and, for a class, of its base classes."""
        found = (getattr(module, "__file__", None) for module in self._modules)
        return tuple(file for file in found if file)

    @property
    def _modules(self) -> tuple[ModuleType, ...]:
        bases = self.target.__mro__ if inspect.isclass(self.target) else ()
        return (_module(self.source), *(sys.modules[base.__module__] for base in bases))

    def build(self, model: torch.nn.Module, options: Options) -> torch.optim.Optimizer:
        """Return the optimizer, or say that it is none.

        A first parameter that is called `model` (or is annotated as a `torch.nn.Module`) is given the model,
        `named_parameters` or `named_params` a list of pairs of name and parameter, any other a list of parameters.
        """
        made = self.target(self._first(model), **options)
        if not isinstance(made, torch.optim.Optimizer):
            raise UsageError(f"{self.source} must return a torch.optim.Optimizer; it returned a {type(made).__name__}")
        return made

    @property
    def _own_class(self) -> type[Optimizer] | None:
        return self.target if inspect.isclass(self.target) and issubclass(self.target, Optimizer) else None

    def _first(self, model: torch.nn.Module) -> Any:
        """Return what the class or factory takes first: the model, or a list that may be walked more than once."""
        first = _signature(self.source, self.target)[0]
        if first.name in MODEL or _is_module(first.annotation):
            return model
        return list(model.named_parameters() if first.name in NAMED else model.parameters())

    @property
    def _twin_class(self) -> type[Optimizer] | None:
        return twins.twin(self.target)

    def _keeps(self, name: str) -> bool:
        """Whether it takes an option of its twin and has the twin's default for it."""
        if self._twin_class is None or not self._takes(name) or name in twins.bound(self.target):
            return False
        default = self._twin_class.fields[name].default
        return bool(self._defaults().get(name, default) == default)

    def _takes(self, name: str) -> bool:
        return self._takes_any or name in self._parameters()

    @property
    def _takes_any(self) -> bool:
        return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in _signature(self.source, self.target)[1])

    def _parameters(self) -> dict[str, inspect.Parameter]:
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {one.name: one for one in _signature(self.source, self.target)[1] if one.kind in by_name}

    def _defaults(self) -> dict[str, Any]:
        given = {name: one.default for name, one in self._parameters().items()}
        return {name: value for name, value in given.items() if value is not inspect.Parameter.empty}

    def _usual_rate(self) -> Any:
        """Return the default rate; a factory that takes any option and hands it on is asked for an optimizer."""
        if "lr" in self._parameters() or not self._takes_any:
            return self._defaults().get("lr")
        try:
            with settings.kept(), seeds.GlobalStream("init", 0).active():
                return self.build(matrix(), {}).defaults.get("lr")
        except Exception:  # the rehearsal tells what is wrong with it
            return None


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Read `NAME[key=value,...]` into where the optimizer comes from and the options that were given.

    A value is a number, true, false, none, a word, or a tuple of these. An entry of a tuple keeps its own name.

    >>> parse("AdamW[lr=1e-3,beta2=0.99]")
    ('adamw', {'lr': 0.001, 'beta2': 0.99})
    """
    match = re.fullmatch(r"\s*([^\[\]]+?)\s*(?:\[(.*)\])?\s*", text, re.DOTALL)
    if match is None:
        raise UsageError(f"cannot read {text!r}; write NAME, MODULE:NAME or FILE.py:NAME, and [key=value,...] after it")
    return canonical(match[1]), _options(text, match[2] or "")


def canonical(source: str) -> str:
    """Return the one spelling of an optimizer's source: lower case for the library's names, `a.py:X` for `./a.py:X`."""
    place, colon, name = (part.strip() for part in source.rpartition(":"))
    if colon and (not place or not name):
        raise UsageError(f"{source!r} names no optimizer; write MODULE:NAME or FILE.py:NAME")
    if colon:
        return f"{Path(place) if place.endswith('.py') else place}:{name}"
    if name.endswith(".py"):
        raise UsageError(f"{name} is a file; name the optimizer in it: {name}:NAME")
    try:
        return registry.find(name).__name__.lower()
    except registry.UnknownNameError as error:
        module, dot, last = name.rpartition(".")
        advice = f"; what is in a module is written MODULE:NAME, here {module}:{last}" if dot else ""
        raise UsageError(f"{error}{advice}") from None


def find(source: str) -> Origin:
    """Return the optimizer of this name, module or file."""
    if ":" not in source:
        return Ours(registry.find(source).__name__.lower())
    place, _, name = source.rpartition(":")
    if place == HERE:
        return _handed_over(source, name)
    module = _module(source)
    target = getattr(module, name, None)
    if not callable(target):
        raise UsageError(_missing(source, module))
    _signature(source, target)
    return Foreign(source, target)


def give(label: str, target: Callable[..., Any]) -> str:
    """Hand over a class or function under a label; return the source that names it in this process."""
    if not label.strip() or re.search(r"[\[\]:]", label):
        raise UsageError(f"{label!r} cannot be a label; it must have letters or digits, and no colon or square bracket")
    if isinstance(target, torch.optim.Optimizer):
        raise UsageError(f"{label!r} is an optimizer that is built already; give its class {type(target).__name__}")
    if not callable(target):
        raise UsageError(f"{label!r} must be a class or a function of the parameters, not {target!r}")
    ours = registry.optimizers().get(label.lower())
    if target is ours:
        return label.lower()
    _HANDED_OVER[label] = target
    return f"{HERE}:{label}"


def _handed_over(source: str, name: str) -> Origin:
    if name not in _HANDED_OVER:
        raise UsageError(f"{name!r} was an object of the program that called compare; only that program can run it")
    return Foreign(source, _HANDED_OVER[name])


def declared_ranges(cls: type[Optimizer]) -> dict[str, Search]:
    """Return the search ranges that a class of ours declares, tuples entry by entry."""
    searched = [field for field in cls.fields.values() if field.search is not None]
    return {name: field.search for field in searched for name in field.names or (field.name,) if field.search}


def declared_entries(cls: type[Optimizer]) -> dict[str, tuple[str, ...]]:
    """Return the names of the entries of every option of a class of ours that is a tuple."""
    return {name: field.names for name, field in cls.fields.items() if len(field.names) > 1}


def whole_tuples(origin: Origin, options: Options, others: Options) -> dict[str, Any]:
    """Return `options` overridden by `others`, whose names may be entries of tuples: `beta2` of `betas`.

    Raises:
        UsageError: a tuple is given whole and by an entry, or a value cannot be stored in a record.
    """
    merged = {key: storable(key, value) for key, value in {**options, **others}.items()}
    for whole, names in origin.entries.items():
        single = [name for name in names if name in merged]
        if single and whole in others:
            raise UsageError(f"{single[0]!r} is an entry of {whole!r}; give one of the two")
        if single:
            values = dict(zip(names, merged.get(whole, origin.resolved({})[whole]), strict=True))
            merged[whole] = tuple((values | {name: merged.pop(name) for name in single}).values())
    return merged


def storable(key: str, value: Any) -> Any:
    """Return an option as a record gives it back, lists as tuples; raise UsageError for what a record cannot hold.

    >>> storable("betas", [0.9, 0.99])
    (0.9, 0.99)
    """
    if isinstance(value, list | tuple):
        return tuple(storable(key, item) for item in value)
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: storable(key, item) for name, item in value.items()}
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise UsageError(
        f"{key}={value!r} cannot be stored in a record; an option is a finite number, a text, true, false, none or a "
        "tuple of these. For any other write a function in a file of yours that makes the optimizer: FILE.py:NAME"
    )


def _options(text: str, body: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"_({body})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("a bracket too many")
        pairs = [(one.arg, ast.literal_eval(_Words().visit(one.value))) for one in call.keywords if one.arg]
        if len(pairs) < len(call.args) + len(call.keywords):
            raise ValueError("a value without a name")
    except (ValueError, SyntaxError) as error:
        raise UsageError(
            f"cannot read the options of {text!r}; write key=value, separated by commas: "
            "a value is a number, true, false, none, a word, a 'text', or a tuple such as (0.9,0.99)"
        ) from error
    options = dict(pairs)
    if len(options) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{twice!r} is given twice in {text!r}; give it once")
    return options


class _Words(ast.NodeTransformer):
    """Turns the words of a command line into constants."""

    def visit_Name(self, node: ast.Name) -> ast.Constant:
        known = {"true": True, "false": False, "none": None}
        return ast.Constant(known.get(node.id.lower(), node.id))


def _module(source: str) -> ModuleType:
    place, _, name = source.rpartition(":")
    if place == HERE:
        return sys.modules[twins.unwrapped(_HANDED_OVER[name]).__module__]
    with settings.kept():  # an optimizer's module must not change how the others compute
        return user_files.load(place) if place.endswith(".py") else _imported(source, place, name)


def _imported(source: str, place: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ImportError as error:
        advice = f"install it, or name a file of yours with its ending, {place.replace('.', '/')}.py:{name}"
        raise UsageError(f"cannot import {place!r} for the optimizer {source!r}: {error}; {advice}") from error
    except Exception as error:  # whatever a module does when it is imported
        reason = user_files.reason(error)
        raise UsageError(f"cannot import {place!r} for the optimizer {source!r}: it stopped with {reason}") from error


def _missing(source: str, module: ModuleType) -> str:
    place, _, name = source.rpartition(":")
    held = _offered(module)
    there = f" (it has: {', '.join(held)})" if held else ""
    if hasattr(module, name):
        return (
            f"{source} is a {type(getattr(module, name)).__name__} and no class or function; name one of {place}{there}"
        )
    return f"{place} has no class or function {name!r}{registry.suggest(name, held)}{there}"


def _offered(module: ModuleType) -> list[str]:
    """Return the names that may be meant: the module's optimizers, and the functions that it defines itself."""
    bases = (torch.optim.Optimizer, Optimizer)
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    classes = {name: value for name, value in public.items() if inspect.isclass(value) and value not in bases}
    optimizers = [name for name, value in classes.items() if issubclass(value, torch.optim.Optimizer)]
    functions = {name: value for name, value in public.items() if inspect.isfunction(value)}
    return sorted([*optimizers, *(name for name, value in functions.items() if value.__module__ == module.__name__)])


def matrix() -> torch.nn.Module:
    """Return the smallest model on which an optimizer can be tried: one matrix of zeros."""
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.zeros(2, 2))
    return model


def _signature(source: str, target: Callable[..., Any]) -> tuple[inspect.Parameter, list[inspect.Parameter]]:
    """Return the parameter that takes a model's parameters, and the others."""
    try:
        first, *others = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        first, others = None, []
    if first is None or first.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
        raise UsageError(
            f"{source} cannot be called with a model's parameters; write a function of (params, lr=...) that returns "
            "the optimizer"
        )
    return first, others


def _is_module(annotation: Any) -> bool:
    """Whether a parameter's annotation says that it is a model; as text where annotations are not evaluated."""
    if inspect.isclass(annotation):
        return issubclass(annotation, torch.nn.Module)
    return isinstance(annotation, str) and annotation.rpartition(".")[2] == "Module"


def _written(value: Any) -> Any:
    """Return a value as JSON has it; others are written out, without the address that differs in every process."""
    try:
        return storable("", value)
    except UsageError:
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _module_digest(module: ModuleType) -> str:
    """Return the SHA-256 of a module's file; one that has none is told by its name."""
    file = getattr(module, "__file__", None)
    return source_code.file_digest(file) if typed_code.has_file(file) else module.__name__


def _loose_source(module: ModuleType, target: Callable[..., Any]) -> str:
    """Return the digest of what was typed into a session, whose module has no file; nothing where there is one."""
    file = getattr(module, "__file__", None)
    return "" if typed_code.has_file(file) else typed_code.digest(twins.unwrapped(target))
