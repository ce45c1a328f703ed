"""The cost of a plan on this machine, and the differences that it can detect, before anything runs."""

from dataclasses import dataclass, replace
from typing import Final

from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.planning.plan import ALPHA, Plan
from steepest.study.records import records
from steepest.study.records.format import BEHAVIOUR, FIGURES
from steepest.study.statistics.permutation import seeds_for_a_verdict
from steepest.study.statistics.power import detectable_difference
from steepest.study.trials import timing
from steepest.study.trials.behaviour import samples

CALIBRATION_SECONDS: Final = 0.3
POWER: Final = 0.8


@dataclass(frozen=True)
class Cost:
    """Seconds of training and evaluating in one job, and bytes of records; an estimate, not a promise.

    `timing_seconds` are those of the timing pass, whose trials never run side by side.
    """

    seconds: float
    disk_bytes: int
    timing_seconds: float = 0.0

    def seconds_with(self, jobs: int) -> float:
        """Return the total seconds with so many trials at once."""
        return self.seconds / jobs + self.timing_seconds


@dataclass(frozen=True)
class DetectableEffect:
    """The differences that the evaluation seeds can show.

    `detectable` is the smallest true difference found with 80 % power, in standard deviations of the paired
    differences; None if so few seeds cannot show any. `seeds_needed` is the smallest number that can give any verdict.
    """

    comparisons: int
    seeds: int
    seeds_needed: int
    detectable: float | None

    @property
    def enough(self) -> bool:
        """True if a verdict is possible."""
        return self.seeds >= self.seeds_needed


def detectable_effect(optimizers: int, seeds: int) -> DetectableEffect | None:
    """Return the effect that so many seeds can detect, if one of the optimizers is the reference; None for only one.

    The smallest p value of a two-sided sign-flip test is 2 / 2^seeds, and Holm's correction asks the smallest of m for
    alpha / m.

    >>> detectable_effect(9, 5).seeds_needed
    9
    """
    comparisons = optimizers - 1
    if not comparisons:
        return None
    detectable = detectable_difference(seeds, comparisons, ALPHA, POWER)
    return DetectableEffect(comparisons, seeds, seeds_for_a_verdict(comparisons, ALPHA), detectable)


def cost(plan: Plan) -> Cost:
    """Time a few steps of every optimizer and one evaluation, and add up the plan's trials."""
    seconds, trials = 0.0, 0
    for label, each in trial_seconds(plan).items():
        count = len(plan.candidates.get(label, ())) * len(plan.search_seeds) + len(plan.seeds)
        seconds += count * each
        trials += count
    steps, evaluations = _events(plan)
    disk = trials * (steps * _line_bytes("step") + evaluations * _line_bytes("epoch"))
    if plan.pattern.behaviour:
        tensors = sum(plan.subject.reports[config.label].tensors for config in plan.configs)
        disk += len(plan.seeds) * samples(steps) * _sample_bytes(tensors)
    return Cost(seconds, disk, timing_seconds(plan))


def trial_seconds(plan: Plan) -> dict[str, float]:
    """Time a few steps of every optimizer and one evaluation, and return the seconds of a trial, by label."""
    steps, evaluations = _events(plan)
    looking = evaluations * plan.subject.evaluation_seconds()
    return {config.label: steps * _step_seconds(plan, config) + looking for config in plan.configs}


def timing_seconds(plan: Plan) -> float:
    """Return the seconds of the timing pass."""
    return len(plan.configs) * plan.timing_rounds * timing.SECONDS


def _events(plan: Plan) -> tuple[int, int]:
    """Return the numbers of steps and of evaluations in a trial."""
    epochs, subject = plan.pattern.epochs or 0, plan.subject
    every = subject.loop.get("evaluate_every")
    if every and subject.steps:
        return subject.steps, -(-subject.steps // every) + 2
    evaluations = epochs * min(plan.pattern.evaluations or 1, subject.steps_per_epoch or 1) + 2
    return subject.steps or 0, evaluations


def _step_seconds(plan: Plan, config: OptimizerConfig) -> float:
    return timing.time_steps(replace(plan.pattern, config=config), plan.task, CALIBRATION_SECONDS).step_seconds


def _sample_bytes(tensors: int) -> int:
    """Return the length of a sample of an optimizer's behaviour with so many parameters."""
    figures = dict.fromkeys(FIGURES, 0.123456)
    layers = {f"layers.{number}.weight": list(figures.values()) for number in range(tensors)}
    return len(records.encode({"kind": BEHAVIOUR, "epoch": 10, "step": 10_000, **figures, "layers": layers}))


def _line_bytes(kind: str) -> int:
    """Return the length of a typical record and its line of wall times together."""
    value = 0.123456789012345678
    position = {"kind": kind, "epoch": 10, "step": 10_000}
    if kind == "step":
        return len(records.encode({**position, "loss": value}))
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    timing = {**position, "train_seconds": value, "examples": 100_000}
    return len(records.encode({**position, **dict.fromkeys(names, value)})) + len(records.encode(timing))
