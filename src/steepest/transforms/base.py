"""The record of a transform: a step that any rule may need around it, such as decay, clipping or averaging."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..fields import Options, State
from ..rule import Rule, Values, Wrapper


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
        numbers: ``numbers(options, shared)`` returns the run-time numbers that the wrapper reads in addition to the
            group's own; None for a wrapper that reads no others. ``shared`` holds a step's numbers for all groups.
        takes_elements: whether the transform is right on a part of a parameter's elements, as sparse gradients need.
    """

    wrapper: Callable[[Rule, Options], Wrapper | None]
    options: Mapping[str, Any] = field(default_factory=dict)
    state: tuple[State, ...] = ()
    numbers: Callable[[Options, Values], dict[str, Any]] | None = None
    takes_elements: bool = True
