"""The structure of a batch and of a model's outputs: tensors, in tuples, lists, dicts and dataclasses of any depth."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from steepest.study.errors import UsageError

Batch = Any
"""A tuple or list, whose last entry are the targets, or a dict."""


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return the same structure with a function's results for its leaves: tensors, lists of plain things, the rest."""
    if _is_leaf(value):
        return function(value)
    if _is_record(value):
        return _rebuilt(value, {name: mapped(function, entry) for name, entry in _entries(value).items()})
    entries = [mapped(function, entry) for entry in value]
    return type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)


def on(place: torch.device, batch: Batch) -> Batch:
    """Return a batch on a device."""
    return mapped(lambda leaf: leaf.to(place) if isinstance(leaf, Tensor) else leaf, batch)


def detached(value: Any) -> Any:
    """Return outputs without their graph."""
    return mapped(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, value)


def count(batch: Batch) -> int:
    """Return the number of examples in a batch: the length of its first tensor."""
    return len(_first_tensor(batch))


def device(batch: Batch) -> torch.device:
    """Return the device that a batch is on."""
    return _first_tensor(batch).device


def _first_tensor(batch: Batch) -> Tensor:
    for leaf in _leaves(batch):
        if isinstance(leaf, Tensor) and leaf.dim():
            return leaf
    raise UsageError(f"a batch must hold a tensor with an entry for every example; this one is {described(batch)}")


def divided(batch: Batch, parts: int) -> list[Batch]:
    """Return a batch in so many parts, or fewer if it is small, as `torch.chunk` divides a tensor."""
    if parts == 1:
        return [batch]
    examples = count(batch)
    length = -(-examples // parts)

    return [mapped(partial(_part, examples, start, length), batch) for start in range(0, examples, length)]


def _part(examples: int, start: int, length: int, leaf: Any) -> Any:
    """Return a part of a leaf if it has an entry for every example, else all of it."""
    counted = isinstance(leaf, tuple | list) or (isinstance(leaf, Tensor) and leaf.dim())
    return leaf[start : start + length] if counted and len(leaf) == examples else leaf


def joined(values: Sequence[Any]) -> Any:
    """Return outputs, or targets, of several batches as those of one: tensors concatenated along their first dimension.

    Raises:
        UsageError: they cannot be concatenated.
    """
    first = values[0]
    if isinstance(first, Tensor):
        try:
            return torch.cat([value if value.dim() else value[None] for value in values])
        except RuntimeError as error:
            raise UsageError(
                f"batches cannot be concatenated for the metric: {error}; pad all of them to one shape"
            ) from error
    if first is None:
        return None
    if _is_leaf(first):
        if isinstance(first, tuple | list):
            return [entry for value in values for entry in value]
        raise UsageError(f"a {type(first).__name__} cannot be concatenated over batches for the metric; return tensors")
    if _is_record(first):
        return _rebuilt(first, {name: joined([_entries(value)[name] for value in values]) for name in _entries(first)})
    entries = [joined(column) for column in zip(*values, strict=True)]
    return type(first)(*entries) if hasattr(first, "_fields") else type(first)(entries)


def described(value: Any) -> str:
    """Return a structure in words, tensors by their shapes."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {described(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, tuple | list) and not _is_leaf(value):
        return f"a {type(value).__name__} of {', '.join(map(described, value))}"
    return f"a {type(value).__name__}"


def _is_record(value: Any) -> bool:
    return isinstance(value, Mapping) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def _is_leaf(value: Any) -> bool:
    if _is_record(value):
        return False
    return not isinstance(value, tuple | list) or not any(isinstance(leaf, Tensor) for leaf in _leaves(value))


def _leaves(value: Any) -> Iterator[Any]:
    if _is_record(value):
        value = list(_entries(value).values())
    if not isinstance(value, tuple | list):
        yield value
        return
    for entry in value:
        yield from _leaves(entry)


def _entries(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _rebuilt(value: Any, entries: dict[str, Any]) -> Any:
    if isinstance(value, Mapping) and not dataclasses.is_dataclass(value):
        return entries
    kind: Callable[..., Any] = type(value)
    return kind(**entries)
