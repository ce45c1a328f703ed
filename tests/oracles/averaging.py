"""Exponential moving average of the weights (Polyak-Ruppert averaging with forgetting)."""

from collections.abc import Sequence

import numpy as np

from .common import Array, Rate, per_step


def weight_average(path: Sequence[Array], *, decay: Rate) -> Array:
    """The average after the last step; `path` is the parameter before the first step and after each one.

    ema = path[0]; then ema = d ema + (1 - d) theta after every step, with one d for all steps or one for each.
    """
    ema = np.array(path[0], dtype=np.float64)
    for d, theta in zip(per_step(decay, len(path) - 1), path[1:], strict=True):
        ema = np.asarray(d * ema + (1.0 - d) * theta)
    return ema
