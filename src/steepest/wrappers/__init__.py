"""Optimizers around another optimizer, which may be ours, torch's or anybody's: see docs/wrappers.md."""

from .base import Wrapper, asks_for_gradients
from .extragradient import Extragradient
from .mechanic import Mechanic
from .outer import Outer
from .sam import ASAM, GSAM, SAM
from .two_gradients import TwoGradients

__all__ = ["ASAM", "GSAM", "SAM", "Extragradient", "Mechanic", "Outer", "TwoGradients", "Wrapper", "asks_for_gradients"]
