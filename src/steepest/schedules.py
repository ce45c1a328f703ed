"""Learning-rate schedules over a known number of steps, which torch lacks: each begins with a warm-up.

They are ordinary ``torch.optim.lr_scheduler.LRScheduler`` objects and work with any optimizer. Call
``scheduler.step()`` after every ``optimizer.step()``, not once per epoch. Torch's own schedulers work on every
optimizer of this library too.

A shape is a function of the step and the number of steps, and returns the factor on each group's rate:

>>> [cosine(step, 40, warmup=2, final=0.0) for step in (0, 1, 21)]
[0.5, 1.0, 0.5]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

# -- shapes ------------------------------------------------------------------------------------------------------------


def constant(step: int, steps: int) -> float:
    """Return 1 at every step."""
    return 1.0


def cosine(step: int, steps: int, *, warmup: int, final: float) -> float:
    """Return the factor of a warm-up, then of half a cosine (Loshchilov and Hutter 2017, without restarts).

    The rate would be `final` one step after the last.

    >>> [round(cosine(step, 40, warmup=2, final=0.0), 3) for step in (0, 1, 2, 21, 39)]
    [0.5, 1.0, 1.0, 0.5, 0.002]
    """
    if step < warmup:
        return _rise(step, warmup)
    return _fall(0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))), final)


def linear(step: int, steps: int, *, warmup: int, final: float) -> float:
    """Return the factor of a warm-up, then of a straight line to `final`.

    >>> [linear(step, 40, warmup=2, final=0.0) for step in (0, 2, 21)]
    [0.5, 1.0, 0.5]
    """
    return _rise(step, warmup) if step < warmup else _fall((steps - step) / max(1, steps - warmup), final)


def wsd(step: int, steps: int, *, warmup: int, cooldown: int, final: float) -> float:
    """Return the factor of a warm-up, of a stable rate, and of a decay over the last `cooldown` steps.

    Source: Hu et al. 2024, "MiniCPM", arXiv:2404.06395. The decay is 1 - √x over its share x, from Hägele et al. 2024,
    "Scaling laws and compute-optimal training beyond fixed training durations", arXiv:2405.18392. They found it better
    than a straight line; MiniCPM decays exponentially, and never reaches 0.

    >>> [wsd(step, 40, warmup=2, cooldown=8, final=0.0) for step in (0, 2, 32, 34)]
    [0.5, 1.0, 1.0, 0.5]
    """
    if step < warmup:
        return _rise(step, warmup)
    start = max(warmup, steps - cooldown)
    return 1.0 if step <= start else _fall(1 - math.sqrt((step - start) / (steps - start)), final)


def inverse_sqrt(step: int, steps: int, *, warmup: int) -> float:
    """Return the factor of a warm-up, then of a fall with the square root of the step (Vaswani et al. 2017).

    >>> [inverse_sqrt(step, 40, warmup=2) for step in (0, 1, 7)]
    [0.5, 1.0, 0.5]
    """
    return _rise(step, warmup) if step < warmup else math.sqrt(max(1, warmup) / (step + 1))


def _rise(step: int, warmup: int) -> float:
    return (step + 1) / warmup


def _fall(part: float, final: float) -> float:
    return final + (1 - final) * part


# -- lengths -----------------------------------------------------------------------------------------------------------

LENGTH = "a whole number of steps, or a share of the steps in [0, 1)"
"""The allowed lengths. A length keeps its meaning by its type: `1` is a step, `0.1` a tenth of the steps."""

WARMUP, COOLDOWN, FINAL = 0.05, 0.2, 0.0
"""Defaults of the warm-up's length, of the last decay's length, and of the factor at the end."""


def is_step_count(value: Any) -> bool:
    """Return whether a value is a number of steps of a training, from 1 on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_length(value: Any) -> bool:
    """Return whether a value is a number of steps, or a share of them in [0, 1)."""
    is_steps = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return is_steps or (isinstance(value, float) and 0 <= value < 1)


def in_steps(length: float, steps: int) -> int:
    """Return a length in steps.

    >>> in_steps(3, 40), in_steps(0.05, 40)
    (3, 2)
    """
    return length if isinstance(length, int) else round(length * steps)


# -- schedulers --------------------------------------------------------------------------------------------------------


class Warmup(LRScheduler):
    """Base of the schedulers: the shape of a subclass, over ``total_steps``.

    The rate of a group is its ``initial_lr`` times the shape's factor. After ``total_steps`` the factor stays where it
    ended.

    Args:
        optimizer: the optimizer whose rates are set; any torch optimizer.
        total_steps: the number of optimizer steps of the whole training.
        warmup: length of the straight rise to the group's rate; the first step has a rate above 0.
        last_epoch: the number of steps already taken, minus 1, as in torch; -1 begins anew.

    Raises:
        ValueError: a length or a number is not allowed, or the lengths do not fit into ``total_steps``.
    """

    shape: ClassVar[Callable[..., float]]
    lengths: ClassVar[tuple[str, ...]] = ("warmup",)
    """The names of the attributes that are lengths."""

    def __init__(self, optimizer: Optimizer, total_steps: int, *, last_epoch: int = -1, **arguments: Any) -> None:
        """Check the arguments, which a subclass names, and set the first rate."""
        if not is_step_count(total_steps):
            raise ValueError(f"total_steps must be a whole number of steps from 1 on, not {total_steps!r}")
        for name in self.lengths:
            if not is_length(arguments[name]):
                raise ValueError(f"{name} must be {LENGTH}, not {arguments[name]!r}")
        final = arguments.get("final", 0.0)
        if not isinstance(final, (int, float)) or not 0 <= final <= 1:
            raise ValueError(f"final, the factor at the end, must be a number from 0 to 1, not {final!r}")
        self.total_steps = total_steps
        self.arguments = {**arguments, **{name: in_steps(arguments[name], total_steps) for name in self.lengths}}
        if (taken := sum(self.arguments[name] for name in self.lengths)) > total_steps:
            parts = " and ".join(f"{name}={arguments[name]}" for name in self.lengths)
            raise ValueError(f"{parts} take {taken} steps, and total_steps is {total_steps}; give shorter ones")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each group at the current step."""
        step = min(self.last_epoch, self.total_steps)
        factor = type(self).shape(step, self.total_steps, **self.arguments)
        return [base * factor for base in self.base_lrs]


class _Falling(Warmup):
    """Base of the schedulers that fall from the end of the warm-up on, to ``final`` times the rate."""

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        *,
        warmup: float = WARMUP,
        final: float = FINAL,
        last_epoch: int = -1,
    ) -> None:
        """See `Warmup`; ``final`` is the factor at the end, from 0 to 1."""
        super().__init__(optimizer, total_steps, warmup=warmup, final=final, last_epoch=last_epoch)


class WarmupCosine(_Falling):
    """Straight rise, then half a cosine to ``final`` times the rate (Loshchilov and Hutter 2017, arXiv:1608.03983).

    torch needs `SequentialLR` of two schedulers for it. Arguments are those of `Warmup`, and ``final``.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = WarmupCosine(optimizer, total_steps=40)
        >>> rates = []
        >>> for _ in range(40):
        ...     rates.append(round(optimizer.param_groups[0]["lr"], 3))
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates[0], rates[1], rates[21], rates[39]
        (0.5, 1.0, 0.5, 0.002)
    """

    shape = staticmethod(cosine)


class WarmupLinear(_Falling):
    """Straight rise, then a straight line to ``final`` times the rate, 0 unless it is given.

    Source: Bergsma et al. 2025, "Straight to zero", arXiv:2502.15938, who compare it with cosines. Arguments are those
    of `Warmup`, and ``final``.
    """

    shape = staticmethod(linear)


class WarmupStableDecay(Warmup):
    """Straight rise, a constant rate, and a decay over the last steps, with 1 - √x (`wsd` says from which papers).

    A run can be stopped or prolonged before its decay: give another ``total_steps`` and load the state. Arguments are
    those of `Warmup`, ``cooldown`` (the decay's length, like ``warmup``) and ``final``.
    """

    shape = staticmethod(wsd)
    lengths = ("warmup", "cooldown")

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        *,
        warmup: float = WARMUP,
        cooldown: float = COOLDOWN,
        final: float = FINAL,
        last_epoch: int = -1,
    ) -> None:
        """See `Warmup`; ``cooldown`` is the length of the decay, ``final`` the factor at the end, from 0 to 1."""
        super().__init__(optimizer, total_steps, warmup=warmup, cooldown=cooldown, final=final, last_epoch=last_epoch)


class WarmupInverseSqrt(Warmup):
    """Straight rise, then a fall with the square root of the step (Vaswani et al. 2017, arXiv:1706.03762, 5.3).

    The rate at the end of the warm-up is the group's. ``total_steps`` only gives a share for ``warmup`` its meaning and
    ends the fall.
    """

    shape = staticmethod(inverse_sqrt)

    def __init__(self, optimizer: Optimizer, total_steps: int, *, warmup: float = WARMUP, last_epoch: int = -1) -> None:
        """See `Warmup`."""
        super().__init__(optimizer, total_steps, warmup=warmup, last_epoch=last_epoch)
