"""Masking and clipping of the update that a rule has made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..fields import Options, hyper
from ..rule import Rule, Update, Values, Wrapper
from ..vocabulary import maximum, mean, rms, sign, where
from .base import Transform, check_planned

LEAST_SHARE = 1e-3
"""Share of agreeing entries below which the remaining ones are not made larger."""

TINY = 1e-30
"""Divisor in place of an update's RMS of 0."""


def _of_update(change: Callable[[Any, Any, Values], Any]) -> Wrapper:
    """Return the wrapper that puts ``change(p - new_p, g, scalars)`` in place of what a rule subtracts.

    A step that returns the weights untouched stays as it is.
    """

    def wrap(update: Update) -> Update:
        def changed(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
            new_p, new_state = update(p, g, state, scalars)
            return (p if new_p is p else p - change(p - new_p, g, scalars)), new_state

        return changed

    return wrap


def masked(moved: Any, g: Any, scalars: Values) -> Any:
    """Leave out the entries of an update that would move against the gradient, and scale the others up.

    The mask 1[u·g > 0] is divided by its mean, so that an update of random signs keeps its length on average. Signs are
    compared, and not the product, which would be 0 for small numbers of half types.

    Source: Liang et al. 2024, "Cautious optimizers", arXiv:2411.16085, Algorithm 1, with the authors' scale for Adam.
    """
    mask = where(sign(moved) * sign(g) > 0, 1.0, 0.0, like=g)
    return moved * mask / maximum(mean(mask), LEAST_SHARE)


def rms_clipped(moved: Any, g: Any, scalars: Values) -> Any:
    """Shorten an update u in θ ← θ - ηu whose root mean square is larger than ``update_rms``.

    Source: Shazeer and Stern 2018, "Adafactor", arXiv:1804.04235, section 6, whose d is ``update_rms``.
    """
    largest = scalars["update_rms"] * scalars["lr"]
    return moved * (largest / maximum(maximum(rms(moved), largest), TINY))


MASKED, RMS_CLIPPED = _of_update(masked), _of_update(rms_clipped)
"""The wrappers, made once: equal programs have the same ones."""


def _masking(rule: Rule, options: Options) -> Wrapper | None:
    return MASKED if options.get("cautious") else None


def _clipping(rule: Rule, options: Options) -> Wrapper | None:
    return None if options.get("update_rms") is None else RMS_CLIPPED


CAUTIOUS = Transform(
    _masking,
    {"cautious": hyper(False, "move only where update and gradient agree in sign, and there by as much more")},
    takes_elements=False,
    kind="per_tensor",
    check=partial(check_planned, "cautious"),
)

UPDATE_RMS = Transform(
    _clipping,
    {"update_rms": hyper(None, "largest root mean square of the update u in θ ← θ - ηu; None: any", low=0.0)},
    takes_elements=False,
    kind="per_tensor",
    check=partial(check_planned, "update_rms"),
)
