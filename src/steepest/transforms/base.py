"""The record of a transform: a step that any rule may need around it, such as decay, clipping or averaging."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..fields import Options, State
from ..rule import PLANNED_KINDS, Kind, Rule, Values, Wrapper


@dataclass(frozen=True, eq=False)
class Transform:
    """One step around a rule.

    Attributes:
        wrapper: ``wrapper(rule, options)`` returns the function that wraps the rule's update under a group's options,
            or None if the transform does nothing. The options are those that the class declares, and the numbers that
            a step has for all groups (``grad_scale``).
        options: the transform's options that every class takes. A class declares others itself, next to its
            hyperparameters.
        state: the state that the transform keeps. It exists when `State.when` says so, like a rule's.
        of_matrices: the state around a matrix rule, where it is of another kind; None: the same.
        numbers: ``numbers(options, shared)`` returns the run-time numbers that the wrapper reads in addition to the
            group's own; None for a wrapper that reads no others. ``shared`` holds a step's numbers for all groups.
        reads_norm: ``reads_norm(options)`` says whether ``numbers`` reads ``shared["norm"]``, the norm of the gradients
            of all groups in which some transform does. None: never.
        takes_elements: whether the transform is right on a part of a parameter's elements, as sparse gradients need.
        kind: the least kind of rule that the transform makes of a pointwise one: ``"per_tensor"`` if it looks at more
            than one element at a time.
        is_global: whether the transform looks at the gradients of all groups, where one of its options is set.
        is_real: whether complex parameters are refused, because the transform looks at their dimensions.
        check: ``check(rule, options)`` raises `ValueError` for options that the transform cannot do with the rule.
        evaluated: ``evaluated(options, p, state)`` returns the weights to be evaluated in place of a parameter, from
            its state; None where the transform is off or has no state yet. None: the transform has no such weights.
    """

    wrapper: Callable[[Rule, Options], Wrapper | None]
    options: Mapping[str, Any] = field(default_factory=dict)
    state: tuple[State, ...] = ()
    of_matrices: tuple[State, ...] | None = None
    numbers: Callable[[Options, Values], dict[str, Any]] | None = None
    reads_norm: Callable[[Options], bool] | None = None
    takes_elements: bool = True
    kind: Kind = "pointwise"
    is_global: bool = False
    is_real: bool = False
    check: Callable[[Rule, Options], None] | None = None
    evaluated: Callable[[Options, Tensor, Mapping[str, Any]], Tensor | None] | None = None

    def state_around(self, rule: Rule) -> tuple[State, ...]:
        """Return the state that the transform keeps around a rule."""
        return self.state if rule.kind != "matrix" or self.of_matrices is None else self.of_matrices


def check_planned(name: str, rule: Rule, options: Options) -> None:
    """Raise `ValueError` if option ``name`` is asked of a rule that is not traced: one for matrices, or a driver.

    A matrix rule is run on stacks of matrices, and a driver evaluates the closure itself: neither has one gradient and
    one update for each tensor.
    """
    if options[name] and rule.kind not in PLANNED_KINDS:
        raise ValueError(
            f"{name}={options[name]!r} works with pointwise and per_tensor rules, and {rule.fn.__name__} is a "
            f"{rule.kind} rule; leave {name} out"
        )
