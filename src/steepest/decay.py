"""Common steps before a rule: the gradient's sign and weight decay, in torch's order (maximize, then decay)."""

from __future__ import annotations

from typing import Any

from .rule import Update, Values


def maximized(update: Update) -> Update:
    """Ascend: the rule sees ``-g``."""

    def ascend(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, -g, state, scalars)

    return ascend


def coupled_decay(update: Update) -> Update:
    """L2 regularisation: the rule sees ``g + weight_decay * p``."""

    def decayed(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, g + scalars["weight_decay"] * p, state, scalars)

    return decayed


def decoupled_decay(update: Update) -> Update:
    """Decay of the weights themselves, before the rule: ``p * (1 - lr * weight_decay)``; Loshchilov and Hutter 2019."""

    def decayed(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p * (1 - scalars["lr"] * scalars["weight_decay"]), g, state, scalars)

    return decayed
