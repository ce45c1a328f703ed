"""Kinds of state, one row each, for everything that makes, traces, checks or describes state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Any

from torch import Tensor


class Extent(IntFlag):
    """Dimensions along which a value changes; HOST is a number of the host.

    REDUCED is one number per tensor. MATRIX is one number for each matrix of a tensor with more than two dimensions.
    ROW is one number for each row, COLUMN one for each column. ``axis(i)`` is one number for each index of dimension i,
    counted from the front. FULL is a tensor like the parameter. The union of two extents is the extent that
    broadcasting makes of the two values: ``ROW | COLUMN == FULL``.
    """

    HOST = 0
    REDUCED = 0b0001
    AXES = 0xFF0
    MATRIX = 0b0011 | AXES
    ROW = 0b0111 | AXES
    COLUMN = 0b1011 | AXES
    FULL = 0b1111 | AXES

    @classmethod
    def axis(cls, index: int) -> Extent:
        """Return the extent of one number for each index of a dimension."""
        return cls.REDUCED | cls(1 << (index + 4))

    def dims(self, ndim: int) -> tuple[int, ...]:
        """Return the dimensions along which a value changes, of a tensor with ``ndim`` of them."""
        if not self & (Extent.MATRIX ^ Extent.AXES ^ Extent.REDUCED):
            return tuple(dim for dim in range(ndim) if self & (1 << (dim + 4)))
        last = [(-2, Extent.ROW), (-1, Extent.COLUMN)]
        changing = [ndim + dim for dim, extent in last if self & extent == extent]
        return *range(ndim - 2), *(dim for dim in changing if dim >= 0)


@dataclass(frozen=True)
class Kind:
    """Kind of state.

    Attributes:
        words: the amount of state, as ``steepest show`` prints it.
        shape: the state's shape, as a function of the parameter, which for a matrix rule is seen as matrices. None for
            state that is not a tensor of each parameter.
        extent: the dimensions along which the state changes. None for a kind that no trace knows: rules that are traced
            cannot keep it.
        is_wide: whether the state of half-precision parameters is kept in float32.
        takes_options: whether ``shape`` is a function of the parameter and of its group's options.
    """

    words: str
    shape: Callable[..., tuple[int, ...]] | None
    extent: Extent | None = None
    is_wide: bool = False
    takes_options: bool = False

    @property
    def is_number(self) -> bool:
        """True for a number of the host: a step count, or a scalar that does not depend on tensors."""
        return self.extent == Extent.HOST

    def shape_for(self, p: Tensor, options: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the state's shape for a parameter, which for a matrix rule is seen as matrices."""
        assert self.shape is not None
        return tuple(self.shape(p, options) if self.takes_options else self.shape(p))


RANK = "rank"
"""Option that the shapes of low rank depend on."""

AXES = 8
"""Largest number of dimensions of a tensor that has state for each of them."""


def _axis(index: int) -> Kind:
    words = f"one number per index of dimension {index}"
    return Kind(words, lambda p: tuple(n if i == index else 1 for i, n in enumerate(p.shape)), Extent.axis(index))


def _rank(p: Tensor, options: Mapping[str, Any]) -> int:
    """Return ``rank``, or the matrix's own full rank if that is less."""
    rows, columns = p.shape[-2:]
    return min(int(options[RANK]), rows, columns)


def _fewer_rows(p: Tensor, options: Mapping[str, Any]) -> tuple[int, ...]:
    return *p.shape[:-2], _rank(p, options), p.shape[-1]


def _fewer_columns(p: Tensor, options: Mapping[str, Any]) -> tuple[int, ...]:
    return *p.shape[:-1], _rank(p, options)


def _fewer_of_both(p: Tensor, options: Mapping[str, Any]) -> tuple[int, ...]:
    return *p.shape[:-2], *(_rank(p, options),) * 2


def _right_basis(p: Tensor, options: Mapping[str, Any]) -> tuple[int, ...]:
    return *p.shape[:-2], p.shape[-1], _rank(p, options)


KINDS = {
    "like": Kind("like the parameter", lambda p: tuple(p.shape), Extent.FULL),
    "tensor_scalar": Kind("one number per tensor", lambda p: (), Extent.REDUCED),
    "wide_scalar": Kind("one wide number per tensor", lambda p: (), Extent.REDUCED, is_wide=True),
    "row": Kind("one number per row", lambda p: (*p.shape[:-1], 1), Extent.ROW),
    "column": Kind("one number per column", lambda p: (*p.shape[:-2], 1, *p.shape[-1:]), Extent.COLUMN),
    **{f"axis_{index}": _axis(index) for index in range(AXES)},
    "left": Kind("a square matrix of the rows", lambda p: (*p.shape[:-1], p.shape[-2]), is_wide=True),
    "right": Kind("a square matrix of the columns", lambda p: (*p.shape[:-2], *p.shape[-1:] * 2), is_wide=True),
    "left_vector": Kind("one wide number per row", lambda p: (*p.shape[:-1], 1), is_wide=True),
    "right_vector": Kind("one wide number per column", lambda p: (*p.shape[:-2], 1, p.shape[-1]), is_wide=True),
    "matrix_scalar": Kind("one number per matrix", lambda p: (*p.shape[:-2], 1, 1), is_wide=True),
    "fewer_rows": Kind("the matrix with its rows projected to r", _fewer_rows, takes_options=True),
    "fewer_columns": Kind("the matrix with its columns projected to r", _fewer_columns, takes_options=True),
    "fewer_of_both": Kind("a matrix of r rows and columns", _fewer_of_both, takes_options=True),
    "left_basis": Kind("r vectors with an entry per row", _fewer_columns, is_wide=True, takes_options=True),
    "right_basis": Kind("r vectors with an entry per column", _right_basis, is_wide=True, takes_options=True),
    "step": Kind("the tensor's own step count", lambda p: (), Extent.HOST),
    "scalar": Kind("one number per tensor, the same for all of equal age", lambda p: (), Extent.HOST),
    "shared": Kind("one for all parameters, made as it runs", None),
}
"""All kinds of state by the name in `State.kind`."""
