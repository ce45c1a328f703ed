"""The final result of every seed against what a step, or the whole trial, costs in time."""

import math
from collections.abc import Sequence

from steepest.study.report.charts.chart import Axis, Chart, Interval, Series
from steepest.study.report.charts.frames import bounds_of, fence, note_of
from steepest.study.report.charts.palette import SeriesStyle, Styles
from steepest.study.report.charts.row_charts import mean_words
from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.measures import Measure, goal
from steepest.study.report.findings.summary import spread
from steepest.study.report.stored.study import Trial
from steepest.study.report.wording import plus_minus


def cost_chart(findings: Findings, styles: Styles) -> Chart:
    """Draw the final result against the time of a step, or of the trial if the study has no timing pass."""
    study, measure = findings.study, goal(findings.study)
    clock = {one.label: 1000 * one.seconds for one in findings.costs}
    what = "step time" if clock else "training time"
    series = [
        part
        for label in styles
        if not clock or label in clock
        for part in _cost_series(label, styles[label], _placed(study.trials_of(label), clock.get(label)), measure)
    ]
    ends = fence([value for label in styles for _, value in spread(study.trials_of(label), measure).values])
    return Chart(
        section="cost",
        key=f"{study.metric if study.metric == 'accuracy' else 'result'}-against-{'step-' if clock else ''}time",
        title=f"{measure.title} against {what}",
        x=Axis("Milliseconds of a step", bounds=(0.0, 1.06 * max(clock.values())))
        if clock
        else Axis("Training seconds"),
        y=Axis(measure.title, bounds=bounds_of(ends)),
        series=tuple(sorted(series, key=lambda one: one.kind == "mean")),  # means on top of every dot
        note=(_STEP_TIME if clock else _TRIAL_TIME) + note_of(ends),
        alt=mean_words(measure, [(label, spread(study.trials_of(label), measure)) for label in styles]),
    )


def _placed(trials: Sequence[Trial], step_milliseconds: float | None) -> list[tuple[Trial, float]]:
    """Return every finished trial with its place on the axis of time."""
    finished = [trial for trial in trials if trial.finished]
    if step_milliseconds is not None:
        return [(trial, step_milliseconds) for trial in finished]
    return [(trial, trial.seconds) for trial in finished if trial.seconds is not None]


def _cost_series(label: str, style: SeriesStyle, placed: list[tuple[Trial, float]], measure: Measure) -> list[Series]:
    found = spread([trial for trial, _ in placed], measure)
    if not found.count:
        return []
    known = dict(found.values)
    shown = [(trial.seed, at) for trial, at in placed if trial.seed in known]
    places = tuple(at for _, at in shown)
    notes = tuple(f"seed {seed}" for seed, _ in shown)
    dots = Series(label, style, "dots", places, tuple(known[seed] for seed, _ in shown), notes=notes)
    if found.mean is None or found.deviation is None:
        return [dots]
    centre = (math.fsum(places) / len(places),)
    band: Interval = ((found.mean - found.deviation,), (found.mean + found.deviation,))
    note = (f"mean of {found.count} seeds: {plus_minus(found, measure)}",)
    return [dots, Series(label, style, "mean", centre, (found.mean,), band=band, notes=note)]


_STEP_TIME = (
    "Small marks are single seeds; the large one is their mean with one standard deviation. Times are the medians of "
    "the timing pass, one trial at a time, and belong to this machine."
)
_TRIAL_TIME = (
    "Small marks are single seeds; the large one is their mean with one standard deviation. Times are those of the "
    "trials themselves, training only, as there was no timing pass; they belong to this machine and to what else ran."
)
