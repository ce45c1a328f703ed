"""Clipping of gradients whose norm is an outlier among those of the last steps. ``.grad`` stays as it is."""

from __future__ import annotations

from typing import Any

from ..fields import Options, State, hyper
from ..rule import Rule, Update, Values, Wrapper
from ..vocabulary import maximum, rescaled, sqrt, where
from .base import Transform, check_planned

WARM_UP = 25
"""Steps whose norms are only collected, as in the authors' code."""

DECAY = 0.97
"""Decay of the averages of the norm and of its variance, as in the paper's section 4."""

TINY = 1e-30
"""Divisor in place of a norm or deviation of 0."""


def _is_on(options: Options) -> bool:
    return options["zclip"] is not None


COUNT = State("norm_count", "scalar", when=_is_on)
MEAN = State("norm_mean", "scalar", when=_is_on)
VARIANCE = State("norm_var", "scalar", when=_is_on)


def zclipped(update: Update) -> Update:
    """Let the rule see gradients whose norm is at most ``zclip`` deviations, or less, above its average.

    A norm of z > ``zclip`` deviations is reduced to one of zclip²/z, so that a larger outlier counts less. The averages
    follow the reduced norm. A norm that is not finite leaves them as they are.

    Source: Kumar et al. 2025, "ZClip: adaptive spike mitigation for LLM pre-training", arXiv:2504.02507, Algorithm 1.
    """

    def clip(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        x, most = scalars["grad_norm"], scalars["zclip"]
        count, m, v = state[COUNT.name], state[MEAN.name], state[VARIANCE.name]
        deviation = sqrt(v)
        z = (x - m) / maximum(deviation, TINY)
        is_warm = count >= WARM_UP
        kept = where(is_warm, where(z > most, m + most * most / maximum(z, most) * deviation, x), x)
        new_m = m + where(is_warm, 1 - DECAY, 1 / (count + 1)) * (kept - m)
        spread = (kept - new_m) * where(is_warm, kept - new_m, kept - m)
        new_v = v + where(is_warm, 1 - DECAY, 1 / (count + 1)) * (spread - v)
        new_p, new_state = update(p, rescaled(g, kept / maximum(x, TINY)), state, scalars)
        is_finite = x - x == 0
        return new_p, {
            **new_state,
            COUNT.name: where(is_finite, count + 1, count),
            MEAN.name: where(is_finite, new_m, m),
            VARIANCE.name: where(is_finite, new_v, v),
        }

    return clip


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    return zclipped if _is_on(options) else None


def _numbers(options: Options, shared: Values) -> dict[str, Any]:
    return {"grad_norm": shared.get("norm", 0.0)} if _is_on(options) else {}


def _check(rule: Rule, options: Options) -> None:
    check_planned("zclip", rule, options)
    if _is_on(options) and options["max_norm"] is not None:
        raise ValueError(
            f"zclip={options['zclip']!r} and max_norm={options['max_norm']!r} both clip by the norm of all gradients; "
            "give one of them"
        )


ZCLIP = Transform(
    _wrapper,
    {
        "zclip": hyper(
            None,
            "largest norm of all gradients, in deviations above its running average (2.5 in the paper); None: any",
            low=0.0,
            exclusive_low=True,
        )
    },
    (COUNT, MEAN, VARIANCE),
    numbers=_numbers,
    reads_norm=_is_on,
    takes_elements=False,
    is_global=True,
    check=_check,
)
