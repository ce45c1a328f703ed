"""Weight decay, before the rule.

Coupled decay adds λθ to the gradient. Decoupled decay is θ ← θ - ηλθ before the rule. The decoupled decay that is
independent of the rate is θ ← θ - λθ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..fields import Options
from ..rule import Rule, Update, Values, Wrapper
from .base import Transform


def coupled_decay(update: Update) -> Update:
    """Let the rule see ``g + weight_decay * p``: L2 regularisation."""

    def decayed(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, g + scalars["weight_decay"] * p, state, scalars)

    return decayed


def decoupled_decay(update: Update) -> Update:
    """Decay the weights themselves, ``p * (1 - lr * weight_decay)``, as in Loshchilov and Hutter 2019."""
    return _shrinking(update, lambda scalars: scalars["lr"] * scalars["weight_decay"])


def independent_decay(update: Update) -> Update:
    """Decay the weights themselves whatever the rate, ``p * (1 - weight_decay)``."""
    return _shrinking(update, lambda scalars: scalars["weight_decay"])


def _shrinking(update: Update, part: Callable[[Values], Any]) -> Update:
    """Let the rule see weights without a ``part`` of them. A step that returns them untouched does not decay them."""

    def decayed(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        shrunk = p * (1 - part(scalars))
        new_p, new_state = update(shrunk, g, state, scalars)
        return (p if new_p is shrunk else new_p), new_state

    return decayed


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    """Return the decay that the switches name: ``decoupled_weight_decay``, then ``lr_in_decay``."""
    decay = options.get("weight_decay")
    if "weight_decay" in rule.names or not (isinstance(decay, Tensor) or decay):
        return None
    if not options.get("decoupled_weight_decay"):
        return coupled_decay
    return decoupled_decay if options.get("lr_in_decay", True) else independent_decay


def check_decay(options: Options) -> None:
    """Raise `ValueError` for ``lr_in_decay=False`` with coupled decay, which always acts through the gradient."""
    if not options.get("lr_in_decay", True) and not options.get("decoupled_weight_decay"):
        raise ValueError("lr_in_decay=False is a form of decoupled decay; give decoupled_weight_decay=True too")


DECAY = Transform(_wrapper)
