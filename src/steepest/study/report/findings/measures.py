"""Which figures a study reports, what they are called and how they are printed: one place for tables and charts."""

import math
from dataclasses import dataclass
from typing import Final

from steepest.study.report.stored.study import Study, Trial

MISSING = "–"
DECIMALS: Final = 3
"""Decimals of a figure, where a margin does not ask for more."""


@dataclass(frozen=True)
class Measure:
    """One reported figure. ``better`` is +1 (higher), -1 (lower) or 0 (no judgement)."""

    key: str
    title: str
    better: int
    decimals: int
    definition: str

    def text(self, value: float | None) -> str:
        """Return the value as printed: fixed decimals, or three significant digits where those would not fit."""
        return number(value, self.decimals)

    def of(self, trial: Trial) -> float | None:
        """Return the trial's final value (training figures: of its last epoch), or None."""
        if self.key == "examples_per_second":
            return trial.examples_per_second
        if self.key in trial.final:
            return trial.final[self.key]
        return trial.epochs[-1].values.get(self.key) if trial.epochs else None

    def result(self, trial: Trial) -> float:
        """Return the final value of a trial with a result; NaN, the worst result, where it is not finite."""
        value = self.of(trial) if trial.finished else None
        return value if value is not None and math.isfinite(value) else math.nan

    def lost(self, trial: Trial) -> str | None:
        """Say why the trial's result is the worst one; None for a finite result, and without a result."""
        if not trial.counts or not math.isnan(self.result(trial)):
            return None
        return f"without a finite {self.title.lower()}" if trial.finished else trial.status


def number(value: float | None, decimals: int) -> str:
    """Print fixed decimals for everyday sizes (counts: any), three digits beyond, words for what is not finite.

    >>> number(0.87912, 3), number(1234.56, 0), number(2.5e7, 3), number(None, 3), number(float("inf"), 3)
    ('0.879', '1,235', '2.5e+07', '–', 'inf')
    """
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.{decimals}f}" if abs(value) < (1e6 if decimals else 1e15) else f"{value:.3g}"


def table_measures(study: Study) -> tuple[Measure, ...]:
    """Return the columns of the results table, in the order of the literature."""
    parts = ("train_loss", *_metric_keys(study, "train", "test"), *_speed(study))
    return tuple(_measure(study, key) for key in dict.fromkeys(parts))


def curve_measures(study: Study) -> tuple[Measure, ...]:
    """Return the learning curves, in reading order."""
    keys = ("train_loss", *_metric_keys(study, "train", "validation"), "validation_loss")
    return tuple(_measure(study, key) for key in dict.fromkeys(keys))


def goal(study: Study) -> Measure:
    """Return the figure that the study's answer is about: its metric on the test set."""
    return _measure(study, f"test_{study.metric}")


def validation_goal(study: Study) -> Measure:
    """Return the study's metric on the validation set."""
    return _measure(study, f"validation_{study.metric}")


def trial_measures(study: Study) -> tuple[Measure, ...]:
    """Return the columns of the table of trials."""
    keys = ("train_loss", *_metric_keys(study, "train", "validation", "test"), *_speed(study))
    return tuple(_measure(study, key) for key in dict.fromkeys(keys))


def definitions(study: Study) -> tuple[tuple[str, str], ...]:
    """Return name and meaning of every figure that the page shows."""
    shown = (*curve_measures(study), *table_measures(study))
    return tuple((measure.title, measure.definition) for measure in dict.fromkeys(shown))


def _speed(study: Study) -> list[str]:
    """Return the trials' own speed, where no timing pass took it better, or to compare it with a published one.

    Trials that ran side by side waited for each other.
    """
    return [] if study.timing_trials and study.document.published is None else ["examples_per_second"]


def _metric_keys(study: Study, *splits: str) -> list[str]:
    """Return the keys of the metric on these sets. It need not be measured in training."""
    ends = [trial.epochs[-1].values for trial in study.trials if trial.epochs]
    unmeasured = bool(ends) and not any(f"train_{study.metric}" in values for values in ends)
    return [f"{split}_{study.metric}" for split in splits if not (split == "train" and unmeasured)]


def _measure(study: Study, key: str) -> Measure:
    if key == "examples_per_second":
        return Measure(key, "Examples/s", 0, 0, _SPEED)
    split, quantity = key.split("_", 1)
    word = {"train": "Training", "validation": "Validation", "test": "Test"}[split]
    better = 1 if quantity == study.metric and study.maximize else -1
    title, decimals = f"{word} {quantity.replace('_', ' ')}", decimals_for(study.protocol.margin)
    return Measure(key, title, better, decimals, _DEFINITIONS[split].format(quantity=quantity))


def decimals_for(margin: float) -> int:
    """Return how many decimals show a tenth of the margin of equivalence, at least the usual number.

    >>> decimals_for(0.0), decimals_for(0.2), decimals_for(0.01), decimals_for(0.005), decimals_for(0.0005)
    (3, 3, 3, 4, 5)
    """
    return max(DECIMALS, 1 + math.ceil(-math.log10(margin))) if margin > 0 else DECIMALS


_SPEED = (
    "Training examples seen, divided by training time. The clock runs during forward, backward and optimizer step "
    "only: evaluation, logging and warm-up are outside. It depends on the machine and on what else ran on it."
)
_DEFINITIONS = {
    "train": (
        "Running mean of the {quantity} over the batches of the epoch, taken in training mode (batch statistics, "
        "dropout on) while the weights still move: not the {quantity} of the final weights on the training set."
    ),
    "validation": "The {quantity} on examples held out of the training set, in evaluation mode, at the end of an "
    "epoch. Choices are made on this figure.",
    "test": "The {quantity} on the test set, in evaluation mode, read once, after the last epoch. No choice uses it.",
}
