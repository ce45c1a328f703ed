"""Primal averaging: the rule moves weights z, their average x is evaluated, and gradients are taken between the two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .. import storage
from ..fields import Options, State, hyper
from ..rule import Rule, Update, Values, Wrapper
from ..vocabulary import lerp, maximum, where
from .base import Transform


def _is_on(options: Options) -> bool:
    return options["gpa"] is not None or options["schedule_free"] is not None


def _is_weighed(options: Options) -> bool:
    return options["schedule_free"] is not None


Z = State("gpa_z", init="param", when=_is_on, exact=True)
"""The weights that the rule moves. They start as the parameter's value before the first step."""

LARGEST = State("gpa_lr_max", "scalar", when=_is_weighed)
WEIGHTS = State("gpa_weight_sum", "scalar", when=_is_weighed)
"""The largest rate so far, and the sum of the weights in the average."""


def with_constant_weights(update: Update) -> Update:
    """Return GPA: x ← μx·x + (1 - μx)·z, and gradients at y = μy·x + (1 - μy)·z."""

    def averaging(y: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        new_y, new = update(y, g, state, scalars)
        return _moved(y, new_y, new, 1 - scalars["gpa_x"], scalars["gpa_y"])

    return averaging


def with_weights_of_rates(update: Update) -> Update:
    """Return Schedule-Free: step k weighs η_max² in the average, the square of the largest rate so far."""

    def averaging(y: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        largest = maximum(state[LARGEST.name], scalars["lr"])
        total = state[WEIGHTS.name] + largest * largest
        part = where(total > 0, largest * largest / where(total > 0, total, 1.0), 0.0)
        new_y, new = update(y, g, state, scalars)
        weighed = {**new, LARGEST.name: largest, WEIGHTS.name: total}
        return _moved(y, new_y, weighed, part, scalars["schedule_free"])

    return averaging


def _moved(y: Any, new_y: Any, state: dict[str, Any], part: Any, mu: Any) -> tuple[Any, dict[str, Any]]:
    """Move z as the rule has moved y, and x by a ``part`` of the way to z. Of x only y = μ·x + (1 - μ)·z is kept."""
    z, move = state[Z.name], new_y - y
    return lerp(y, z, part) + (1 - mu * (1 - part)) * move, {**state, Z.name: z + move}


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    if options.get("schedule_free") is not None:
        return with_weights_of_rates
    return None if options.get("gpa") is None else with_constant_weights


def _evaluated(options: Options, p: Tensor, held: Mapping[str, Any]) -> Tensor | None:
    """Return x, of which y is the part μ."""
    z = storage.read(Z, held)
    if z is None:
        return None
    mu: float = options["schedule_free"] if options["gpa"] is None else options["gpa"][1]
    return p + (1 - 1 / mu) * (z - p)


def _check(rule: Rule, options: Options) -> None:
    for name in ("gpa", "schedule_free"):
        if options[name] is not None:
            _check_option(name, rule, options)


def _check_option(name: str, rule: Rule, options: Options) -> None:
    given, ruled = f"{name}={options[name]!r}", rule.fn.__name__
    for other in ("schedule_free", "lookahead", "ema_decay"):
        if other != name and options[other] is not None:
            raise ValueError(
                f"{given} evaluates an average of its own, and so does {other}={options[other]!r}; give one"
            )
    if rule.evaluated is not None:
        raise ValueError(f"{given} averages the weights that a rule moves, and {ruled} does so itself; leave it out")
    if rule.kind == "driver" or "lr" not in options:
        raise ValueError(f"{given} averages the steps of a rule, and {ruled} finds its own; leave it out")
    if options["hyperball"]:
        raise ValueError(f"{given} averages weights, which shortens them, and hyperball=True keeps norms; give one")
    *first, last = options[name] if name == "gpa" else (options[name],)
    if not (all(0 <= part < 1 for part in first) and 0 < last <= 1):
        raise ValueError(f"{given} must be {WORDS[name]}")


WORDS = {
    "gpa": "(μx, μy), the part of the average that stays, >= 0 and < 1, and the part of it where gradients are taken, "
    "> 0 and <= 1, such as (0.9967, 0.7)",
    "schedule_free": "the part of the average where gradients are taken, > 0 and <= 1, such as 0.9",
}

PRIMAL = Transform(
    _wrapper,
    {
        "gpa": hyper(
            None,
            "(μx, μy): θ = μy·x + (1 - μy)·z, where z moves and x ← μx·x + (1 - μx)·z is evaluated; None: θ moves",
            low=0.0,
            names=("gpa_x", "gpa_y"),
        ),
        "schedule_free": hyper(
            None,
            "μy, as in gpa, with an x that weighs all z by their rates, so that no schedule is needed; None: θ moves",
            low=0.0,
        ),
    },
    (Z, LARGEST, WEIGHTS),
    takes_elements=False,
    check=_check,
    evaluated=_evaluated,
)
