"""Charts of the search: how the result depends on the learning rate, and what a smaller search would have found."""

import math
from collections.abc import Sequence

from steepest.study.records.format import DEFAULTS
from steepest.study.report.charts.chart import Axis, Chart, Kind, Series
from steepest.study.report.charts.frames import bounds_of, fence, note_of, within
from steepest.study.report.charts.palette import SeriesStyle, Styles
from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.tuning import RATE, Search, SearchPoint, last_score
from steepest.study.report.stored.study import Study

SINGLE = {RATE}


def sensitivity_chart(findings: Findings, styles: Styles) -> Chart:
    """Draw the validation score of every search trial over its learning rate."""
    study = findings.study
    shown = [search for search in findings.searches if RATE in search.setting.space]
    ends = fence([score for search in shown for _, score in _points(study, search.tried)])
    floor = _floor(study, shown, ends)
    series = [part for search in shown for part in _sensitivity_series(study, search, styles[search.label], floor)]
    metric = _score_title(study)
    return Chart(
        section="tuning",
        key="learning-rate-sensitivity",
        title=f"{metric} over the learning rate",
        x=Axis("Learning rate (log scale)", log=True),
        y=Axis(metric, bounds=bounds_of(ends)),
        series=tuple(series),
        note=_sensitivity_note(series, shown) + note_of(ends),
        alt=_sensitivity_words(metric, shown),
        placeholder=False,
    )


def budget_chart(findings: Findings, styles: Styles) -> Chart:
    """Draw the expected best validation score after k points of the search."""
    study = findings.study
    series = [part for search in findings.searches for part in _budget_series(search, styles[search.label])]
    metric = _score_title(study)
    curves = [
        (search.label, search.expected[0][1], search.expected[-1][1]) for search in findings.searches if search.expected
    ]
    words = [f"{label} {first:.3g} to {last:.3g}" for label, first, last in curves]
    ends = fence([score for search in findings.searches for _, score in search.expected])
    return Chart(
        section="tuning",
        key="expected-best",
        title=f"Expected best {metric.lower()} after k points",
        x=Axis("Points tried, beside the library's defaults", integer=True),
        y=Axis(metric, bounds=bounds_of(ends)),
        series=tuple(series),
        note=_BUDGET + ("" if _independent(study) else _ESTIMATE) + note_of(ends),
        alt=f"Line chart: expected best {metric.lower()} from no point to all. {'; '.join(words)}.",
        placeholder=False,
    )


def _independent(study: Study) -> bool:
    """Return whether the points are independent draws from one space."""
    return study.protocol.sampler == "random" and not study.protocol.extensions


def _score_title(study: Study) -> str:
    return f"Validation {study.metric.replace('_', ' ')}"


def _floor(study: Study, shown: Sequence[Search], ends: tuple[float, float]) -> float:
    """Return where a point without a score is drawn: below (or above) all others."""
    scores = within([score for search in shown for _, score in _points(study, search.tried)], ends)
    if not scores:
        return 0.0
    room = 0.06 * (max(scores) - min(scores)) or 0.05
    return min(scores) - room if study.maximize else max(scores) + room


def _points(study: Study, tried: Sequence[SearchPoint]) -> list[tuple[float, float]]:
    """Return (rate, score) of every search trial that finished."""
    pairs = [
        (point.rate, last_score(study, trial)) for point in tried if point.rate is not None for trial in point.trials
    ]
    return [(rate, score) for rate, score in pairs if math.isfinite(score)]


def _sensitivity_series(study: Study, search: Search, style: SeriesStyle, floor: float) -> list[Series]:
    series = [] if search.curve is None or set(search.setting.space) != SINGLE else [_curve(search, style)]
    dots = [point for point in search.tried if point.point != DEFAULTS]
    series.append(_marks(study, search, style, dots))
    series.append(_single(search, style, "defaults", search.defaults, "the library's defaults"))
    series.append(_single(search, style, "chosen", search.best, "chosen"))
    lost = [point for point in search.tried if point.ended and math.isnan(point.score) and point.rate is not None]
    notes = tuple(f"point {point.point}: {point.status}" for point in lost)
    rates_lost = tuple(point.rate or 0.0 for point in lost)
    series.append(Series(search.label, style, "stop", rates_lost, (floor,) * len(lost), notes=notes))
    return [part for part in series if part.x]


def _curve(search: Search, style: SeriesStyle) -> Series:
    assert search.curve is not None  # asked for only where there is one
    points = [(rate, score) for rate, score in search.curve.points if math.isfinite(score)]
    notes = ("mean over the tuning seeds",) * len(points)
    x, y = tuple(rate for rate, _ in points), tuple(score for _, score in points)
    return Series(search.label, style, "line", x, y, notes=notes)


def _single(search: Search, style: SeriesStyle, kind: Kind, tried: SearchPoint | None, note: str) -> Series:
    """Return the mean score of one point, nothing where it has none."""
    points = [] if tried is None or tried.rate is None else [(tried.rate, tried.score)]
    points = [(rate, score) for rate, score in points if math.isfinite(score)]
    x, y = tuple(rate for rate, _ in points), tuple(score for _, score in points)
    return Series(search.label, style, kind, x, y, notes=(note,) * len(points))


def _marks(study: Study, search: Search, style: SeriesStyle, tried: Sequence[SearchPoint]) -> Series:
    pairs = [
        (point.rate, score, f"point {point.point}, seed {trial.seed}")
        for point in tried
        if point.rate is not None
        for trial in point.trials
        if math.isfinite(score := last_score(study, trial))
    ]
    x, y, notes = (tuple(column) for column in zip(*pairs, strict=True)) if pairs else ((), (), ())
    return Series(search.label, style, "dots", x, y, notes=notes)


def _budget_series(search: Search, style: SeriesStyle) -> list[Series]:
    if not search.expected:
        return []
    x, y = tuple(float(k) for k, _ in search.expected), tuple(score for _, score in search.expected)
    notes = tuple(f"after {k} points" if k else "the library's defaults" for k, _ in search.expected)
    line = Series(search.label, style, "line", x, y, notes=notes)
    usual = [Series(search.label, style, "defaults", x[:1], y[:1], notes=notes[:1])] if x[0] == 0 else []
    return [line, *usual]


def _sensitivity_note(series: Sequence[Series], shown: Sequence[Search]) -> str:
    several = any(set(search.setting.space) != SINGLE for search in shown)
    lost = any(part.kind == "stop" for part in series)
    return (
        "Every small mark is one search trial after its last step; a ring is what was chosen, an open mark the "
        "library's defaults."
        + (" The line joins the means over the tuning seeds." if any(part.kind == "line" for part in series) else "")
        + (" Where more than the rate was searched there is no line: the other hyperparameters differ too." * several)
        + (" A × at the edge is a point that diverged or failed." * lost)
    )


def _sensitivity_words(metric: str, shown: Sequence[Search]) -> str:
    parts = [f"{search.label} best at {search.curve.best:g}" for search in shown if search.curve is not None]
    return f"{metric} over the learning rate. {'; '.join(parts) or 'nothing recorded yet'}."


_BUDGET = (
    "The mean of the best score among k of the points that were tried, drawn without replacement; the library's "
    "defaults always take part, as in the search itself, and are k = 0. It is the score that the choice was made on, "
    "so it flatters: the evaluation's figures are the honest ones. A point that diverged counts as no gain."
)
_ESTIMATE = " The points are evenly spread and not independent draws, so this is an estimate."
