"""Optimizers from outside the library: any class or factory that makes a `torch.optim.Optimizer`."""

import hashlib
import inspect
import re
import sys
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
from steepest.study.optimizers.library import LibraryOptimizer, declared_entries, declared_ranges
from steepest.study.optimizers.modules import HERE
from steepest.study.optimizers.source import Options, storable, whole_tuples

UNDECLARED: Final = 100.0
"""The rate of an optimizer that declares no range is searched from a hundredth to a hundred times its default."""


MODEL: Final = ("model", "module")


NAMED: Final = ("named_parameters", "named_params")
"""Names of a factory's first parameter that is given the model, or a list of pairs of name and parameter."""


@dataclass(frozen=True)
class ExternalOptimizer:
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
        usual = not averages and (self.twin is None or LibraryOptimizer(self.twin).takes_schedule)
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
        found = self._modules
        digests = dict.fromkeys((*map(modules.file_digest, found), modules.typed_digest(found[0], self.target)))
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """The files of its module and, for a class, of its base classes."""
        found = (getattr(module, "__file__", None) for module in self._modules)
        return tuple(file for file in found if file)

    @property
    def _modules(self) -> tuple[ModuleType, ...]:
        bases = self.target.__mro__ if inspect.isclass(self.target) else ()
        return (modules.load(self.source), *(sys.modules[base.__module__] for base in bases))

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
        first = signature(self.source, self.target)[0]
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
        return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature(self.source, self.target)[1])

    def _parameters(self) -> dict[str, inspect.Parameter]:
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {one.name: one for one in signature(self.source, self.target)[1] if one.kind in by_name}

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
