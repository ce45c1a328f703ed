"""Detection of tensors that share memory, which must be updated one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..views import are_plain

Span = tuple[int, int]
"""First byte, and the byte after the last one."""


def addresses(tensors: list[Any]) -> list[int]:
    """Return the addresses of the tensors; empty if some do not have plain memory."""
    try:
        return list(map(Tensor.data_ptr, tensors)) if are_plain(tensors) else []
    except RuntimeError:  # sparse
        return []


def spans(tensors: Iterable[Any]) -> list[Span]:
    """Return the span of each tensor that has memory."""
    return [span for x in tensors if isinstance(x, Tensor) and (span := _span(x)) is not None]


def _span(x: Tensor) -> Span | None:
    if not are_plain([x]) or x.layout != torch.strided or not x.numel():
        return None
    first = x.data_ptr()
    if not first:  # on meta
        return None
    elements = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return first, first + elements * x.element_size()


def same_layout(x: Tensor, like: Tensor) -> bool:
    """Return whether a tensor fills its memory without gaps, in the order of elements of a tensor of the same shape."""
    return x.stride() == like.stride() and bool(torch.ops.aten.is_non_overlapping_and_dense(x))


def copied_like(x: Tensor, like: Tensor) -> Tensor:
    """Return a copy with the layout of another tensor of the same shape."""
    return torch.empty_like(like, dtype=x.dtype).copy_(x)


class Memory:
    """The memory of some tensors, which tells whether another tensor lies in it."""

    def __init__(self, tensors: Iterable[Any]) -> None:
        """Merge overlapping spans, in order of address."""
        merged: list[Span] = []
        for low, high in sorted(spans(tensors)):
            if merged and low < merged[-1][1]:
                merged[-1] = merged[-1][0], max(high, merged[-1][1])
            else:
                merged.append((low, high))
        self._lows, self._highs = [low for low, _ in merged], [high for _, high in merged]
        self._apart: list[int] = []

    def holds_any(self, tensors: list[Tensor]) -> bool:
        """Return whether any of the tensors lies in this memory.

        The answer is quick if the last call had the same addresses and returned False.
        """
        if not are_plain(tensors) or not all(map(Tensor.is_contiguous, tensors)):
            return any(map(self.holds, tensors))
        starts = list(map(Tensor.data_ptr, tensors))
        if starts != self._apart:
            self._apart = [] if any(map(self.holds, tensors)) else starts
        return starts != self._apart

    def holds(self, x: Tensor) -> bool:
        """Return whether any byte of ``x`` lies in this memory."""
        span = _span(x)
        if span is None:
            return False
        index = bisect_right(self._highs, span[0])
        return index < len(self._lows) and self._lows[index] < span[1]


def waves(owned: Sequence[Iterable[Any]]) -> list[list[int]]:
    """Sort the places of parameters into waves in which no two parameters share memory. As a rule there is one wave.

    ``owned`` holds all tensors of each parameter. A parameter comes in a later wave than the earlier ones with which it
    shares memory.
    """
    level = [0] * len(owned)
    for place, earlier in sorted(_meetings(owned)):
        level[place] = max(level[place], level[earlier] + 1)
    return [[i for i, own in enumerate(level) if own == wave] for wave in range(max(level, default=-1) + 1)]


def _meetings(owned: Sequence[Iterable[Any]]) -> set[tuple[int, int]]:
    """Return the pairs of places that share memory, the later place first."""
    found: set[tuple[int, int]] = set()
    open_spans: list[tuple[int, int]] = []
    for low, high, place in sorted((*span, place) for place, tensors in enumerate(owned) for span in spans(tensors)):
        open_spans = [(end, other) for end, other in open_spans if end > low]
        found.update((max(place, other), min(place, other)) for _, other in open_spans if other != place)
        open_spans.append((high, place))
    return found
