"""Masking and clipping of the update that a rule has made."""

from __future__ import annotations

from typing import Any

from ..fields import Options, hyper
from ..rule import Rule, Update, Values, Wrapper
from ..vocabulary import maximum, mean, rms, sign, where
from .base import Transform, check_planned

LEAST_SHARE = 1e-3
"""Share of agreeing entries below which the remaining ones are not made larger."""

TINY = 1e-30
"""Divisor in place of an update's RMS of 0."""


def cautious(update: Update) -> Update:
    """Leave out the entries of an update that would move against the gradient, and scale the others up.

    The mask 1[u·g > 0] is divided by its mean, so that an update of random signs keeps its length on average. Signs are
    compared, and not the product, which would be 0 for small numbers of half types.

    Source: Liang et al. 2024, "Cautious optimizers", arXiv:2411.16085, Algorithm 1, with the authors' scale for Adam.
    """

    def masked(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        new_p, new_state = update(p, g, state, scalars)
        if new_p is p:
            return p, new_state
        moved = p - new_p
        mask = where(sign(moved) * sign(g) > 0, 1.0, 0.0, like=g)
        return p - moved * mask / maximum(mean(mask), LEAST_SHARE), new_state

    return masked


def rms_clipped(update: Update) -> Update:
    """Shorten an update u in θ ← θ - ηu whose root mean square is larger than ``update_rms``.

    Source: Shazeer and Stern 2018, "Adafactor", arXiv:1804.04235, section 6, whose d is ``update_rms``.
    """

    def clip(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        new_p, new_state = update(p, g, state, scalars)
        if new_p is p:
            return p, new_state
        moved = p - new_p
        largest = scalars["update_rms"] * scalars["lr"]
        return p - moved * (largest / maximum(maximum(rms(moved), largest), TINY)), new_state

    return clip


def _masking(rule: Rule, options: Options) -> Wrapper | None:
    return cautious if options.get("cautious") else None


def _clipping(rule: Rule, options: Options) -> Wrapper | None:
    return None if options.get("update_rms") is None else rms_clipped


def _check_cautious(rule: Rule, options: Options) -> None:
    check_planned("cautious", rule, options)


def _check_update_rms(rule: Rule, options: Options) -> None:
    check_planned("update_rms", rule, options)


CAUTIOUS = Transform(
    _masking,
    {"cautious": hyper(False, "move only where update and gradient agree in sign, and there by as much more")},
    takes_elements=False,
    kind="per_tensor",
    check=_check_cautious,
)

UPDATE_RMS = Transform(
    _clipping,
    {"update_rms": hyper(None, "largest root mean square of the update u in θ ← θ - ηu; None: any", low=0.0)},
    takes_elements=False,
    kind="per_tensor",
    check=_check_update_rms,
)
