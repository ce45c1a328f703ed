"""The interface of an optimizer's source, which a study needs of every optimizer."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch

from steepest import registry
from steepest.fields import Search
from steepest.study.errors import UsageError

Options = Mapping[str, Any]
Trained = torch.nn.Module | Iterable[Any]
"""A model, or parameters, pairs of name and parameter, or groups of these."""


class OptimizerSource(Protocol):
    """The class or factory of an optimizer, with the properties that a study needs."""

    @property
    def takes_schedule(self) -> bool:
        """True if a schedule of its learning rate makes sense."""

    @property
    def usual_schedule(self) -> str:
        """The schedule that it has unless its brackets name another; empty for the study's."""

    @property
    def ranges(self) -> Mapping[str, Search]:
        """The declared search range of every hyperparameter that has one, tuples entry by entry."""

    @property
    def names(self) -> frozenset[str]:
        """The names of its options, and of the entries of its tuples. A factory may take others too."""

    @property
    def entries(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the entries of every option that is a tuple: `beta1` and `beta2` of `betas`."""

    @property
    def twin(self) -> str | None:
        """The name of the library's optimizer that it is or derives from."""

    def adopted(self, setting: Options) -> dict[str, Any]:
        """Return the part of its twin's setting that holds for it: options whose defaults it has not changed."""

    def label(self, options: Options) -> str:
        """Return its name with these options in brackets."""

    def resolved(self, options: Options) -> dict[str, Any]:
        """Return every option with its value, as plain data."""

    def merged(self, options: Options, others: Options) -> dict[str, Any]:
        """Return `options` overridden by `others`, whose names may be entries of a tuple.

        Raise UsageError for a wrong name.
        """

    def sha256(self, options: Options) -> str:
        """Return the digest of the source code that its numbers depend on."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files with this code."""

    def build(self, of: Trained, options: Options) -> torch.optim.Optimizer:
        """Return the optimizer over a model's parameters, or over these parameters or groups."""


def parameters_of(of: Trained) -> list[Any]:
    """Return the first argument of an optimizer's class: a model's parameters, or the list that was given."""
    return list(of.parameters() if isinstance(of, torch.nn.Module) else of)


def whole_tuples(origin: OptimizerSource, options: Options, others: Options) -> dict[str, Any]:
    """Return `options` overridden by `others`, whose names may be entries of tuples: `beta2` of `betas`.

    Raises:
        UsageError: a tuple is given whole and by an entry, or a value cannot be stored in a record.
    """
    given, overriding = ({key: storable(key, value) for key, value in each.items()} for each in (options, others))
    try:
        return registry.whole_tuples(origin.entries, origin.resolved({}), given, overriding)
    except ValueError as error:
        raise UsageError(str(error)) from error


def storable(key: str, value: Any) -> Any:
    """Return an option as a record stores it, lists as tuples. Raise UsageError for a value that a record cannot hold.

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
