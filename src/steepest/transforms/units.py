"""Adaptive clipping and centralisation of the gradient, unit by unit. ``.grad`` stays as it is.

A unit is all that one index of the first dimension holds: an output of a linear or convolutional layer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..fields import Options, hyper
from ..rule import Rule, Update, Values, Wrapper
from ..vocabulary import maximum, minimum, unit_mean, unit_norm
from .base import Transform, check_planned

LEAST_NORM = 1e-3
"""Norm of a unit's weights below which its gradient may be as large as for this norm, so that zeros can start."""

TINY = 1e-30
"""Divisor in place of a gradient's norm of 0."""


def adaptively_clipped(update: Update) -> Update:
    """Let the rule see each unit's gradient with a norm of at most ``agc`` times that of its weights.

    Source: Brock et al. 2021, "High-performance large-scale image recognition without normalization", arXiv:2102.06171,
    section 4.1. A vector is one unit, as in the authors' code and timm's.
    """

    def clip(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        largest = scalars["agc"] * maximum(unit_norm(p), LEAST_NORM)
        return update(p, g * minimum(largest / maximum(unit_norm(g), TINY), 1.0), state, scalars)

    return clip


def centralized(update: Update) -> Update:
    """Let the rule see each unit's gradient without its mean; vectors stay as they are.

    Source: Yong et al. 2020, "Gradient centralization", arXiv:2004.01461, equation 1.
    """

    def centralize(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, g - unit_mean(g), state, scalars)

    return centralize


def _clipping(rule: Rule, options: Options) -> Wrapper | None:
    return None if options.get("agc") is None else adaptively_clipped


def _centring(rule: Rule, options: Options) -> Wrapper | None:
    return centralized if options.get("centralize") else None


AGC = Transform(
    _clipping,
    {"agc": hyper(None, "largest norm of a unit's gradient, relative to that of its weights; None: any", low=0.0)},
    takes_elements=False,
    kind="per_tensor",
    is_real=True,
    check=partial(check_planned, "agc"),
)

CENTRALIZE = Transform(
    _centring,
    {"centralize": hyper(False, "subtract from each unit's gradient its mean (tensors of two dimensions or more)")},
    takes_elements=False,
    kind="per_tensor",
    is_real=True,
    check=partial(check_planned, "centralize"),
)
