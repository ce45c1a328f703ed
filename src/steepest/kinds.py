"""Kinds of state: one row says what a kind is to everything that makes, traces, checks or describes state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag

from torch import Tensor


class Extent(IntFlag):
    """Along what a value changes, where it is not a number of the host.

    REDUCED is one number per tensor, MATRIX one for each matrix of a tensor with more than two dimensions, ROW one for
    each row, COLUMN one for each column; FULL is a tensor like the parameter. Together with another value it is what
    broadcasting makes of the two: ``ROW | COLUMN == FULL``.
    """

    HOST = 0
    REDUCED = 0b0001
    MATRIX = 0b0011
    ROW = 0b0111
    COLUMN = 0b1011
    FULL = 0b1111


@dataclass(frozen=True)
class Kind:
    """A kind of state.

    Attributes:
        words: how much of it there is, as ``steepest show`` says it.
        shape: its shape next to a parameter; None for state that is not a tensor of each parameter.
        extent: along what it changes. None for a kind that no trace knows: rules that are traced cannot keep it.
    """

    words: str
    shape: Callable[[Tensor], tuple[int, ...]] | None
    extent: Extent | None = None

    @property
    def is_number(self) -> bool:
        """Whether it is a number of the host: a step count, or a scalar that does not depend on tensors."""
        return self.extent == Extent.HOST


KINDS = {
    "like": Kind("like the parameter", lambda p: tuple(p.shape), Extent.FULL),
    "tensor_scalar": Kind("one number per tensor", lambda p: (), Extent.REDUCED),
    "row": Kind("one number per row", lambda p: (*p.shape[:-1], 1), Extent.ROW),
    "column": Kind("one number per column", lambda p: (*p.shape[:-2], 1, *p.shape[-1:]), Extent.COLUMN),
    "step": Kind("the tensor's own step count", lambda p: (), Extent.HOST),
    "scalar": Kind("one number per tensor, the same for all of equal age", lambda p: (), Extent.HOST),
    "shared": Kind("one for all parameters, made as it runs", None),
}
"""Every kind of state by the name that `State.kind` has."""
