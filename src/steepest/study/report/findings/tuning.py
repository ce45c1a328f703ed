"""The search of every optimizer: points, choice, and the cost of finding it."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from steepest.study.records.format import (
    DEFAULTS,
    DIVERGED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    TIMED_OUT,
    UNSTARTED,
    OptimizerEntry,
    Point,
    PointEntry,
)
from steepest.study.report.stored.study import Study, Trial, by_label
from steepest.study.statistics.tuning import Sensitivity, expected_best, sensitivity

RATE: Final = "lr"


@dataclass(frozen=True)
class SearchPoint:
    """One point of a search: its options, and the last validation score of its trial on every tuning seed.

    `score` is the mean over the tuning seeds, NaN where a trial diverged or failed: that is what the choice is made on.
    """

    point: Point
    options: Mapping[str, Any]
    rate: float | None
    trials: tuple[Trial, ...]
    score: float

    @property
    def status(self) -> str:
        """The worst status of the point's trials."""
        order = (UNSTARTED, INTERRUPTED, FAILED, TIMED_OUT, DIVERGED, FINISHED)
        return next((status for status in order if any(trial.status == status for trial in self.trials)), UNSTARTED)

    @property
    def ended(self) -> bool:
        """True if all trials of the point have come to an end."""
        return self.status not in (UNSTARTED, INTERRUPTED)


@dataclass(frozen=True)
class Search:
    """One optimizer's search.

    Attributes:
        setting: the optimizer, with its space.
        tried: every planned point, the library's defaults first.
        chosen: the point that is evaluated; None where no point finished, or the choice is still to be made.
        curve: the learning-rate curve; None where no rate was searched, or no trial finished.
        expected: (k, score): the expected best validation score after k points next to the defaults; k = 0 are these.
    """

    setting: OptimizerEntry
    tried: tuple[SearchPoint, ...]
    chosen: Point | None
    curve: Sensitivity | None
    expected: tuple[tuple[int, float], ...]

    @property
    def label(self) -> str:
        """The optimizer."""
        return self.setting.label

    @property
    def statuses(self) -> dict[str, int]:
        """The number of points by status."""
        return dict(Counter(point.status for point in self.tried))

    @property
    def defaults(self) -> SearchPoint | None:
        """The library's defaults."""
        return self.at(DEFAULTS)

    def at(self, point: Point | None) -> SearchPoint | None:
        """Return the search's point of this number or name, or None."""
        return next((one for one in self.tried if one.point == point), None)

    @property
    def drawn(self) -> int:
        """The number of points that were drawn: all but the defaults."""
        return sum(point.point != DEFAULTS for point in self.tried)

    @property
    def best(self) -> SearchPoint | None:
        """The chosen point."""
        return self.at(self.chosen)


def searches(study: Study) -> tuple[Search, ...]:
    """Return the search of every optimizer that has a space to search, in the study's order."""
    trials = by_label(study.search_trials)
    return tuple(_search(study, entry, trials.get(entry.label, ())) for entry in study.running if entry.points)


def edges(found: tuple[Search, ...]) -> tuple[tuple[str, str, float], ...]:
    """Return (optimizer, end, best rate) where the best learning rate is the outermost that was tried."""
    return tuple(
        (one.label, {"low": "lower", "high": "upper"}[one.curve.at_edge], one.curve.best)
        for one in found
        if one.curve is not None and one.curve.at_edge is not None
    )


def _search(study: Study, setting: OptimizerEntry, trials: tuple[Trial, ...]) -> Search:
    tried = tuple(_tried(study, point, trials) for point in setting.points)
    choice = study.chosen.get(setting.label)
    return Search(
        setting=setting,
        tried=tried,
        chosen=None if choice is None else choice.point,
        curve=_curve(study, tried) if RATE in setting.space else None,
        expected=_expected(study, tried),
    )


def _tried(study: Study, entry: PointEntry, trials: tuple[Trial, ...]) -> SearchPoint:
    its = tuple(trial for trial in trials if trial.point == entry.point)
    scores = [last_score(study, trial) for trial in its]
    ran_with = its[0].options if its else {}
    rate = ran_with.get(RATE, entry.options.get(RATE))
    return SearchPoint(
        point=entry.point,
        options=entry.options,
        rate=float(rate) if isinstance(rate, int | float) and rate > 0 else None,
        trials=its,
        score=statistics.fmean(scores) if scores else math.nan,
    )


def last_score(study: Study, trial: Trial) -> float:
    """Return the validation metric after a finished trial's last step, else NaN."""
    if not trial.finished or not trial.epochs:
        return math.nan
    return trial.epochs[-1].values.get(f"validation_{study.metric}", math.nan)


def _curve(study: Study, tried: tuple[SearchPoint, ...]) -> Sensitivity | None:
    """Take only drawn points: the library's defaults may lie outside of every range, and have other options."""
    drawn = [point for point in tried if point.point != DEFAULTS and point.ended]
    points = [(point.rate, point.score) for point in drawn if point.rate is not None]
    if not points:
        return None
    rates, scores = zip(*points, strict=True)
    return sensitivity(rates, scores, maximize=study.maximize, margin=study.protocol.margin)


def _expected(study: Study, tried: tuple[SearchPoint, ...]) -> tuple[tuple[int, float], ...]:
    """Return the expected best score of k points; the defaults take part, so no best falls short of them."""
    defaults = next((point.score for point in tried if point.point == DEFAULTS and point.ended), math.nan)
    better = max if study.maximize else min
    scores = [point.score for point in tried if point.point != DEFAULTS and point.ended]
    if math.isfinite(defaults):
        scores = [better(score, defaults) if math.isfinite(score) else defaults for score in scores]
    best = expected_best(scores, maximize=study.maximize) if scores else []
    return tuple((k, value) for k, value in enumerate([defaults, *best]) if math.isfinite(value))
