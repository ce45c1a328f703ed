"""Coded storage, for any executor: decode what the program reads, run it on the plain values, encode the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..codecs import Codec, decode_whole, encode_whole, flat, key_of, start_of
from ..rule import Program
from .base import Batch, runs

Run = Callable[[Batch], dict[str, Any]]


@dataclass(frozen=True)
class ParamSlice:
    """One parameter, or a flat slice of one.

    Attributes:
        p, g: the parameter and its gradient, or a slice of each.
        stored: the tensor state of the parameter, by its keys.
        stream: the parameter's stream of random bits.
        start: the slice's first element in the parameter.
        place: the parameter's place in its batch.
    """

    p: Tensor
    g: Tensor
    stored: dict[str, Tensor]
    stream: int
    start: int
    place: int


@dataclass(frozen=True)
class DecodedTensor:
    """The values decoded from a coded tensor, and the tensors that they are encoded into again."""

    codec: Codec
    parts: tuple[Tensor, ...]
    fitted: tuple[Tensor, ...]
    values: Tensor
    key: Any
    start: int

    @staticmethod
    def of(codec: Codec, parts: tuple[Tensor, ...], key: Any, start: int) -> DecodedTensor:
        """Decode ``parts``."""
        fitted = _in_one_order(parts)
        return DecodedTensor(codec, parts, fitted, decode_whole(codec, fitted), key, start)

    def store(self) -> None:
        """Encode the values into the tensors that they were decoded from."""
        encode_whole(self.codec, self.values, self.fitted, self.key, self.start)
        for part, written in zip(self.parts, self.fitted, strict=True):
            if part is not written:
                part.copy_(written)


def _in_one_order(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return ``parts`` (or copies) without gaps; parts of one shape have the same order of memory."""
    first = parts[0]
    if not torch.ops.aten.is_non_overlapping_and_dense(first):
        first = first.clone(memory_format=torch.preserve_format)
    return first, *(part if _fits(part, first) else _like(first, part) for part in parts[1:])


def _fits(part: Tensor, first: Tensor) -> bool:
    return part.shape != first.shape or part.stride() == first.stride()


def _like(first: Tensor, part: Tensor) -> Tensor:
    return torch.empty_like(first, dtype=part.dtype, memory_format=torch.preserve_format).copy_(part)


def run(batch: Batch, run_plain: Run, most: int) -> dict[str, Any]:
    """Run a coded ``batch`` and return the new scalar state.

    Args:
        batch: the batch to run.
        run_plain: runs batches of plain programs.
        most: the number of elements that are decoded at a time. A larger tensor is cut into slices if the rule allows
            it. 0 means one whole tensor at a time.
    """
    new_scalars: dict[str, Any] = {}
    by_place: dict[str, dict[int, Any]] = {}
    for columns in runs(_columns(batch, most), lambda column: column.p.numel(), most):
        for name, value in _run_decoded(batch, columns, run_plain).items():
            if isinstance(value, list):  # one for each column; slices of one parameter have the same number
                by_place.setdefault(name, {}).update(zip((c.place for c in columns), value, strict=True))
            else:
                new_scalars[name] = value
    return new_scalars | {name: list(values.values()) for name, values in by_place.items()}


def _run_decoded(batch: Batch, columns: list[ParamSlice], run_plain: Run) -> dict[str, Any]:
    names = ("p", *(state.name for state in batch.program.tensors))
    read = [{name: _read(batch, column, name) for name in names} for column in columns]
    lists = {name: [_values(row[name]) for row in read] for name in names}
    params, grads = lists.pop("p"), [column.g for column in columns]
    numbers = {
        name: [_own(number, column) for column in columns] if isinstance(number, list) else number
        for name, number in batch.numbers.items()
    }
    new_scalars = run_plain(Batch(batch.program.plain, numbers, params, grads, lists))
    for decoded in (x for row in read for x in row.values() if isinstance(x, DecodedTensor)):
        decoded.store()
    return new_scalars


def _values(x: Tensor | DecodedTensor) -> Tensor:
    return x.values if isinstance(x, DecodedTensor) else x


def _read(batch: Batch, column: ParamSlice, name: str) -> Tensor | DecodedTensor:
    """Return the tensor that the program knows as ``name``: itself where it is plain, and decoded where it is coded."""
    codec = batch.program.storage.get(name)
    if codec is None:
        return column.p if name == "p" else column.stored[name]
    beside = tuple(column.stored[key] for key in codec.keys(name))
    parts = (column.p, *beside) if name == "p" else beside
    return DecodedTensor.of(codec, parts, _key(batch, codec, column, name), column.start)


def _key(batch: Batch, codec: Codec, column: ParamSlice, name: str) -> Any:
    if not codec.stochastic:
        return 0
    t, slot = _own(batch.numbers["t"], column), batch.program.slots[name]
    return key_of(column.stream, t.long(), slot) if isinstance(t, Tensor) else key_of(column.stream, int(t), slot)


def _own(number: Any, column: ParamSlice) -> Any:
    """Return a number as the parameter of a column has it."""
    return number[column.place] if isinstance(number, list) else number


# -- cutting ---------------------------------------------------------------------------------------------------------


def _columns(batch: Batch, most: int) -> Iterator[ParamSlice]:
    for index, (p, g) in enumerate(zip(batch.params, batch.grads, strict=True)):
        stored = {key: tensors[index] for key, tensors in batch.state.items()}
        column = ParamSlice(p, g, stored, batch.streams[index], start_of(batch.streams[index]), index)
        yield from _slices(batch.program, column, most) or [column]


def _slices(program: Program, column: ParamSlice, most: int) -> list[ParamSlice]:
    """Cut a column into slices of ``most`` elements. Return an empty list if it fits whole or cannot be cut."""
    if not 0 < most < column.p.numel() or program.kind != "pointwise":
        return []
    # A codec's further parts of another size, such as scales, are flat already.
    like = {key: x for key, x in column.stored.items() if x.shape == column.p.shape}
    views = flat([column.p, column.g, *like.values()])
    if views is None:
        return []
    p, g, *rest = views
    stored = {**column.stored, **dict(zip(like, rest, strict=True))}
    starts = range(0, p.numel(), most)
    return [
        _slice(program, replace(column, p=p, g=g, stored=stored), start, min(most, p.numel() - start))
        for start in starts
    ]


def _slice(program: Program, column: ParamSlice, start: int, count: int) -> ParamSlice:
    """Return ``count`` elements of a flat column, from ``start`` on."""
    span = slice(start, start + count)
    stored = {
        entry.name: column.stored[entry.name][entry.codec.span(entry.part, start, count) if entry.codec else span]
        for entry in program.stored
    }
    return replace(column, p=column.p[span], g=column.g[span], stored=stored, start=column.start + start)
