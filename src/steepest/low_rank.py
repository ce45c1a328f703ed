"""Optimizers whose state of a matrix is of low rank: gradients are projected to a few rows, or to a few columns."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import fields
from .fields import Options, State
from .preconditioned import Preconditioned, presence
from .rule import Rule


class LowRank(Preconditioned):
    """Base of optimizers that keep averages of projected gradients.

    Parameters that are not matrices, and all of a group with ``rank=None``, are updated by the rule of vectors.
    """

    @classmethod
    def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
        """Return the rule of vectors without a rank; else the rule of matrices for a matrix."""
        if options["rank"] is None:
            return cls.vector_rule(options, p)
        return super().rule_for(options, p)

    @classmethod
    def vector_rule(cls, options: Options, p: Tensor | None) -> Rule:
        """Return the rule of a parameter that is not a matrix, and of all in a group without a rank."""
        raise NotImplementedError


def shorter_side(seen: Tensor) -> tuple[bool, bool]:
    """Return whether the rows, and the columns, are the shorter side of a matrix; of a square the columns are."""
    is_wide = seen.shape[-2] < seen.shape[-1]
    return is_wide, not is_wide


def averages(rows: bool, columns: bool) -> tuple[State, ...]:
    """Return the state of Adam on a matrix whose rows, columns, or both are projected."""
    kind = "fewer_of_both" if rows and columns else "fewer_rows" if rows else "fewer_columns"
    return State("step", "step"), State("exp_avg", kind), State("exp_avg_sq", kind, nonnegative=True)


def bases(rows: bool, columns: bool) -> tuple[State, ...]:
    """Return the state of what rows, columns, or both are projected to."""
    left, right = presence(rows, columns)
    return (
        State("projector_0", "left_basis", init="identity", when=left),
        State("projector_1", "right_basis", init="identity", when=right),
    )


def rank() -> Any:
    """Declare ``rank``."""
    doc = "dimensions that a matrix is projected to, at most its shorter side; None: the group is updated by AdamW"
    return fields.hyper(128, doc, low=1, integer=True, candidates=(1,), optional=True)


def update_proj_gap() -> Any:
    """Declare ``update_proj_gap``."""
    return fields.hyper(200, "steps between two refreshes of the projection", low=1, integer=True, candidates=(2, 5))
