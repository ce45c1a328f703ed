"""Optimizers from outside the library: any class or factory that makes a `torch.optim.Optimizer`."""

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch

from steepest import registry
from steepest.fields import Search
from steepest.optimizer import Optimizer
from steepest.study import seeds
from steepest.study.errors import UsageError
from steepest.study.optimizers import modules, settings, twins
from steepest.study.optimizers.library import LibraryOptimizer, declared_ranges
from steepest.study.optimizers.modules import HERE
from steepest.study.optimizers.schedules import CONSTANT
from steepest.study.optimizers.source import Options, Trained, parameters_of, storable, whole_tuples

UNDECLARED: Final = 100.0
"""The rate of an optimizer that declares no range is searched from a hundredth to a hundred times its default."""


MODEL: Final = ("model", "module")


NAMED: Final = ("named_parameters", "named_params")
"""Names of a factory's first parameter that takes the model, or a list of pairs of name and parameter."""


@dataclass(frozen=True)
class ExternalOptimizer:
    """Any class or factory that takes parameters and options and returns a `torch.optim.Optimizer`.

    `source` is `MODULE:NAME` or `FILE.py:NAME`, and `target` is the class or factory of that name.
    """

    source: str
    target: Callable[..., Any]

    @property
    def takes_schedule(self) -> bool:
        """The attribute `takes_schedule` of the class or its twin; else true."""
        usual = self.twin is None or LibraryOptimizer(self.twin).takes_schedule
        return bool(getattr(self.target, "takes_schedule", usual))

    @property
    def usual_schedule(self) -> str:
        """The attribute `usual_schedule` of the class or its twin.

        A schedule-free optimizer (Defazio 2024), known by its methods `train` and `eval`, has a constant rate.
        """
        averages = all(callable(getattr(self.target, mode, None)) for mode in ("train", "eval"))
        of_twin = "" if self.twin is None else LibraryOptimizer(self.twin).usual_schedule
        return str(getattr(self.target, "usual_schedule", CONSTANT if averages else of_twin))

    @property
    def ranges(self) -> Mapping[str, Search]:
        """Search ranges declared by a library class or a twin; else only the learning rate, around its default."""
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
    def names(self) -> frozenset[str]:
        """The names in the signature, and the entries of its tuples."""
        return frozenset(self._parameters()).union(*self.entries.values())

    @property
    def entries(self) -> Mapping[str, tuple[str, ...]]:
        """Entries of tuples declared by a library class or a twin. Other optimizers take their tuples whole."""
        cls = self._own_class or self._twin_class
        return {whole: names for whole, names in registry.entries(cls).items() if self._takes(whole)} if cls else {}

    @property
    def twin(self) -> str | None:
        """The class of the library among the class's bases, or torch's of the same name."""
        return self._twin_class.__name__.lower() if self._twin_class else None

    def adopted(self, setting: Options) -> dict[str, Any]:
        """Return the options of the setting that the class takes with an unchanged default.

        Options that a `functools.partial` has set are its author's choice and are left out.
        """
        kept = {name for name in self._twin_class.fields if self._keeps(name)} if self._twin_class else set()
        entries = {entry for whole, names in self.entries.items() if whole in kept for entry in names}
        return {name: value for name, value in setting.items() if name in kept | entries}

    def label(self, options: Options) -> str:
        """Return the name of its module or file, its own name, and the options in brackets."""
        place, _, name = self.source.rpartition(":")
        module = Path(place).stem if place.endswith(".py") else place
        shown = name if place == HERE else f"{module}.{name}"
        return registry.labelled(shown, options)

    def resolved(self, options: Options) -> dict[str, Any]:
        """Return the signature's defaults, overridden by the options. Values that JSON lacks are written out."""
        return {key: _written(value) for key, value in {**self._defaults(), **options}.items()}

    def merged(self, options: Options, others: Options) -> dict[str, Any]:
        """Override options. Check the names against the signature, and the values if their ranges are declared."""
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
        """Return the digest of the files with its code and, for a class, of its base classes."""
        holders = self._modules
        digests = dict.fromkeys((*map(modules.file_digest, holders), modules.typed_digest(holders[0], self.target)))
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """The files of its module and, for a class, of its base classes."""
        paths = (getattr(module, "__file__", None) for module in self._modules)
        return tuple(file for file in paths if file)

    @property
    def _modules(self) -> tuple[ModuleType, ...]:
        bases = self.target.__mro__ if inspect.isclass(self.target) else ()
        return (modules.load(self.source), *map(modules.module_of, bases))

    def build(self, of: Trained, options: Options) -> torch.optim.Optimizer:
        """Return the optimizer, or raise an error if the result is not an optimizer.

        A first parameter with the name `model` (or the annotation `torch.nn.Module`) takes the model.
        `named_parameters` or `named_params` takes a list of pairs of name and parameter, any other a list of
        parameters.
        """
        made = self.target(self._first(of), **options)
        if not isinstance(made, torch.optim.Optimizer):
            raise UsageError(f"{self.source} must return a torch.optim.Optimizer; it returned a {type(made).__name__}")
        return made

    @property
    def _own_class(self) -> type[Optimizer] | None:
        return self.target if inspect.isclass(self.target) and issubclass(self.target, Optimizer) else None

    def _first(self, of: Trained) -> Any:
        """Return the first argument of the class or factory: the model, or a list to iterate more than once."""
        first = signature(self.source, self.target)[0]
        takes_model = first.name in MODEL or _is_module(first.annotation)
        if not isinstance(of, torch.nn.Module):
            if takes_model:
                raise UsageError(
                    f"{self.source} takes a model; give run.optimizer the model in place of its parameters"
                )
            return list(of)
        if takes_model:
            return of
        return list(of.named_parameters()) if first.name in NAMED else parameters_of(of)

    @property
    def _twin_class(self) -> type[Optimizer] | None:
        return twins.twin(self.target)

    def _keeps(self, name: str) -> bool:
        """Return whether the class takes an option of its twin and has the twin's default for it."""
        if self._twin_class is None or not self._takes(name) or name in twins.bound(self.target):
            return False
        default = self._twin_class.fields[name].default
        return bool(self._defaults().get(name, default) == default)

    def _takes(self, name: str) -> bool:
        return self._takes_any or name in self._parameters()

    @property
    def _takes_any(self) -> bool:
        return any(
            parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature(self.source, self.target)[1]
        )

    def _parameters(self) -> dict[str, inspect.Parameter]:
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {
            parameter.name: parameter
            for parameter in signature(self.source, self.target)[1]
            if parameter.kind in by_name
        }

    def _defaults(self) -> dict[str, Any]:
        given = {name: parameter.default for name, parameter in self._parameters().items()}
        return {name: value for name, value in given.items() if value is not inspect.Parameter.empty}

    def _usual_rate(self) -> Any:
        """Return the default rate. A factory that passes on any option is asked for an optimizer."""
        if "lr" in self._parameters() or not self._takes_any:
            return self._defaults().get("lr")
        try:
            with settings.kept(), seeds.GlobalStream("init", 0).active():
                return self.build(matrix(), {}).defaults.get("lr")
        except Exception:  # the dry run tells what is wrong with it
            return None


def matrix() -> torch.nn.Module:
    """Return the smallest model on which an optimizer can be tried: one matrix of zeros."""
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.zeros(2, 2))
    return model


def signature(source: str, target: Callable[..., Any]) -> tuple[inspect.Parameter, list[inspect.Parameter]]:
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
    """Return whether a parameter's annotation is a model, also in the form of a text."""
    if inspect.isclass(annotation):
        return issubclass(annotation, torch.nn.Module)
    return isinstance(annotation, str) and annotation.rpartition(".")[2] == "Module"


def _written(value: Any) -> Any:
    """Return a value as JSON stores it.

    Others are written out, without their addresses, which differ between processes.
    """
    try:
        return storable("", value)
    except UsageError:
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
