"""Clipping of each entry of the gradient. ``.grad`` stays as it is."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..fields import Options, hyper
from ..rule import Rule, Update, Values, Wrapper
from ..vocabulary import maximum, minimum
from .base import Transform, check_planned


def clipped(update: Update) -> Update:
    """Let the rule see each entry of g between ``-max_value`` and ``max_value``."""

    def clip(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        bound = scalars["max_value"]
        return update(p, minimum(maximum(g, -bound), bound), state, scalars)

    return clip


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    return None if options.get("max_value") is None else clipped


CLIP_VALUE = Transform(
    _wrapper,
    {"max_value": hyper(None, "largest entry of the gradient, as torch's clip_grad_value_ has it; None: any", low=0.0)},
    check=partial(check_planned, "max_value"),
)
