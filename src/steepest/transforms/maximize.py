"""Ascent instead of descent."""

from __future__ import annotations

from typing import Any

from ..fields import Options
from ..rule import Rule, Update, Values, Wrapper
from .base import Transform


def maximized(update: Update) -> Update:
    """Let the rule see ``-g``."""

    def ascend(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, -g, state, scalars)

    return ascend


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    return maximized if options.get("maximize") else None


MAXIMIZE = Transform(_wrapper)
