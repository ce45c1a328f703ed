"""One run of an optimizer on a surface, step by step."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steepest.landscapes.declaration import Draw, Point, Surface
from steepest.study import user_files
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.seeds import GlobalStream, Noise
from steepest.study.trials.optimizers import StudiedOptimizer, loss_for
from steepest.wrappers import asks_for_gradients

Array = NDArray[np.float64]

BEYOND: Final = 1e12
"""A run ends where the value is larger than this, or than its start if that is larger."""


class SpentError(Exception):
    """An optimizer asked for a gradient beyond the budget."""


class UnsuitedError(Exception):
    """An optimizer cannot take a single step on a surface; the message says why."""


@dataclass(frozen=True, eq=False)
class Walk:
    """The record of one run. n is the number of steps, d the count of numbers in all parameters.

    Attributes:
        positions: (n + 1, d) the parameters before the first step and after each. Of an optimizer that evaluates other
            weights than it trains (averages, schedule-free) they are those to be evaluated.
        values: (n + 1,) the surface's value there, without noise.
        evaluations: (n + 1,) gradients that were asked for so far.
        gradient_norms: (n,) the length of the first gradient of each step.
        ended: the reason why the run ended before its budget was spent; empty without one.
        is_lost: whether it ended because numbers were not finite, or too large.
    """

    positions: Array
    values: Array
    evaluations: NDArray[np.int64]
    gradient_norms: Array
    ended: str
    is_lost: bool

    @property
    def step_lengths(self) -> Array:
        """(n,) the distance of each position from the one before."""
        lengths: Array = np.linalg.norm(np.diff(self.positions, axis=0), axis=1)
        return lengths

    @property
    def effective_rates(self) -> Array:
        """(n,) the length of each step over that of its gradient; NaN where the gradient is 0."""
        gradients = np.where(self.gradient_norms > 0, self.gradient_norms, math.nan)
        rates: Array = self.step_lengths / gradients
        return rates


class Walker:
    """An optimizer on a surface, at a start."""

    def __init__(self, surface: Surface, config: OptimizerConfig, start: Point, seed: int, budget: float) -> None:
        self.surface = surface
        self.params = [part.clone() for part in surface.split(torch.tensor(start, dtype=torch.float64))]
        for param in self.params:
            param.requires_grad_()
        try:
            stream = GlobalStream("optimizer", seed)
            with stream.active():
                made = config.build(self.params)
        except Exception as error:  # whatever another library raises
            raise UnsuitedError(_in_words(error)) from error
        self._optimizer = StudiedOptimizer(made, self.params, stream, Noise(seed))
        self._asks = asks_for_gradients(made)
        self._seed = seed
        self._budget = budget
        self.evaluations = 0
        self.gradient_norm = math.nan

    def look(self) -> tuple[Tensor, float]:
        """Return the weights to be evaluated, (d,), and the surface's value there."""
        if not self._optimizer.has_other_weights:
            return self._seen()
        with self._optimizer.weights_to_measure():
            return self._seen()

    @torch.no_grad()
    def _seen(self) -> tuple[Tensor, float]:
        return torch.cat([param.flatten() for param in self.params]), float(self.surface.value(*self.params))

    def step(self, number: int) -> None:
        """Take a step. Raise SpentError if it asks for more gradients than the budget has."""
        made = self._optimizer.made
        draw = Draw(number, self._seed)
        is_first = True

        def closure() -> Tensor:
            nonlocal is_first
            if self.evaluations >= self._budget:
                raise SpentError
            self.evaluations += 1
            for param in self.params:
                param.grad = None
            loss = self.surface.loss(draw, self.params)
            loss.backward()  # type: ignore[no-untyped-call]
            if is_first:
                self.gradient_norm = self._gradient_norm()
                is_first = False
            return loss

        if self._asks:
            made.step(closure)  # type: ignore[arg-type]
        else:
            loss = closure()
            made.step(**loss_for(made, loss.detach()))
        if self.surface.box:
            with torch.no_grad():
                for param in self.params:
                    param.clamp_(*self.surface.box)

    def _gradient_norm(self) -> float:
        squares = (float(param.grad.square().sum()) for param in self.params if param.grad is not None)
        return math.sqrt(sum(squares))


def try_step(surface: Surface, config: OptimizerConfig, start: Point, seed: int) -> None:
    """Take a first step, whatever it costs. Raise UnsuitedError if the optimizer cannot."""
    walker = Walker(surface, config, start, seed, math.inf)
    try:
        walker.step(0)
    except Exception as error:  # sparse gradients are missing, a line search finds nothing
        raise UnsuitedError(_in_words(error)) from error


def _in_words(error: Exception) -> str:
    """Return an error as a reason; what a message says by itself needs no name of an exception."""
    return str(error).rstrip(".") if isinstance(error, ValueError | RuntimeError) else user_files.reason(error)


def walk(
    surface: Surface, config: OptimizerConfig, start: Point, *, budget: int, seed: int, target: float = -math.inf
) -> Walk:
    """Run an optimizer from a start until the next step would take it beyond the budget of gradients.

    The run also ends where the value is at most `target`.

    A step counts only if it ended within the budget. The run ends at the last point whose numbers are finite and whose
    value is not larger than `BEYOND`.

    Raises:
        UnsuitedError: the optimizer cannot be built.
    """
    walker = Walker(surface, config, start, seed, budget)
    record = _Record(*walker.look())
    limit = max(BEYOND, abs(record.values[0]))
    while walker.evaluations < budget and not record.ended and not record.values[-1] <= target:
        try:
            walker.step(len(record.norms))
        except SpentError:
            break
        except Exception as error:  # a line search that finds nothing, or whatever another library raises
            record.ended = f"{_in_words(error)} (at evaluation {walker.evaluations})"
            break
        record.add(walker, limit)
    return record.walk()


class _Record:
    """The record of a run, while it grows."""

    def __init__(self, position: Tensor, value: float) -> None:
        self.positions = [position]
        self.values = [value]
        self.evaluations = [0]
        self.norms: list[float] = []
        self.ended = ""
        self.is_lost = False

    def add(self, walker: Walker, limit: float) -> None:
        """Add the point after a step, or end the run."""
        position, value = walker.look()
        if not math.isfinite(value) or not math.isfinite(float(position.sum())):
            self.ended, self.is_lost = f"not finite at evaluation {walker.evaluations}", True
        elif abs(value) > limit:
            self.ended, self.is_lost = f"beyond {limit:.0e} at evaluation {walker.evaluations}", True
        else:
            self.positions.append(position)
            self.values.append(value)
            self.evaluations.append(walker.evaluations)
            self.norms.append(walker.gradient_norm)

    def walk(self) -> Walk:
        """Return the record in arrays."""
        positions: Any = torch.stack(self.positions).numpy()
        return Walk(
            positions=positions,
            values=np.array(self.values),
            evaluations=np.array(self.evaluations, dtype=np.int64),
            gradient_norms=np.array(self.norms),
            ended=self.ended,
            is_lost=self.is_lost,
        )
