"""Weight decay.

Coupled decay adds λθ to the gradient. Decoupled decay is θ ← θ - δθ before the rule, where δ is ηλ, λ (independent of
the rate) or η²λ/η_max (corrected for a schedule). Cautious decay is decoupled decay after the rule, where weight and
update agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..fields import Options, hyper
from ..rule import Rule, Update, Values, Wrapper
from ..vocabulary import sign, where
from .base import Transform

Share = Callable[[Values], Any]
"""Function of a step's numbers that returns δ, the share of the weights that decays."""


def coupled_decay(update: Update) -> Update:
    """Let the rule see ``g + weight_decay * p``: L2 regularisation."""

    def decayed(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, g + scalars["weight_decay"] * p, state, scalars)

    return decayed


def by_rate(scalars: Values) -> Any:
    """Return ηλ, as in Loshchilov and Hutter 2019 and torch."""
    return scalars["lr"] * scalars["weight_decay"]


def independent(scalars: Values) -> Any:
    """Return λ, whatever the rate."""
    return scalars["weight_decay"]


def corrected(scalars: Values) -> Any:
    """Return η²λ/η_max, under which the norm of normalised weights does not grow as the rate falls.

    Source: Defazio 2025, "Why gradients rapidly increase near the end of training", arXiv:2506.02285 (AdamC).
    """
    return scalars["lr"] * scalars["lr"] / scalars["lr_max"] * scalars["weight_decay"]


def decoupled(share: Share) -> Wrapper:
    """Return the decay of the weights themselves. A step that returns them untouched does not decay them."""

    def decay(update: Update) -> Update:
        def decayed(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
            shrunk = p * (1 - share(scalars))
            new_p, new_state = update(shrunk, g, state, scalars)
            return (p if new_p is shrunk else new_p), new_state

        return decayed

    return decay


def cautious(share: Share) -> Wrapper:
    """Return the decay where u·θ ≥ 0 for the update u of θ ← θ - ηu, by sign; an entry that rests decays.

    Source: Chen et al. 2025, "Cautious weight decay", arXiv:2510.12402, Algorithm 1.
    """

    def decay(update: Update) -> Update:
        def decayed(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
            new_p, new_state = update(p, g, state, scalars)
            if new_p is p:
                return p, new_state
            agrees = where(sign(p - new_p) * sign(p) >= 0, 1.0, 0.0, like=p)
            return new_p - share(scalars) * (agrees * p), new_state

        return decayed

    return decay


SHARES: dict[str, Share] = {"by rate": by_rate, "independent": independent, "corrected": corrected}
DECOUPLED = {name: decoupled(share) for name, share in SHARES.items()}
CAUTIOUS = {name: cautious(share) for name, share in SHARES.items()}
"""Decays by the name of their share: made once, since equal programs have the same wrappers."""


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    """Return the decay that the switches name."""
    decay = options.get("weight_decay")
    if "weight_decay" in rule.names or not (isinstance(decay, Tensor) or decay):
        return None
    if not options.get("decoupled_weight_decay"):
        return coupled_decay
    if options.get("corrected_weight_decay"):
        share = "corrected"
    else:
        share = "by rate" if options.get("lr_in_decay", True) else "independent"
    return (CAUTIOUS if options.get("cautious_weight_decay") else DECOUPLED)[share]


def _check(rule: Rule, options: Options) -> None:
    """Raise `ValueError` for forms of decoupled decay where the decay is coupled, or a part of the rule."""
    asked = [name for name in ("cautious_weight_decay", "corrected_weight_decay") if options[name]]
    asked += [] if options.get("lr_in_decay", True) else ["lr_in_decay"]
    if not asked:
        return
    given = f"{asked[0]}={options[asked[0]]!r}"
    if "weight_decay" in rule.names or "weight_decay" not in options:
        raise ValueError(f"{given} is a form of decoupled decay, which {rule.fn.__name__} does not have; leave it out")
    if not options.get("decoupled_weight_decay"):
        raise ValueError(f"{given} is a form of decoupled decay; give decoupled_weight_decay=True too")
    if options["corrected_weight_decay"] and not options.get("lr_in_decay", True):
        raise ValueError(
            "corrected_weight_decay=True scales the decay by η²/η_max, and lr_in_decay=False by 1; give one"
        )
    if options["corrected_weight_decay"] and options["lr_max"] is None:
        raise ValueError("corrected_weight_decay=True needs lr_max, the largest rate of the schedule; give it too")


DECAY = Transform(
    _wrapper,
    {
        "cautious_weight_decay": hyper(False, "decay decoupled weights only where the update moves them towards 0"),
        "corrected_weight_decay": hyper(False, "decay decoupled weights by η²λ/η_max, so that λ's effect ends with η"),
        "lr_max": hyper(
            None, "largest rate η_max of the schedule, for corrected_weight_decay", low=0.0, exclusive_low=True
        ),
    },
    check=_check,
)
