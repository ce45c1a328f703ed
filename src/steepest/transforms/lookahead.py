"""Lookahead: slow weights, towards which the fast ones return every k steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .. import storage
from ..fields import Options, State, hyper
from ..rule import Rule, Update, Values, Wrapper
from ..vocabulary import lerp, where
from .base import Transform, check_planned


def _is_on(options: Options) -> bool:
    return options["lookahead"] is not None


SLOW = State("slow", init="param", when=_is_on)
"""The slow weights. They start as the parameter's value before the first step."""

SINCE = State("slow_age", "scalar", when=_is_on)
"""Number of steps since the slow weights have moved."""


def looking_ahead(update: Update) -> Update:
    """Move the slow weights a part α of the way to the fast ones every k steps, and restart the fast ones there."""

    def look(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        p, state = update(p, g, state, scalars)
        age = state[SINCE.name] + 1
        is_due = age >= scalars["lookahead_k"]
        slow = where(is_due, lerp(state[SLOW.name], p, scalars["lookahead_alpha"]), state[SLOW.name])
        return where(is_due, slow, p), {**state, SLOW.name: slow, SINCE.name: where(is_due, 0.0, age)}

    return look


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    return None if options.get("lookahead") is None else looking_ahead


def _evaluated(options: Options, p: Tensor, held: Mapping[str, Any]) -> Tensor | None:
    return storage.read(SLOW, held)


def _check(rule: Rule, options: Options) -> None:
    if not _is_on(options):
        return
    check_planned("lookahead", rule, options)
    k, alpha = options["lookahead"]
    if k < 1 or k != int(k) or not 0 < alpha <= 1:
        raise ValueError(
            f"lookahead={options['lookahead']!r} must be (k, alpha): the slow weights move every k steps, a whole "
            f"number of at least 1, by a part alpha of the way, more than 0 and at most 1; (6, 0.5) is usual"
        )


LOOKAHEAD = Transform(
    _wrapper,
    {
        "lookahead": hyper(
            None,
            "(k, α): slow weights move a part α towards θ every k steps, and θ restarts there; None: no slow weights",
            low=0.0,
            names=("lookahead_k", "lookahead_alpha"),
        )
    },
    (SLOW, SINCE),
    takes_elements=False,
    check=_check,
    evaluated=_evaluated,
)
