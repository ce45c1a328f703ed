"""Averages of the weights, after the rule, and the context that swaps one in.

An average is ema ← d·ema + (1 - d)·θ. Its decay d is a number, or a function of the number of times that it has been
averaged so far, from 1: that makes warm-ups, Karras's power law and equal weights (SWA).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import storage
from ..fields import Options, State, hyper
from ..rule import Rule, Update, Values, Wrapper
from ..vocabulary import lerp, maximum, minimum, where
from .base import Transform
from .lookahead import LOOKAHEAD
from .primal import PRIMAL

MOST = 4
"""Largest number of averages at once."""

Decay = Any
"""A number, the name of a schedule, or a function from the number of averagings so far, from 1, to a number."""


@dataclass(frozen=True)
class Warmup:
    """Decay min(decay, (1 + n) / (10 + n)), with which a slow average forgets its start soon."""

    decay: float = 0.9999

    def __call__(self, n: Any) -> Any:
        """Return the decay at the n-th averaging."""
        return minimum(self.decay, (1 + n) / (10 + n))


@dataclass(frozen=True)
class PowerLaw:
    """Decay (1 - 1/n)^(gamma + 1): an average whose memory grows with the training.

    Source: Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models", arXiv:2312.02696,
    equation 2; ``gamma=6.94`` is a relative width of 0.1.
    """

    gamma: float = 6.94

    def __call__(self, n: Any) -> Any:
        """Return the decay at the n-th averaging."""
        return (1 - 1 / n) ** (self.gamma + 1)

    @classmethod
    def of_width(cls, width: float) -> PowerLaw:
        """Return the law whose weights have this standard deviation, relative to the number of averagings.

        The width is σ with σ² = (γ + 1) / ((γ + 2)² (γ + 3)), which falls with γ from 0.289.

        Raises:
            ValueError: no γ >= 0 has this width.
        """
        if not 1e-4 <= width <= 0.28:
            raise ValueError(f"width={width!r} must be a relative width from 1e-4 to 0.28, such as 0.1")
        low, high = 0.0, 1e8
        for _ in range(200):
            gamma = (low + high) / 2
            is_wider = (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)) > width**2
            low, high = (gamma, high) if is_wider else (low, gamma)
        return cls(low)


@dataclass(frozen=True)
class Equal:
    """Decay 1 - 1/n, which weighs all averaged weights alike.

    Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization", arXiv:1803.05407.
    """

    def __call__(self, n: Any) -> Any:
        """Return the decay at the n-th averaging."""
        return 1 - 1 / n


@dataclass(frozen=True)
class Polynomial:
    """Decay 1 - (1 + gamma)/(n + gamma): weights of later steps grow as a power gamma of the step.

    Source: Shamir and Zhang 2013, "Stochastic gradient descent for non-smooth optimization", arXiv:1212.1824; with
    ``gamma=8`` the average of DoG (arXiv:2302.12022).
    """

    gamma: float = 8.0

    def __call__(self, n: Any) -> Any:
        """Return the decay at the n-th averaging."""
        return 1 - (1 + self.gamma) / (n + self.gamma)


SCHEDULES: Mapping[str, Callable[[Any], Any]] = {
    "warmup": Warmup(),
    "karras": PowerLaw(),
    "swa": Equal(),
    "polynomial": Polynomial(),
}
"""Decays by name."""

WORDS = (
    "a number >= 0 and < 1, 'warmup', 'karras', 'swa', 'polynomial', a function of the number of averagings so far, "
    f"a mapping from names to up to {MOST} of these, or None"
)
TRIED = (1.0, 2.0, 10.0, 1e3, 1e6)
"""Numbers of averagings at which a function's decay is looked at beforehand."""


def average_of(value: Any) -> Any:
    """Return an ``ema_decay`` as a group keeps it: a number, a name, a function, or a mapping to these.

    Raises:
        TypeError: it is of another type.
        ValueError: a decay is out of bounds, a name is unknown, or there are too many averages.
    """
    if isinstance(value, Mapping):
        if not 0 < len(value) <= MOST or not all(isinstance(name, str) for name in value):
            raise ValueError(
                f"ema_decay={value!r} must name 1 to {MOST} averages, such as {{'fast': 0.99, 'swa': 'swa'}}"
            )
        return {name: _decay_of(decay) for name, decay in value.items()}
    return _decay_of(value)


def _decay_of(value: Any) -> Decay:
    if isinstance(value, str):
        if value not in SCHEDULES:
            raise ValueError(f"Invalid ema_decay value: {value!r}; ema_decay must be {WORDS}")
        return value
    if isinstance(value, Tensor) or not callable(value):
        return _number(value, value)
    for n in TRIED:
        _number(value(n), f"{value!r} at n = {n:g}")
    return value


def _number(value: Any, given: Any) -> Any:
    if hasattr(value, "item") and not isinstance(value, Tensor):  # NumPy's
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise TypeError(f"ema_decay must be {WORDS}, not {given!r}")
    if not 0 <= value < 1:
        told = f"{given!r}" if value is given else f"{given} is {value!r}"
        raise ValueError(f"Invalid ema_decay value: {told} (ema_decay must be {WORDS})")
    return value if isinstance(value, Tensor) else float(value)


def decays_of(options: Options) -> tuple[Decay, ...]:
    """Return the decays of all averages that a group keeps."""
    value = options["ema_decay"]
    return () if value is None else tuple(value.values()) if isinstance(value, Mapping) else (value,)


def names_of(options: Options) -> tuple[str | None, ...]:
    """Return the names of all averages that a group keeps; None for the only one."""
    value = options["ema_decay"]
    return () if value is None else tuple(value) if isinstance(value, Mapping) else (None,)


def _function(decay: Decay) -> Callable[[Any], Any] | None:
    if isinstance(decay, str):
        return SCHEDULES[decay]
    return decay if callable(decay) and not isinstance(decay, Tensor) else None


def _is_counted(options: Options) -> bool:
    """Return whether the averages need to know how often they have been averaged."""
    if options["ema_decay"] is None:
        return False
    has_function = any(_function(decay) is not None for decay in decays_of(options))
    return has_function or options["ema_every"] != 1 or options["ema_start"] != 0


def _average(index: int) -> State:
    name = "ema" if index == 0 else f"ema_{index + 1}"
    return State(name, init="param", when=lambda options: len(decays_of(options)) > index)


AVERAGES = tuple(_average(index) for index in range(MOST))
"""The averaged parameter, once for each average. They start as the parameter's value before the first step."""

STEPS = State("ema_steps", "scalar", when=_is_counted)
COUNT = State("ema_count", "scalar", when=_is_counted)
"""Numbers of steps and of averagings so far."""


@dataclass(frozen=True)
class Averaged:
    """Wrapper that averages the new weights: ``ema = d * ema + (1 - d) * p``.

    Attributes:
        decays: the function of each average's decay; None for a decay that is a number.
        is_counted: whether the averages count, because of a function, a start or an interval.
    """

    decays: tuple[Callable[[Any], Any] | None, ...]
    is_counted: bool

    def __call__(self, update: Update) -> Update:
        """Return the update with averages after it."""

        def averaging(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
            p, state = update(p, g, state, scalars)
            counts, weigh = self._counted(state, scalars) if self.is_counted else ({}, lambda decay: 1 - decay)
            n = counts.get(COUNT.name)
            averages = {}
            for index, function in enumerate(self.decays):
                name = AVERAGES[index].name
                decay = scalars[_numbered(index)] if function is None else function(maximum(n, 1))
                averages[name] = lerp(state[name], p, weigh(decay))
            return p, {**state, **averages, **counts}

        return averaging

    def _counted(self, state: Values, scalars: Values) -> tuple[dict[str, Any], Callable[[Any], Any]]:
        """Count a step. Return the new counts, and the function from a decay to the weight of the new weights."""
        t, before = state[STEPS.name] + 1, state[COUNT.name]
        is_due = t >= scalars["ema_start"] + (before + 1) * scalars["ema_every"]
        n = where(is_due, before + 1, before)

        def weigh(decay: Any) -> Any:
            return where(t <= scalars["ema_start"], 1.0, where(is_due, 1 - decay, 0.0))

        return {STEPS.name: t, COUNT.name: n}, weigh


def _numbered(index: int) -> str:
    return f"ema_decay_{index + 1}"


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    if options.get("ema_decay") is None:
        return None
    return Averaged(tuple(map(_function, decays_of(options))), _is_counted(options))


def _check(rule: Rule, options: Options) -> None:
    functions = [decay for decay in decays_of(options) if _function(decay) is not None]
    if functions and options["state_dtype"] is not None and options["state_rounding"] == "nearest":
        raise ValueError(
            f"ema_decay={functions[0]!r} comes close to 1, and an average in {options['state_dtype']} that is rounded "
            "to nearest then stands still; leave state_rounding='stochastic'"
        )


def _numbers(options: Options, shared: Values) -> dict[str, Any]:
    return {_numbered(i): d for i, d in enumerate(decays_of(options)) if _function(d) is None}


EMA = Transform(
    _wrapper,
    {
        "ema_decay": hyper(
            None,
            "decay d of the averaged weights, ema ← d·ema + (1 - d)·θ after each step; None keeps no average",
            convert=average_of,
            words="a decay, its name, a function, a mapping or None",
            is_decay=True,
        ),
        "ema_every": hyper(1, "number of steps between two averagings", low=1, integer=True),
        "ema_start": hyper(0, "number of steps in which the average is the weights themselves", low=0, integer=True),
    },
    (*AVERAGES, STEPS, COUNT),
    numbers=_numbers,
    takes_elements=False,
    check=_check,
)

EVALUATED = (PRIMAL, LOOKAHEAD)
"""Other transforms with weights to be evaluated, the first that has some."""

KEEPING = ("ema_decay", *(name for transform in EVALUATED for name in transform.options))
"""Options with which averages are kept, if they are not None."""


def _evaluated(group: Options, p: Tensor, held: Mapping[str, Any]) -> Tensor | None:
    found = (each.evaluated(group, p, held) for each in EVALUATED if each.evaluated)
    return next((weights for weights in found if weights is not None), None)


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
    evaluates_others: ClassVar[bool] = False
    """True for a class whose rule evaluates other weights than it trains; see `steepest.weights`."""

    def _refuse_step(self) -> None:
        """Raise `RuntimeError` where a step would train averaged weights."""
        if holds_averages(self.param_groups):
            raise RuntimeError("step() inside `with optimizer.averaged():` would train the averaged weights; leave it")

    def _own_average(self, group: Mapping[str, Any], p: Tensor) -> Tensor | None:
        """Return the weights that a rule itself evaluates; None where they are those that it trains."""
        return None

    @property
    def keeps_averages(self) -> bool:
        """True if some group has averaged weights, which `averaged` lets be used."""
        return self.evaluates_others or any(group[name] is not None for group in self.param_groups for name in KEEPING)

    @contextmanager
    def averaged(self, name: str | None = None) -> Iterator[None]:
        """Use the averaged weights inside the block. The parameters' own values come back afterwards in any case.

        These are a group's ``ema_decay``, else the weights that its rule evaluates (Schedule-Free's x), else the
        average of ``gpa`` or ``schedule_free``, else the slow weights of ``lookahead``.

        Buffers are not averaged: BatchNorm's running statistics belong to the raw weights. Either measure with these
        statistics as they are, since with a decay close to 1 and late in training they are near. Or re-estimate them
        inside the block with ``torch.optim.swa_utils.update_bn(loader, model)``. Do so on a copy of the model if
        training continues afterwards.

        ``model.state_dict()`` holds the parameters themselves, so it changes back as they do. Save it inside the block,
        or take `averaged_state_dict`.

        Args:
            name: the average, where ``ema_decay`` names several; None is each group's first.

        Raises:
            RuntimeError: no group has any of them, or the block is entered twice.
            ValueError: no group has an average of this name.
        """
        groups = self.param_groups
        if holds_averages(groups):
            raise RuntimeError("already inside `with optimizer.averaged():`")
        if not self.keeps_averages:
            optimizer = type(self).__name__
            raise RuntimeError(
                f"no averaged weights are kept; construct {optimizer}(params, ema_decay=0.999) to keep them"
            )
        known = dict.fromkeys(each for group in groups for each in names_of(group) if each is not None)
        if name is not None and name not in known:
            told = ", ".join(map(repr, known)) or "a single one, without a name"
            raise ValueError(f"no average is called {name!r}; there are: {told}")
        pairs = ((p, self._average_of(group, p, name)) for group in groups for p in group["params"])
        with swapped((p, weights) for p, weights in pairs if weights is not None):
            yield

    def _average_of(self, group: dict[str, Any], p: Tensor, name: str | None) -> Tensor | None:
        names = names_of(group)
        if not names and name is None:
            own = self._own_average(group, p)
            return own if own is not None else _evaluated(group, p, self.state.get(p, {}))
        if not names or (name is not None and name not in names):
            return None
        return storage.read(AVERAGES[0 if name is None else names.index(name)], self.state.get(p, {}))

    def averaged_state_dict(self, model: torch.nn.Module, name: str | None = None) -> dict[str, Any]:
        """Return the state dict of ``model`` with averaged weights, to be saved. Its tensors are copies.

        ``model.state_dict()`` holds the parameters themselves, not copies. Taken inside `averaged` and saved after the
        block, it would save the trained weights.

        Args:
            model: the model.
            name: the average; see `averaged`.

        Raises:
            RuntimeError: no group has averaged weights.
            ValueError: no group has an average of this name.
        """
        with self.averaged(name):
            saved: dict[str, Any] = model.state_dict()
            for key, value in saved.items():
                saved[key] = value.detach().clone() if isinstance(value, Tensor) else value
        return saved
