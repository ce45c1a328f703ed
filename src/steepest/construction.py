"""Construction of an optimizer: the fields of its class in order, their constructor, and checks of the arguments."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, replace
from typing import Any, dataclass_transform

import torch

from . import fields as fields_module
from .fields import Field, Fields, arguments_in_words, complete, fixed, settle, signature


@dataclass_transform(eq_default=False, field_specifiers=(fixed,))
class Declared:
    """Base that tells type checkers that a subclass's annotated fields are its constructor's arguments.

    It is a class of its own, since the fields of the decorated class itself do not count.
    """


def collect_fields(cls: Any, common: Mapping[str, Field]) -> Fields:
    """Return all fields of a class in the order of its constructor; ``common`` has the fields that every class takes.

    Positional fields are the parent's first (a redeclared one keeps its place), then the class's own. Keyword-only
    fields are the class's own first, then the parent's, then the common ones. So a class can have torch's order without
    repeating a field. A class may redeclare a common field, to give it another default.
    """
    own: dict[str, Field] = {}
    keyword_only = False
    for name, annotation in inspect.get_annotations(cls).items():
        if annotation in ("KW_ONLY", KW_ONLY):
            keyword_only = True
        elif isinstance(declared := cls.__dict__.get(name), Field):
            own[name] = _of_class(declared.named(name, keyword_only), common)
            delattr(cls, name)
    inherited = {name: f for name, f in cls.fields.items() if f is not common.get(name)}
    positional = {name: f for name, f in (inherited | own).items() if not f.keyword_only}
    named = {name: f for name, f in (own | (inherited | own)).items() if f.keyword_only}
    return Fields(positional | named | {name: f for name, f in common.items() if name not in named})


def _of_class(field: Field, common: Mapping[str, Field]) -> Field:
    """Return a class's own field; one that every class takes stays around the rule if it is declared again."""
    return replace(field, is_around=common[field.name].is_around) if field.name in common else field


def constructor(fields: Mapping[str, Field], twin: type[torch.optim.Optimizer] | None) -> Callable[..., None]:
    """Return an ``__init__`` with the signature of ``fields``; it hands their values to ``_setup(params, values)``.

    Args:
        fields: the class's fields.
        twin: torch's class of the same name, whose arguments come first; None if torch has none.
    """
    made = signature(fields, () if twin is None else inspect.signature(twin).parameters)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it becomes the class's own
        refuse_unknown(type(self).__name__, fields, kwargs)
        bound = made.bind(self, *args, **kwargs)
        bound.apply_defaults()
        values = dict(bound.arguments)
        del values["self"]
        params = values.pop("params")
        self._setup(params, values)

    __init__.__signature__ = made  # type: ignore[attr-defined]
    __init__.__doc__ = arguments_in_words(fields)
    return __init__


def resolved(cls: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of an optimizer's class as a group keeps them; missing options take their defaults.

    Raises:
        ValueError: a value out of bounds, or options that do not go together.
        TypeError: an option that does not exist, or a value of another type.
    """
    refuse_unknown(cls.__name__, cls.fields, options)
    values = validated(cls.fields, options)
    complete(cls.fields, values)
    settle(cls.fields, values)
    cls.check(values)
    return values


def validated(fields: Mapping[str, Field], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options, missing ones with their defaults, or raise for a value that its field does not allow."""
    values = {name: field.default for name, field in fields.items()} | dict(options)
    for name, value in values.items():
        fields[name].validate(value)
    return values


def refuse_unknown(name: str, fields: Mapping[str, Field], given: Mapping[str, Any]) -> None:
    """Raise `TypeError` for an argument that does not exist.

    The message has the close match and all arguments that exist.
    """
    free = [f.name for f in fields.values() if not f.fixed]
    for argument in given:
        if argument not in (*free, "params"):
            # What other classes take under this name is not a typing error: Rprop's lack of weight_decay, for example.
            close = [] if hasattr(fields_module, argument) else difflib.get_close_matches(argument, free, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            allowed = f"it takes {', '.join(free)}"
            raise TypeError(f"{name}.__init__() got an unexpected keyword argument {argument!r}{hint} ({allowed})")


def validate_group(fields: Mapping[str, Field], options: Mapping[str, Any]) -> None:
    """Check a group's own options.

    Foreign keys are allowed, as in torch, unless one looks like a typing error.
    """
    for name, value in options.items():
        if name in fields:
            fields[name].validate(value)
        elif close := difflib.get_close_matches(name, {"params", *fields} - {name}, 1, 0.85):
            raise ValueError(f"parameter group has an unknown option {name!r}; did you mean {close[0]!r}?")


def check_group(name: str, group: Mapping[str, Any], count: int, needs_closure: bool) -> None:
    """Raise `ValueError` for a group that the optimizer cannot step.

    Parameters must be floating-point or complex. A rule that asks for new gradients takes only one group, without
    ``max_norm``.

    Args:
        name: the name of the optimizer's class.
        group: the group.
        count: the number of groups.
        needs_closure: whether the rule asks for new gradients.
    """
    for p in group["params"]:
        if not (p.is_floating_point() or p.is_complex()):
            message = f"{name} updates floating-point and complex tensors, not {p.dtype}"
            raise ValueError(f"{message}; convert the parameter of shape {tuple(p.shape)} or leave it out")
    if needs_closure and count > 1:
        raise ValueError(f"{name} doesn't support per-parameter options (parameter groups); give it one group")
    if needs_closure and group["max_norm"] is not None:
        raise ValueError(f"{name} searches along the gradient itself, so max_norm cannot clip it; leave it None")
