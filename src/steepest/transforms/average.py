"""Exponential moving average of the weights, after the rule, and the context that swaps it in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .. import storage
from ..fields import Options, State, hyper
from ..rule import Rule, Update, Values, Wrapper
from ..vocabulary import lerp
from .base import Transform

AVERAGE = State("ema", init="param", when=lambda options: options["ema_decay"] is not None)
"""The averaged parameter. It starts as the parameter's value before the first step."""


def averaged(update: Update) -> Update:
    """Average the new weights: ``ema = d * ema + (1 - d) * p``."""

    def averaging(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        p, state = update(p, g, state, scalars)
        return p, {**state, AVERAGE.name: lerp(state[AVERAGE.name], p, 1 - scalars["ema_decay"])}

    return averaging


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    return None if options.get("ema_decay") is None else averaged


EMA = Transform(
    _wrapper,
    {
        "ema_decay": hyper(
            None,
            "decay d of the averaged weights, ema ← d·ema + (1 - d)·θ after each step; None keeps no average",
            low=0.0,
            high=1.0,
            is_decay=True,
        )
    },
    (AVERAGE,),
    takes_elements=False,
)

_SWAPPED: dict[int, Tensor] = {}
"""Parameters that hold their averages now, by identity, so that every optimizer and wrapper that has them can tell."""


def holds_averages(groups: Iterable[Options]) -> bool:
    """Return whether some parameter of the groups holds its average now."""
    return bool(_SWAPPED) and any(id(p) in _SWAPPED for group in groups for p in group["params"])


@contextmanager
def swapped(pairs: Iterable[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Give each parameter its average's value inside the ``with`` block, and in any case its own value afterwards."""
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


class Averaging:
    """The part of an optimizer that lets its averaged weights be used."""

    param_groups: list[dict[str, Any]]
    state: Any

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Use the averaged weights inside the block. The parameters' own values come back afterwards in any case.

        Buffers are not averaged: BatchNorm's running statistics belong to the raw weights. Either measure with these
        statistics as they are, since with a decay close to 1 and late in training they are near. Or re-estimate them
        inside the block with ``torch.optim.swa_utils.update_bn(loader, model)``. Do so on a copy of the model if
        training continues afterwards.

        ``model.state_dict()`` holds the parameters themselves, so it changes back as they do. Save it inside the block,
        or take `averaged_state_dict`.

        Raises:
            RuntimeError: no group has an ``ema_decay``, or the block is entered twice.
        """
        groups = self.param_groups
        if holds_averages(groups):
            raise RuntimeError("already inside `with optimizer.averaged():`")
        if all(group["ema_decay"] is None for group in groups):
            name = type(self).__name__
            raise RuntimeError(f"no averaged weights are kept; construct {name}(params, ema_decay=0.999) to keep them")
        pairs = ((p, storage.read(AVERAGE, self.state.get(p, {}))) for group in groups for p in group["params"])
        with swapped((p, weights) for p, weights in pairs if weights is not None):
            yield

    def averaged_state_dict(self, model: torch.nn.Module) -> dict[str, Any]:
        """Return the state dict of ``model`` with averaged weights, to be saved. Its tensors are copies.

        ``model.state_dict()`` holds the parameters themselves, not copies. Taken inside `averaged` and saved after the
        block, it would save the trained weights.

        Raises:
            RuntimeError: no group has an ``ema_decay``.
        """
        with self.averaged():
            saved: dict[str, Any] = model.state_dict()
            for name, value in saved.items():
                saved[name] = value.detach().clone() if isinstance(value, Tensor) else value
        return saved
