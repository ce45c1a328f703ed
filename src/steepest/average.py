"""Exponential moving average of the weights: a common step after any rule, and the context that swaps it in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .fields import Options, State, hyper
from .rule import Update, Values
from .vocabulary import lerp

EMA = State("ema", init="param", when=lambda options: options["ema_decay"] is not None)
"""The averaged parameter. It starts as the parameter's value before its first step."""


def ema_decay() -> Any:
    """Declare ``ema_decay``, which every optimizer takes."""
    doc = "decay d of the averaged weights, ema ← d·ema + (1 - d)·θ after each step; None keeps no average"
    return hyper(None, doc, low=0.0, high=1.0, decay=True)


def averaged(update: Update) -> Update:
    """After the rule: ``ema = d * ema + (1 - d) * p``."""

    def averaging(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        p, state = update(p, g, state, scalars)
        return p, {**state, EMA.name: lerp(state[EMA.name], p, 1 - scalars["ema_decay"])}

    return averaging


_SWAPPED: dict[int, Tensor] = {}
"""The parameters that hold their averages now, by identity: every optimizer and wrapper that has them sees it."""


def holds_averages(groups: Iterable[Options]) -> bool:
    """Whether some parameter of the groups holds its average now."""
    return bool(_SWAPPED) and any(id(p) in _SWAPPED for group in groups for p in group["params"])


@contextmanager
def swapped(pairs: Iterable[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Give each parameter its average's value inside the ``with`` block, and its own back afterwards, come what may."""
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for p, average in pairs:
                kept.append((p, p.detach().clone()))
                _SWAPPED[id(p)] = p
                p.copy_(average)
        yield
    finally:
        with torch.no_grad():
            for p, own in kept:
                p.copy_(own)
                del _SWAPPED[id(p)]
