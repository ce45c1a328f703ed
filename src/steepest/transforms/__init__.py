"""Transforms: what surrounds every rule, in the one order in which it happens.

A step with a gradient that is not finite may be left out. Any other unscales the gradient, flips its sign to maximize,
clips it (by the norm of all gradients, by value, unit by unit), centralises it, and decays. Then the rule makes the new
weights. Its update is masked and clipped, may turn matrices without changing their norms, and may move other weights
than those at which gradients are taken. Afterwards the slow weights and the average follow the new weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .average import EMA
from .average import PowerLaw as PowerLaw
from .base import Transform
from .cautious import CAUTIOUS, UPDATE_RMS
from .clip import CLIP
from .clip_value import CLIP_VALUE
from .decay import DECAY
from .hyperball import HYPERBALL
from .lookahead import LOOKAHEAD
from .maximize import MAXIMIZE
from .primal import PRIMAL
from .skip import SKIP
from .units import AGC, CENTRALIZE
from .unscale import UNSCALE
from .zclip import ZCLIP

BEFORE_RULE: tuple[Transform, ...] = (SKIP, UNSCALE, MAXIMIZE, CLIP, ZCLIP, CLIP_VALUE, AGC, CENTRALIZE, DECAY)
"""Transforms of the gradient and the weights before the rule sees them, first to last, in torch's order."""

OF_UPDATE: tuple[Transform, ...] = (CAUTIOUS, UPDATE_RMS, HYPERBALL)
"""Transforms of the update that the rule has made, first to last. They see the gradient that the rule saw."""

AFTER_RULE: tuple[Transform, ...] = (PRIMAL, LOOKAHEAD, EMA)
"""Transforms of the new weights, first to last."""


def order() -> tuple[Transform, ...]:
    """Return all transforms, from the rule outwards."""
    return *OF_UPDATE, *before_rule(), *AFTER_RULE


def before_rule() -> tuple[Transform, ...]:
    """Return the transforms that decide what a rule sees, from the rule outwards."""
    return tuple(reversed(BEFORE_RULE))


_READING_NORM = [transform.reads_norm for transform in order() if transform.reads_norm is not None]


def read_norm(options: Mapping[str, Any]) -> bool:
    """Return whether some transform reads the norm of all gradients under a group's options."""
    return any(reads(options) for reads in _READING_NORM)


def options() -> dict[str, Any]:
    """Return the options that every optimizer takes for its transforms, by name."""
    options = (entry for transform in order() for entry in transform.options.items())
    return {name: replace(declared.named(name, keyword_only=True), is_around=True) for name, declared in options}
