"""Wrappers such as SAM, around any optimizer that a study can name: `sam(adamw)`, or `sam[base=adamw]`."""

import hashlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from steepest import registry
from steepest.fields import Search
from steepest.study import source_code
from steepest.study.errors import UsageError
from steepest.study.optimizers.source import OptimizerSource, Options, Trained, storable
from steepest.wrappers import Wrapper

BASE = "base"
"""Key in brackets of the optimizer inside."""


@dataclass(frozen=True)
class WrappedOptimizer:
    """A wrapper of the library around an optimizer of any source, whose schedule, rate and ranges are the inner one's.

    An option of both is the wrapper's.
    """

    cls: type[Wrapper]
    inside: OptimizerSource

    @property
    def takes_schedule(self) -> bool:
        """True if the optimizer inside takes one."""
        return self.inside.takes_schedule

    @property
    def usual_schedule(self) -> str:
        """That of the optimizer inside."""
        return self.inside.usual_schedule

    @property
    def ranges(self) -> Mapping[str, Search]:
        """The ranges of both."""
        return {**self.inside.ranges, **self.cls.search}

    @property
    def names(self) -> frozenset[str]:
        """The options of both."""
        return self.inside.names | frozenset(self.cls.options)

    @property
    def entries(self) -> Mapping[str, tuple[str, ...]]:
        """The tuples of the optimizer inside."""
        return self.inside.entries

    @property
    def twin(self) -> str | None:
        """The optimizer inside, whose setting holds here too."""
        return self.inside.twin

    def adopted(self, setting: Options) -> dict[str, Any]:
        """Return the part of the setting that holds for the optimizer inside."""
        return self._inner(self.inside.adopted(setting))

    def label(self, options: Options) -> str:
        """Return both names, and the options in brackets."""
        return registry.labelled(f"{self.cls.__name__}({self.inside.label({})})", options)

    def resolved(self, options: Options) -> dict[str, Any]:
        """Return every option of both."""
        return {**self.inside.resolved(self._inner(options)), **self.cls.usual(), **self._own(options)}

    def merged(self, options: Options, others: Options) -> dict[str, Any]:
        """Override options. The optimizer inside checks its own; the wrapper's are checked where it is built."""
        unknown = [name for name in others if name not in self.names]
        if unknown:
            hint = registry.suggest(unknown[0], self.names)
            known = ", ".join([*self.cls.options, *sorted(self.inside.names)])
            raise UsageError(f"{self.label({})} has no option {unknown[0]!r}{hint} (it has: {known})")
        whole = self.inside.merged(self._inner(options), self._inner(others))
        return {**whole, **self._own(options), **self._own(others)}

    def sha256(self, options: Options) -> str:
        """Return the digest of the wrapper's files and of the optimizer inside."""
        parts = (*map(source_code.file_digest, self._own_files), self.inside.sha256(self._inner(options)))
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the wrapper, and those of the optimizer inside."""
        return (*self._own_files, *self.inside.files)

    @property
    def _own_files(self) -> tuple[str, ...]:
        return tuple(inspect.getfile(base) for base in self.cls.__mro__ if issubclass(base, Wrapper))

    def build(self, of: Trained, options: Options) -> torch.optim.Optimizer:
        """Return the wrapper around the optimizer."""
        own, _ = self.cls.parted(options)
        return self.cls(self.inside.build(of, self._inner(options)), **own)

    def _inner(self, options: Options) -> dict[str, Any]:
        return self.cls.parted(options)[1]

    def _own(self, options: Options) -> dict[str, Any]:
        return {name: storable(name, value) for name, value in options.items() if name in self.cls.options}


def split(source: str) -> tuple[type[Wrapper], str] | None:
    """Return the wrapper and the source of the optimizer inside, of `sam(adamw)` or `sam`; None for any other source.

    >>> split("SAM(my_rules.py:MyOpt)")
    (<class 'steepest.wrappers.sam.SAM'>, 'my_rules.py:MyOpt')
    """
    found = re.fullmatch(r"\s*([\w-]+)\s*(?:\((.*)\))?\s*", source, re.DOTALL)
    cls = registry.wrapper(found[1]) if found else None
    return None if found is None or cls is None else (cls, found[2] or cls.usual_base)
