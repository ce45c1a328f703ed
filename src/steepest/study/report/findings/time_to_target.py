"""Time to target: when every trial first met the targets that the plan froze, in four units."""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from steepest.study.report.findings.measures import Measure
from steepest.study.report.findings.verdicts import Verdicts, judge
from steepest.study.report.stored.study import Epoch, Study, Trial, by_label
from steepest.study.statistics.targets import crossing, median_with_censoring, misses
from steepest.study.statistics.verdicts import Comparison

Unit = Literal["steps", "epochs", "gradient evaluations", "seconds"]
TimeOf = Callable[[Epoch], float]
UNITS: Final[tuple[Unit, ...]] = ("steps", "epochs", "gradient evaluations", "seconds")


@dataclass(frozen=True)
class TimeToTarget:
    """When the trials of one optimizer met one target.

    Attributes:
        label: the optimizer.
        times: by unit, (seed, time) of every trial whose time is known; infinite for a miss. A unit that was not
            recorded is left out.
        planned: how many seeds the study wanted.
        comparison: of the steps, with the reference's; None for the reference itself, or without a pair.
    """

    label: str
    times: Mapping[Unit, tuple[tuple[int, float], ...]]
    planned: int
    comparison: Comparison | None

    @property
    def known(self) -> int:
        """The number of trials that met the target or ended without meeting it."""
        return len(self.times["steps"])

    @property
    def hits(self) -> int:
        """The number of trials that met the target."""
        return self.known - (misses([time for _, time in self.times["steps"]]) if self.known else 0)

    def median(self, unit: Unit) -> float | None:
        """Return the median over known trials, infinite where half or more missed; None where not recorded."""
        times = [time for _, time in self.times.get(unit, ())]
        return median_with_censoring(times) if times else None


@dataclass(frozen=True)
class Target:
    """One target: its value, and every optimizer's times with verdicts on them, corrected within this target."""

    value: float
    rows: tuple[TimeToTarget, ...]
    verdicts: Verdicts


def targets(study: Study) -> tuple[Target, ...]:
    """Return every target of the plan, easiest first."""
    clock = step_seconds(study)
    return tuple(_target(study, value, clock) for value in study.protocol.targets)


def step_seconds(study: Study) -> dict[str, float]:
    """Return the seconds of a step of every optimizer that the timing pass timed: the median over its rounds."""
    return {label: statistics.median(rounds) for label, rounds in timing_rounds(study).items()}


def timing_rounds(study: Study) -> dict[str, list[float]]:
    """Return the median seconds of a step in every round of the timing pass, by optimizer."""
    found = by_label(study.timing_trials)
    rounds = {
        label: [one.step_seconds for one in found.get(label, ()) if one.finished and one.step_seconds]
        for label in study.labels
    }
    return {label: seconds for label, seconds in rounds.items() if seconds}


def _target(study: Study, value: float, clock: Mapping[str, float]) -> Target:
    met = {label: _crossings(study, label, value) for label in study.labels}
    steps = {label: {seed: _time(epoch, _steps) for seed, epoch in found.items()} for label, found in met.items()}
    verdicts = judge(study, steps, STEPS, margin=0.0)
    compared = {comparison.label: comparison for comparison in verdicts.comparisons}
    rows = [
        TimeToTarget(
            label, _times(found, _units(study, clock.get(label))), len(study.trials_of(label)), compared.get(label)
        )
        for label, found in met.items()
    ]
    return Target(value, tuple(rows), verdicts)


def _crossings(study: Study, label: str, target: float) -> dict[int, Epoch | None]:
    """Return by seed the evaluation that met the target, None for a miss; a trial cut short is left out."""
    found = {trial.seed: (trial, _crossing(study, trial, target)) for trial in study.trials_of(label)}
    return {seed: epoch for seed, (trial, epoch) in found.items() if epoch is not None or trial.counts}


def _crossing(study: Study, trial: Trial, target: float) -> Epoch | None:
    key = f"validation_{study.metric}"
    measured = {epoch.step: epoch for epoch in trial.epochs if key in epoch.values}
    steps = sorted(measured)
    values = [measured[step].values[key] for step in steps]
    step = crossing(steps, values, target, maximize=study.maximize)
    return None if step is None else measured[int(step)]


def _times(met: Mapping[int, Epoch | None], units: Mapping[Unit, TimeOf]) -> dict[Unit, tuple[tuple[int, float], ...]]:
    return {unit: tuple((seed, _time(epoch, of)) for seed, epoch in met.items()) for unit, of in units.items()}


def _units(study: Study, seconds_per_step: float | None) -> dict[Unit, TimeOf]:
    """Return the units in which the study recorded times, and how an evaluation tells each."""
    found: dict[Unit, TimeOf] = {"steps": _steps, "epochs": lambda epoch: epoch.epoch}
    if all("evaluations" in epoch.values for trial in study.trials for epoch in trial.epochs):
        found["gradient evaluations"] = lambda epoch: epoch.values["evaluations"]
    if seconds_per_step is not None:
        found["seconds"] = lambda epoch: epoch.step * seconds_per_step
    return found


def _steps(epoch: Epoch) -> float:
    return float(epoch.step)


def _time(epoch: Epoch | None, of: TimeOf) -> float:
    """Return the time in a unit, infinite for a miss."""
    return math.inf if epoch is None else of(epoch)


STEPS: Final = Measure("steps", "Steps to target", -1, 0, "")
