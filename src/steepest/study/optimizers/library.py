"""The library's own optimizers."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from steepest import registry
from steepest.fields import Search
from steepest.optimizer import Optimizer
from steepest.registry import Recipe
from steepest.study import source_code
from steepest.study.errors import UsageError
from steepest.study.optimizers.source import Options, Trained, whole_tuples


@dataclass(frozen=True)
class LibraryOptimizer:
    """A class of the library's."""

    name: str

    @property
    def takes_schedule(self) -> bool:
        """The declaration of the class."""
        return "lr" in self._class.fields and self._class.takes_schedule

    @property
    def usual_schedule(self) -> str:
        """The declaration of the class."""
        return self._class.usual_schedule

    @property
    def ranges(self) -> Mapping[str, Search]:
        """The declared ranges of the class."""
        return declared_ranges(self._class)

    @property
    def names(self) -> frozenset[str]:
        """The class's options, and the entries of its tuples."""
        return frozenset(self._class.fields).union(*self.entries.values())

    @property
    def entries(self) -> Mapping[str, tuple[str, ...]]:
        """The declared tuples of the class."""
        return registry.entries(self._class)

    @property
    def twin(self) -> str:
        """The class itself."""
        return self.name

    def adopted(self, setting: Options) -> dict[str, Any]:
        """Return the whole setting."""
        return dict(setting)

    def label(self, options: Options) -> str:
        """Return the class's name, and the options in brackets."""
        return registry.labelled(self._class.__name__, options)

    def resolved(self, options: Options) -> dict[str, Any]:
        """Return every option of the class."""
        return Recipe(self.name, options).resolved()

    def merged(self, options: Options, others: Options) -> dict[str, Any]:
        """Override options, and check names and values. Refuse a class that the loop of a trial cannot feed."""
        if self._class.takes_estimates:
            raise UsageError(
                f"{self.name} is fed with estimates of the curvature between its steps, and a study's loop makes none; "
                "compare it in a loop of your own"
            )
        whole = whole_tuples(self, options, others)
        return dict(Recipe(self.name, whole).options)

    def sha256(self, options: Options) -> str:
        """Return the digest of the rule."""
        rule = self._class.rule_for(self.resolved(options))
        shared = rule.shared
        others = () if shared is None else tuple(f for f in (shared.measure, shared.renew) if f is not None)
        return source_code.function_digest(rule.fn, *others)

    @property
    def files(self) -> tuple[str, ...]:
        """The file of the class."""
        return (inspect.getfile(self._class),)

    def build(self, of: Trained, options: Options) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return Recipe(self.name, options).build(of if isinstance(of, torch.nn.Module) else list(of))

    @property
    def _class(self) -> type[Optimizer]:
        return registry.find(self.name)


def declared_ranges(cls: type[Optimizer]) -> dict[str, Search]:
    """Return the search ranges that a library class declares, tuples entry by entry."""
    searched = [field for field in cls.fields.values() if field.search is not None]
    return {name: field.search for field in searched for name in field.names or (field.name,) if field.search}
