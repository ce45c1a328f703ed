"""Optimizers around another optimizer, which may be ours, torch's or anybody's: see docs/wrappers.md."""

from collections.abc import Mapping

from .base import Wrapper, asks_for_gradients
from .extragradient import Extragradient
from .mechanic import Mechanic
from .outer import Outer
from .sam import ASAM, GSAM, SAM
from .two_gradients import TwoGradients

WRAPPERS: Mapping[str, type[Wrapper]] = {
    cls.__name__.lower(): cls for cls in (ASAM, GSAM, SAM, Extragradient, Mechanic, Outer)
}
"""The wrappers by their lower-case names."""

__all__ = [
    "ASAM",
    "GSAM",
    "SAM",
    "WRAPPERS",
    "Extragradient",
    "Mechanic",
    "Outer",
    "TwoGradients",
    "Wrapper",
    "asks_for_gradients",
]
