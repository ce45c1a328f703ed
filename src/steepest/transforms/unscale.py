"""Unscaling of gradients, for mixed precision with `torch.amp.GradScaler`. ``.grad`` stays as it is."""

from __future__ import annotations

from typing import Any

from ..fields import Options
from ..rule import Rule, Update, Values, Wrapper
from ..vocabulary import rescaled
from .base import Transform


def unscaled(update: Update) -> Update:
    """Let the rule see ``g / grad_scale``."""

    def unscale(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, rescaled(g, 1 / scalars["grad_scale"]), state, scalars)

    return unscale


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    return unscaled if "grad_scale" in options else None


def _numbers(options: Options, shared: Values) -> dict[str, Any]:
    return {"grad_scale": shared["grad_scale"]} if "grad_scale" in shared else {}


UNSCALE = Transform(_wrapper, numbers=_numbers)
