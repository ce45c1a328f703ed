"""The way an optimizer moves: norms of gradients, updates and weights, and the angle between two successive updates.

They are sampled at pairs of steps. The first step of a pair keeps its update, and the second compares its own with it.
The cost of a sample is outside the trial's seconds.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from steepest.study.records.format import FIGURES
from steepest.study.trials.clock import Clock

STRIDE: Final = 32
"""Steps from one pair to the next, at first; later it is an eighth of the step's number, rounded to a power of two."""
DIGITS: Final = 6
"""Digits of a stored figure."""

Tensors = dict[str, Tensor]
"""Parameters, or their changes in one step, by name."""
Kept = tuple[int, Tensors]
"""The number of a step, and its update."""


class Layer(NamedTuple):
    """A parameter tensor at a sampled step: norms of its gradient, of its update and of its weights before it.

    `along` is the inner product of the update with that of the step before, whose norm is `before`. Both are NaN where
    that step did not move it.
    """

    gradient: float
    update: float
    weight: float
    along: float
    before: float

    @property
    def figures(self) -> tuple[float, ...]:
        """The figures of a record, as `FIGURES` names them. The cosine with an update of length 0 is NaN."""
        lengths = self.update * self.before
        cosine = self.along / lengths if lengths > 0 else math.nan
        return tuple(map(_rounded, (self.gradient, self.update, self.weight, cosine)))


def together(layers: Iterable[Layer]) -> Layer:
    """Return the figures of several tensors as those of one vector."""
    gradient, update, weight, along, before = zip(*layers, strict=True)
    return Layer(math.hypot(*gradient), math.hypot(*update), math.hypot(*weight), math.fsum(along), math.hypot(*before))


class Behaviour:
    """The sampled steps of a run's optimizers.

    Args:
        clock: the run's clock, which a sample stops.
        taken: returns the number of steps that the run has taken.
    """

    def __init__(self, clock: Clock, taken: Callable[[], int]) -> None:
        self.clock = clock
        self._taken = taken
        self._moves: dict[str, Moves] = {}

    @property
    def step(self) -> int:
        """The number of the step in progress, from 1."""
        return self._taken() + 1

    def watch(self, name: str, optimizer: torch.optim.Optimizer, of: Any) -> "Moves":
        """Return the receiver of an optimizer's steps. `of` is the model or the groups that it was made of."""
        self._moves[name] = Moves(self, optimizer, of)
        return self._moves[name]

    def sample(self) -> dict[str, Any] | None:
        """Return the sample of the step that has just ended, once: `FIGURES` of all parameters, and
        as a list those of each parameter, by its name.

        None if the step is not the second of a pair, or no optimizer took it.
        """
        prefixed = len(self._moves) > 1
        layers = {
            f"{name}.{layer}" if prefixed else layer: figures
            for name, moves in self._moves.items()
            for layer, figures in moves.measured().items()
        }
        if not layers:
            return None
        whole = dict(zip(FIGURES, together(layers.values()).figures, strict=True))
        return {**whole, "layers": {name: one.figures for name, one in layers.items()}}

    @property
    def state(self) -> dict[str, Kept]:
        """The updates of first steps whose second is still to come, by optimizer."""
        return {name: moves.kept for name, moves in self._moves.items() if moves.kept is not None}

    @state.setter
    def state(self, state: Mapping[str, Kept]) -> None:
        for name, moves in self._moves.items():
            moves.kept = state.get(name)


class Moves:
    """The receiver of one optimizer's steps.

    Attributes:
        kept: the update of a pair's first step, with its number.
    """

    def __init__(self, behaviour: Behaviour, optimizer: torch.optim.Optimizer, of: Any) -> None:
        self.kept: Kept | None = None
        self._behaviour = behaviour
        self._optimizer = optimizer
        self._of = of
        self._params: Tensors = {}
        self._start: Tensors = {}
        self._layers: dict[str, Layer] = {}

    def begin(self) -> None:
        """Keep the weights if the step that begins is sampled."""
        if part_of_pair(self._behaviour.step) is not None:
            with self._behaviour.clock.paused():
                self._params = named(self._optimizer, self._of)
                self._start = {name: _real(p).clone() for name, p in self._params.items()}

    def end(self) -> None:
        """Measure the step that ends, if it is sampled."""
        step = self._behaviour.step
        part = part_of_pair(step)
        if part is not None:
            with self._behaviour.clock.paused():
                now = [_real(p) for p in self._params.values()]
                moved = torch._foreach_sub(now, list(self._start.values()))
                update = dict(zip(self._params, moved, strict=True))
                if part == 1:
                    self.kept = step, update
                else:
                    self._layers = self._measured(step, update)
                    self.kept = None
                self._params, self._start = {}, {}

    def measured(self) -> dict[str, Layer]:
        """Return the figures of every parameter in the step that has just ended, once."""
        layers, self._layers = self._layers, {}
        return layers

    def _measured(self, step: int, update: Tensors) -> dict[str, Layer]:
        number, kept = self.kept or (0, {})
        before = {name: kept[name] for name in update if name in kept} if number == step - 1 else {}
        gradient = {name: _real(p.grad) for name, p in self._params.items() if p.grad is not None}
        twice = torch._foreach_add([update[name] for name in before], list(before.values())) if before else []
        gradients, updates, weights, befores, both = lengths(
            gradient, update, self._start, before, dict(zip(before, twice, strict=True))
        )
        scale = getattr(self._optimizer, "grad_scale", None)  # of a scaler whose optimizer divides gradients itself
        factor = 1.0 if scale is None else 1 / float(scale)
        return {
            name: Layer(
                gradients.get(name, 0.0) * factor,
                updates[name],
                weights[name],
                (both[name] ** 2 - updates[name] ** 2 - befores[name] ** 2) / 2 if name in before else math.nan,
                befores.get(name, math.nan),
            )
            for name in update
        }


def part_of_pair(step: int) -> int | None:
    """Return the place of a step, counted from 1, in a pair: 1 or 2, or None for a step that is not sampled.

    >>> [step for step in range(1, 700) if part_of_pair(step) == 2]
    [2, 34, 66, 98, 130, 162, 194, 226, 258, 290, 322, 354, 386, 418, 450, 482, 514, 578, 642]
    """
    stride = max(STRIDE, 2 ** (step.bit_length() - 4))
    place = (step - 1) % stride + 1
    return place if place <= 2 else None


def samples(steps: int) -> int:
    """Return the number of samples in a trial of so many steps."""
    return sum(part_of_pair(step) == 2 for step in range(1, steps + 1))


def named(optimizer: torch.optim.Optimizer, of: Any) -> Tensors:
    """Return an optimizer's parameters by name: that in the model, else that in the group, else its place in both."""
    known = {id(p): name for name, p in of.named_parameters()} if isinstance(of, nn.Module) else {}
    found: Tensors = {}
    for number, group in enumerate(optimizer.param_groups):
        given = group.get("param_names") or [f"{number}.{place}" for place in range(len(group["params"]))]
        found |= {known.get(id(p), name): p for p, name in zip(group["params"], given, strict=True)}
    return found


def lengths(*several: Tensors) -> list[dict[str, float]]:
    """Return the norm of every tensor of several dicts, in double where its device has it.

    Squares neither overflow nor vanish there. The norms of each device take one transfer.
    """
    found: list[dict[str, float]] = [{} for _ in several]
    places = [(tensors, name) for tensors in range(len(several)) for name in several[tensors]]
    for device in dict.fromkeys(several[tensors][name].device for tensors, name in places):
        here = [(tensors, name) for tensors, name in places if several[tensors][name].device == device]
        wide = torch.float32 if device.type == "mps" else torch.float64
        norms = torch._foreach_norm([several[tensors][name] for tensors, name in here], 2, wide)
        for (tensors, name), norm in zip(here, torch.stack(norms).tolist(), strict=True):
            found[tensors][name] = norm
    return found


def _real(x: Tensor) -> Tensor:
    """Return a tensor's numbers: of a complex one both parts, of a sparse one those that it stores."""
    x = x.detach()
    x = x.coalesce().values() if x.is_sparse else x
    return torch.view_as_real(x) if x.is_complex() else x


def _rounded(figure: float) -> float:
    return float(f"{figure:.{DIGITS}g}") if math.isfinite(figure) else figure
