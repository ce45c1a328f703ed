"""The way the optimizers moved: figures of sampled steps, for the optimizer with the best mean and the reference."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from steepest.study.report.findings.measures import goal
from steepest.study.report.findings.summary import Summary, ranked
from steepest.study.report.stored.study import Layer, Study, Trial

WHOLE: Final = "All parameters"
"""The name of all layers together."""
MOST_LAYERS: Final = 60
"""Layers that a page shows: those of the largest weights."""


@dataclass(frozen=True)
class Moved:
    """A figure of a sampled step: its key, its title, the sentence that defines it, and its value.

    `bounds` frames its axis; without them the axis has a logarithmic scale.
    """

    key: str
    title: str
    meaning: str
    of: Callable[[Layer], float]
    bounds: tuple[float, float] | None = None


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


MOVED: Final = (
    Moved("gradient-norm", "Gradient norm", "‖g‖, as it stands in .grad.", lambda layer: layer.gradient_norm),
    Moved(
        "update-ratio",
        "Update to weight ratio",
        "‖Δw‖ / ‖w‖: the part of its length by which the step moves the weights.",
        lambda layer: _share(layer.update_norm, layer.weight_norm),
    ),
    Moved(
        "effective-rate",
        "Effective learning rate",
        "‖Δw‖ / ‖g‖: the learning rate of the plain gradient step of this length.",
        lambda layer: _share(layer.update_norm, layer.gradient_norm),
    ),
    Moved(
        "cosine",
        "Cosine of successive updates",
        "1: straight on; 0: at a right angle; −1: back where it came from.",
        lambda layer: layer.cosine,
        (-1.1, 1.1),
    ),
)
"""The figures, in the page's order."""


@dataclass(frozen=True)
class Behaviour:
    """The optimizers whose behaviour is shown, their layers with all together first, and the figures that were logged.

    `hidden` is the number of layers that are not shown.
    """

    labels: tuple[str, ...]
    layers: tuple[str, ...]
    hidden: int
    logged: tuple[str, ...]


def behaviour(study: Study, summaries: Iterable[Summary]) -> Behaviour:
    """Find out what is shown."""
    labels = _compared(study, summaries)
    trials = [trial for label in labels for trial in study.trials_of(label)]
    weights = _weights(trials)
    largest = set(sorted(weights, key=lambda name: -weights[name])[:MOST_LAYERS])
    names = [name for name in weights if name in largest]
    logged = dict.fromkeys(name for trial in trials for entry in trial.logs for name in entry.values)
    return Behaviour(labels, (WHOLE, *(names if len(names) > 1 else ())), len(weights) - len(names), tuple(logged))


def _compared(study: Study, summaries: Iterable[Summary]) -> tuple[str, ...]:
    """Return the labels that are shown: the best mean's and the reference's, or the second's where they are one."""
    best = [summary.label for summary in ranked(summaries, goal(study))]
    wanted = dict.fromkeys([*best[:1], *([study.reference] if study.reference else []), *best[1:2]])
    return tuple(label for label in wanted if _moved(study.trials_of(label)))[:2]


def _weights(trials: Iterable[Trial]) -> dict[str, float]:
    """Return the norm of every layer at its first sample, in the model's order."""
    weights: dict[str, float] = {}
    for sample in (trial.samples[0] for trial in trials if trial.samples):
        for name, layer in sample.layers.items():
            weights.setdefault(name, layer.weight_norm)
    return weights


def _moved(trials: Iterable[Trial]) -> bool:
    return any(trial.samples or trial.logs for trial in trials)
