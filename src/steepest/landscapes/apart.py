"""Many runs of an optimizer at once, each in a parameter group of its own. To the bit they are each run by itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steepest.landscapes.declaration import Draw, Point, Surface
from steepest.landscapes.paths import BEYOND
from steepest.landscapes.together import has_groups_apart
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.seeds import GlobalStream, Noise
from steepest.study.trials.optimizers import StudiedOptimizer


@dataclass(frozen=True)
class Run:
    """A run that is walked next to others: its rate, its start and the number of its noise."""

    rate: float
    start: Point
    seed: int


def is_walked_apart(surface: Surface, config: OptimizerConfig) -> bool:
    """Return whether `ends_apart` can walk an optimizer on a surface."""
    return has_groups_apart(config, surface.shapes)


def ends_apart(surface: Surface, config: OptimizerConfig, runs: Sequence[Run], budget: int) -> list[float]:
    """Return the value at the end of each run, infinite for one that is lost.

    All runs step at the same time, which costs little more than the steps of one.

    Raises:
        Exception: whatever the optimizer raises in one of the runs.
    """
    walkers = [_Walker(surface, run) for run in runs]
    params = [param for walker in walkers for param in walker.params]
    stream = GlobalStream("optimizer", 0)  # has_groups_apart: nothing is drawn
    with stream.active():
        made = config.build([{"params": walker.params, "lr": walker.run.rate} for walker in walkers])
    optimizer = StudiedOptimizer(made, params, stream, Noise(0))
    live = walkers
    for step in range(budget + 1):
        with optimizer.weights_to_measure(), torch.no_grad():
            live = _noted(surface, live)
        if step == budget or not live:
            break
        for param in params:
            param.grad = None
        _losses(surface, live, step).sum().backward()  # type: ignore[no-untyped-call]
        made.step()
        if surface.box:
            with torch.no_grad():
                torch._foreach_clamp_min_(params, surface.box[0])
                torch._foreach_clamp_max_(params, surface.box[1])
    return [walker.end for walker in walkers]


class _Walker:
    """The parameters of a run, and the value where it is; infinite once it is lost."""

    def __init__(self, surface: Surface, run: Run) -> None:
        self.run = run
        self.params = [part.clone() for part in surface.split(torch.tensor(run.start, dtype=torch.float64))]
        for param in self.params:
            param.requires_grad_()
        self.limit = math.nan
        self.end = math.nan

    def note(self, value: float, is_finite: bool) -> bool:
        """Note the value where the run is, and return whether it continues."""
        if math.isnan(self.limit):
            self.limit = max(BEYOND, abs(value))
        is_live = is_finite and math.isfinite(value) and abs(value) <= self.limit
        self.end = value if is_live else math.inf
        return is_live


def _noted(surface: Surface, live: Sequence[_Walker]) -> list[_Walker]:
    """Note where runs are, and return those that continue."""
    at = torch.stack([torch.cat([param.flatten() for param in walker.params]) for walker in live])
    here = zip(live, _values(surface, live).tolist(), at.sum(1).isfinite().tolist(), strict=True)
    return [walker for walker, value, is_finite in here if walker.note(value, is_finite)]


def _losses(surface: Surface, live: Sequence[_Walker], step: int) -> Tensor:
    """Return the loss (n,) that each run sees at a step."""
    if surface.seen is None:
        return _values(surface, live)
    return torch.stack([surface.loss(Draw(step, walker.run.seed), walker.params) for walker in live])


def _values(surface: Surface, live: Sequence[_Walker]) -> Tensor:
    """Return the value (n,) where each run is."""
    if surface.is_elementwise:
        return surface.value(torch.stack([walker.params[0] for walker in live], 1))
    return torch.stack([surface.value(*walker.params) for walker in live])
