"""Optimizers whose matrices are preconditioned from the left and from the right, by work done every few steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any

from torch import Tensor

from . import fields
from .fields import Options, State, View
from .matrices import heads, is_matrix, matrices, refuse_flat, view_of
from .optimizer import Optimizer
from .rule import Rule
from .sharding import outline

FAILURES = State("failures", "matrix_scalar")
"""Number of times that a matrix's basis or root could not be found, so that the old one was kept."""


PHASE = State(
    "phase",
    "scalar",
    init=lambda place, options: float((place + 1) % options["precondition_frequency"]),
    when=lambda options: bool(options["spread"]),
)
"""Steps by which a parameter's refreshes come early, so that not all come in the same step."""


def is_due(t: float, every: int, phase: float | None) -> bool:
    """Return whether a refresh is due at step ``t``."""
    return (t + (phase or 0)) % every == 0


def exists(options: Options) -> bool:
    """Return True: the state exists under all options."""
    return True


def never(options: Options) -> bool:
    """Return False: the rule gets None for the state."""
    return False


def presence(rows: bool, columns: bool) -> tuple[Callable[[Options], bool], Callable[[Options], bool]]:
    """Return the ``when`` of state of the rows, and of state of the columns."""
    return exists if rows else never, exists if columns else never


class Preconditioned(Optimizer):
    """Base of optimizers that precondition matrices, and update vectors by a rule of their own at the same rate.

    A subclass declares `matrix_rule` and `vector_rule`.
    """

    _: KW_ONLY
    matrices: str | None = matrices()
    heads: Any = heads()

    @classmethod
    def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
        """Return the rule of matrices for a parameter with two dimensions or more, of vectors for any other."""
        if p is None:
            return cls.rule
        refuse_flat(cls.__name__, p)
        if not is_matrix(p):
            return cls.vector_rule(options, p)
        view = view_of(cls.__name__, p, options)
        seen = p if view is None else view(outline(p))
        return cls.matrix_rule(options, seen, view)

    @classmethod
    def matrix_rule(cls, options: Options, seen: Tensor, view: View | None) -> Rule:
        """Return the rule of a parameter whose matrices are ``seen``, which ``view`` shows."""
        raise NotImplementedError

    @classmethod
    def vector_rule(cls, options: Options, p: Tensor) -> Rule:
        """Return the rule of a vector, a number, or a tensor that is not a matrix."""
        raise NotImplementedError

    @property
    def failures(self) -> int:
        """Number of bases or roots that could not be found so far, so that the old ones were kept."""
        return sum(int(held[FAILURES.name].sum()) for held in self.state.values() if FAILURES.name in held)


def sides(options: Options, seen: Tensor) -> tuple[bool, bool]:
    """Return whether the rows, and the columns, of a matrix are preconditioned."""
    rows, columns = (size <= options["max_precond_dim"] for size in seen.shape[-2:])
    return rows, columns


def spread() -> Any:
    """Declare ``spread``, for a rule with the state `PHASE`."""
    return fields.hyper(False, "refresh the bases of different parameters in different steps")


def max_precond_dim(default: int) -> Any:
    """Declare ``max_precond_dim``."""
    doc = "longest side that is preconditioned"
    return fields.hyper(default, doc, low=1, integer=True, candidates=(1,))


def precondition_frequency(default: int) -> Any:
    """Declare ``precondition_frequency``."""
    return fields.hyper(default, "steps between two refreshes of the bases", low=1, integer=True, candidates=(2, 5))
