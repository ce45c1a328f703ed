"""Recorded curves of several seeds -> one curve with its spread."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steepest.study.report.charts.downsampling import SCREEN_POINTS, bucket_means, thin
from steepest.study.report.stored.study import Array, Epoch, Trial

XAxis = Literal["epochs", "steps", "seconds"]
Position = Callable[[Epoch], float | None]
POSITION: dict[XAxis, Position] = {
    "epochs": lambda epoch: epoch.epoch,
    "steps": lambda epoch: epoch.step,
    "seconds": lambda epoch: epoch.seconds,
}


@dataclass(frozen=True)
class Curve:
    """Mean over seeds, the ends of one standard deviation around it, and how many seeds each point covers.

    Where a point covers one seed, low and high equal the mean: one value has no spread.
    """

    x: Array
    mean: Array
    low: Array
    high: Array
    counts: Array

    def __len__(self) -> int:
        return len(self.x)

    def where(self, kept: NDArray[Any]) -> "Curve":
        """Return the curve's points that a mask or an array of indices selects."""
        return Curve(self.x[kept], self.mean[kept], self.low[kept], self.high[kept], self.counts[kept])


def epoch_curve(trials: Sequence[Trial], key: str, position: Position) -> Curve:
    """Return the figure ``key`` at evaluations, averaged over the seeds that reached each with a finite value.

    On the axis of seconds, seeds pass an epoch's end at different times: the point lies at their mean time.
    """
    epochs = sorted({epoch.epoch for trial in trials for epoch in trial.epochs})
    column = {epoch: index for index, epoch in enumerate(epochs)}
    x, y = np.full((2, len(trials), len(epochs)), np.nan)
    for row, trial in enumerate(trials):
        for epoch in trial.epochs:
            x[row, column[epoch.epoch]] = _nan(position(epoch))
            y[row, column[epoch.epoch]] = _nan(epoch.values.get(key))
    missing = ~(np.isfinite(x) & np.isfinite(y))
    x[missing] = y[missing] = np.nan
    return _shortened(_over_seeds(x, y))


def point_curve(trials: Sequence[Mapping[int, float]]) -> Curve:
    """Return the values of every trial at the same steps, averaged over the trials that have a finite one there."""
    steps = sorted({step for points in trials for step in points})
    y = np.array([[points.get(step, np.nan) for step in steps] for points in trials]).reshape(len(trials), len(steps))
    y = np.where(np.isfinite(y), y, np.nan)
    x = np.where(np.isfinite(y), np.array(steps, dtype=np.float64), np.nan)
    return _over_seeds(x, y)


def step_curve(trials: Sequence[Trial]) -> Curve:
    """Return the training loss of every step: means of neighbouring steps per seed, averaged over seeds."""
    longest = max((len(trial.steps) for trial in trials), default=0)
    smoothed = [bucket_means(_padded(trial.steps, longest), _padded(trial.losses, longest)) for trial in trials]
    if not longest:
        return _over_seeds(np.empty((0, 0)), np.empty((0, 0)))
    x, y = (np.array(columns) for columns in zip(*smoothed, strict=True))
    return _over_seeds(np.where(np.isfinite(y), np.nanmax(x, axis=0, initial=0.0), np.nan), y)


def _over_seeds(x: Array, y: Array) -> Curve:
    """Return column means over rows; NaN is a missing value. Columns without any value are dropped."""
    counts = np.isfinite(y).sum(axis=0).astype(np.float64)
    kept = counts > 0
    x, y, counts = x[:, kept], y[:, kept], counts[kept]
    mean = np.nansum(y, axis=0) / counts
    with np.errstate(over="ignore"):
        squares = np.nansum((y - mean) ** 2, axis=0)
    deviation = np.sqrt(squares / np.maximum(counts - 1, 1))
    return Curve(np.nansum(x, axis=0) / counts, mean, mean - deviation, mean + deviation, counts)


def _shortened(curve: Curve) -> Curve:
    if len(curve) <= SCREEN_POINTS:
        return curve
    return curve.where(thin(curve.mean))


def _padded(values: Array, length: int) -> Array:
    return np.concatenate([values, np.full(length - len(values), np.nan)])


def _nan(value: float | None) -> float:
    return np.nan if value is None else value
