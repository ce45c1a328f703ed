"""Matrices in parameters: what a matrix rule sees in a tensor with more than two dimensions, or in fused heads."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from torch import Tensor

from .fields import Options, View, hyper


class Whole:
    """Caller of functions of whole matrices, for a rule whose own tensors may be parts of them. Here they are whole.

    A rule that names ``whole`` promises that all else in it is by element. So ranks that have parts of a parameter step
    these, and exchange only the tensors that ``whole`` is called with.
    """

    def __call__(self, function: Callable[..., Tensor], X: Tensor, *args: Any) -> Tensor:
        """Return ``function(X, *args)`` for the whole matrices of which ``X`` may be a part, and the same part of it.

        Args:
            function: a function of matrices or stacks of them, whose result has the shape and dtype of ``X``.
            X: a tensor like the parameter.
            args: further arguments, none of them a tensor.

        Raises:
            TypeError: there is a second tensor, or the result has another shape or dtype.
        """
        if any(isinstance(x, Tensor) for x in args):
            raise TypeError(f"whole({function.__name__}, X, ...) takes one tensor, X; give numbers behind it")
        result = function(X, *args)
        if result.shape != X.shape or result.dtype != X.dtype:
            raise TypeError(
                f"whole({function.__name__}, X) made {result.dtype} of shape {tuple(result.shape)}; it must be like X, "
                f"{X.dtype} of shape {tuple(X.shape)}"
            )
        return result

    def sizes(self, X: Tensor) -> tuple[int, int]:
        """Return rows and columns of the whole matrices of which ``X``, like the parameter, may be a part."""
        return X.shape[-2], X.shape[-1]


WHOLE = Whole()
"""The caller that rules get as ``whole`` for tensors that are whole."""


def matrices() -> Any:
    """Declare ``matrices``: what a parameter of more than two dimensions is to a matrix rule."""
    return hyper(
        None,
        "a parameter of more than two dimensions: one matrix with a row per index of its first dimension ('flatten'), "
        "or a stack of matrices ('batch'); None: 'flatten' for four dimensions or more, and three are refused",
        choices=("flatten", "batch"),
    )


def heads() -> Any:
    """Declare ``heads``: the number of equal blocks of rows that are matrices of their own."""
    return hyper(
        None,
        "equal blocks of rows that are matrices of their own: heads of attention, 3 for a fused query, key and value",
        convert=_block_count,
        words="an int >= 1 or None",
        candidates=(1,),
    )


def _block_count(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"heads must be an int >= 1 or None, not {value!r}")
    if value < 1:
        raise ValueError(f"heads={value!r} must be at least 1: the number of blocks of rows")
    return value


def is_matrix(p: Tensor) -> bool:
    """Return whether a parameter has two dimensions, or more of which two are not of size 1."""
    return p.dim() == 2 or (p.dim() > 2 and sum(size != 1 for size in p.shape) > 1)


def refuse_flat(name: str, p: Tensor) -> None:
    """Raise `ValueError` for a parameter that has lost its shape.

    Args:
        name: the name of the optimizer's class, for messages.
        p: the parameter.
    """
    if getattr(p, "_is_flat_param", False) or getattr(p, "_fsdp_flattened", False):
        raise ValueError(
            f"{name} needs whole matrices, and FullyShardedDataParallel has flattened the parameter of shape "
            f"{tuple(p.shape)}; train it with AdamW, or shard the model with fully_shard"
        )


def flattened(p: Tensor) -> Tensor:
    """Return a parameter as one matrix, with a row for each index of its first dimension."""
    return p.reshape(p.shape[0], p.shape[1:].numel())


def column(p: Tensor) -> Tensor:
    """Return a vector or a number as a matrix of one column."""
    return p.reshape(-1, 1)


@cache
def in_blocks(count: int, is_flat: bool) -> View:
    """Return the view of a parameter, flattened if asked, as a stack of ``count`` blocks of rows."""

    def blocks(p: Tensor) -> Tensor:
        p = flattened(p) if is_flat else p
        return p.reshape(*p.shape[:-2], count, p.shape[-2] // count, p.shape[-1])

    return blocks


def view_of(name: str, p: Tensor, options: Options) -> View | None:
    """Return the matrices that a rule sees in a parameter under ``matrices`` and ``heads``; None for it as it is.

    Args:
        name: the name of the optimizer's class, for messages.
        p: the parameter, of two dimensions or more.
        options: its group's options.

    Raises:
        ValueError: the parameter has three dimensions and ``matrices`` is None, or its rows do not divide by ``heads``.
    """
    matrices, heads = options["matrices"], options["heads"]
    if p.dim() == 3 and matrices is None:
        raise ValueError(
            f"{name} only supports 2D parameters whereas we found a parameter with size: {p.size()}; give its group "
            "matrices='flatten' (a convolution's weights) or matrices='batch' (a stack of matrices, such as experts)"
        )
    is_flat = p.dim() > 2 and matrices != "batch"
    if heads is None:
        return flattened if is_flat else None
    rows = p.shape[0] if is_flat else p.shape[-2]
    if rows % heads:
        raise ValueError(
            f"heads={heads} does not divide the {rows} rows of a parameter of shape {tuple(p.shape)}; give it to a "
            "group with another number of heads, or None"
        )
    return in_blocks(heads, is_flat)
