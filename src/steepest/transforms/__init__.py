"""Transforms that surround every rule, in one fixed order. Each file holds one transform."""

from __future__ import annotations

from typing import Any

from .average import EMA
from .base import Transform
from .clip import CLIP
from .decay import DECAY
from .maximize import MAXIMIZE
from .unscale import UNSCALE

BEFORE_RULE: tuple[Transform, ...] = (UNSCALE, MAXIMIZE, CLIP, DECAY)
"""Transforms of the gradient and the weights before the rule sees them, first to last, in torch's order."""

AFTER_RULE: tuple[Transform, ...] = (EMA,)
"""Transforms of the new weights, first to last."""


def order() -> tuple[Transform, ...]:
    """Return all transforms, from the rule outwards."""
    return *reversed(BEFORE_RULE), *AFTER_RULE


def options() -> dict[str, Any]:
    """Return the options that every optimizer takes for its transforms, by name."""
    options = (entry for transform in order() for entry in transform.options.items())
    return {name: declared.named(name, keyword_only=True) for name, declared in options}
