"""Charts with a row for every optimizer: verdicts, final results, times to target."""

import math
from collections.abc import Sequence

from steepest.study.report.charts.chart import Axis, Chart, Guide, Interval
from steepest.study.report.charts.frames import EVERYTHING, clamped, fence, within
from steepest.study.report.charts.palette import Styles
from steepest.study.report.charts.rows import BEYOND, ROOM, Estimate, Frame, Row, rows, seed_marks, thinning
from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.measures import Measure, goal
from steepest.study.report.findings.summary import Spread, Summary, spread
from steepest.study.report.findings.time_to_target import Target, TimeToTarget
from steepest.study.report.findings.verdicts import VerdictRow, Verdicts
from steepest.study.report.stored.study import Study, Trial
from steepest.study.report.wording import between, percent, plus_minus, signed, subject
from steepest.study.statistics.intervals import median_interval
from steepest.study.statistics.targets import median_with_censoring


def verdict_chart(findings: Findings, styles: Styles) -> Chart:
    """Draw the difference from the reference: its interval, and every paired seed."""
    verdicts = findings.verdicts
    frame = _difference_frame(verdicts)
    ordered = sorted(verdicts.rows, key=lambda row: -_estimate(row))
    drawn = [_verdict_row(row, verdicts.reference, frame) for row in ordered]
    axis, series = rows(drawn, styles)
    return Chart(
        section="verdicts",
        key="verdicts",
        title=f"{subject(verdicts)}: difference from {verdicts.reference or 'the reference'}",
        x=Axis(f"Difference from {verdicts.reference}, positive is better", bounds=frame),
        y=axis,
        series=series,
        note=_verdict_note(verdicts) + thinning(drawn),
        alt=_verdict_words(verdicts),
        guides=_verdict_guides(verdicts.margin),
    )


def seed_chart(findings: Findings, styles: Styles) -> Chart:
    """Draw the final result of every seed, with the median of each optimizer."""
    study, measure = findings.study, goal(findings.study)
    ordered = sorted(findings.summaries, key=lambda summary: _worst_last(study.trials_of(summary.label), measure))
    spreads = [(summary.label, spread(study.trials_of(summary.label), measure)) for summary in ordered]
    values = [value for _, its in spreads for _, value in its.values]
    ends = fence(values)
    frame = Frame.around(within(values, ends))
    seeds = [_seed_row(summary, study.trials_of(summary.label), measure, frame) for summary in ordered]
    lost = any(row.stops for row in seeds)
    axis, series = rows(seeds, styles)
    return Chart(
        section="seeds",
        key="every-seed",
        title=f"{measure.title} of every seed",
        x=Axis(measure.title, bounds=frame if lost else None),
        y=axis,
        series=series,
        note=_SEEDS + (_LOST if lost else "") + ("" if ends == EVERYTHING else _BEYOND) + thinning(seeds),
        alt=mean_words(measure, spreads),
    )


def target_charts(findings: Findings, styles: Styles) -> tuple[Chart, ...]:
    """Draw for every target the steps that every seed took to it."""
    horizon = max([1, *(epoch.step for trial in findings.study.trials for epoch in trial.epochs)])
    return tuple(
        _target_chart(findings.study, target, number, styles, horizon)
        for number, target in enumerate(findings.targets, 1)
    )


def mean_words(measure: Measure, spreads: Sequence[tuple[str, Spread]]) -> str:
    """Return the chart's words: the mean of every optimizer."""
    parts = [f"{label} {plus_minus(its, measure)}" for label, its in spreads if its.count]
    return f"Dot chart: {measure.title}. {'; '.join(parts)}." if parts else f"{measure.title}: nothing recorded yet."


def _estimate(row: VerdictRow) -> float:
    return -math.inf if row.comparison is None or math.isnan(row.comparison.estimate) else row.comparison.estimate


def _difference_frame(verdicts: Verdicts) -> Frame:
    """Return a frame around 0, the margin, interval ends, and differences that are not far from all others."""
    drawn = [difference for row in verdicts.rows for _, difference in row.differences]
    ends = fence(drawn)
    drawn += [end for comparison in verdicts.comparisons for end in (comparison.interval.low, comparison.interval.high)]
    return Frame.around([*within(drawn, ends), 0.0, verdicts.margin, -verdicts.margin])


def _verdict_row(row: VerdictRow, reference: str | None, frame: Frame) -> Row:
    dots, beyond = frame.placed(row.differences, signed)
    lost = [
        (frame.edge_for(value), f"seed {seed}: {row.label if value < 0 else reference} has no finite result")
        for seed, value in row.differences
        if math.isinf(value)
    ]
    verdict = "no pair" if row.comparison is None else row.comparison.verdict.value
    return Row(row.label, f"{row.label}: {verdict}", dots, stops=[*lost, *beyond], estimate=_difference(row, frame))


def _difference(row: VerdictRow, frame: Frame) -> Estimate | None:
    """Return the comparison's estimate with its interval, cut at the frame; None where it is not finite."""
    comparison = row.comparison
    if comparison is None or not math.isfinite(comparison.estimate):
        return None
    low, high = comparison.interval.low, comparison.interval.high
    reach = None if math.isinf(low) and math.isinf(high) else ((max(low, frame.low),), (min(high, frame.high),))
    note = f"{comparison.verdict.value}: {signed(comparison.estimate)}, interval {between(low, high)}"
    at = clamped(comparison.estimate, (frame.edge(low=True), frame.edge(low=False)))
    return Estimate("interval", at, note, reach=reach)


def _verdict_guides(margin: float) -> tuple[Guide, ...]:
    return (*((Guide(-margin, margin),) if margin else ()), Guide(0.0, 0.0))


def _verdict_note(verdicts: Verdicts) -> str:
    margin = (
        f" The stripe is the margin of ±{verdicts.margin:g} within which a difference has no practical meaning."
        * (verdicts.margin > 0)
    )
    far = fence([difference for row in verdicts.rows for _, difference in row.differences]) != EVERYTHING
    lost = (_ONE_LOST if any(row.infinite for row in verdicts.rows) else "") + (_FAR if far else "")
    return (
        f"Every small mark is one seed: the optimizer's result minus {verdicts.reference}'s on the same seed, turned "
        f"so that positive is better. The large mark is their mean (the median where one diverged), the bar its "
        f"{percent(verdicts.level)} interval, drawn from as many seeds on as can give one. All intervals hold together "
        f"with {percent(1 - verdicts.alpha)}.{margin}{lost}"
    )


def _verdict_words(verdicts: Verdicts) -> str:
    parts = [
        f"{comparison.label} {comparison.verdict.value}, {signed(comparison.estimate)}"
        for comparison in verdicts.comparisons
    ]
    about = f"difference in {subject(verdicts).lower()} from {verdicts.reference}"
    return f"Dot chart: {about}. {'; '.join(parts)}." if parts else f"{about}: nothing to compare yet."


def _median(trials: Sequence[Trial], measure: Measure) -> float | None:
    """Return the median over the trials with a result, finite or the worst; None without any."""
    values = _oriented(trials, measure)
    return measure.better * -median_with_censoring(values) if values else None


def _oriented(trials: Sequence[Trial], measure: Measure) -> list[float]:
    """Return results turned so that smaller is better; infinite for the worst one."""
    finished = [-measure.better * value for _, value in spread(trials, measure).values]
    return finished + [math.inf for trial in trials if measure.lost(trial)]


def _worst_last(trials: Sequence[Trial], measure: Measure) -> float:
    median = _median(trials, measure)
    return math.inf if median is None or math.isinf(median) else -measure.better * median


def _seed_row(summary: Summary, trials: Sequence[Trial], measure: Measure, frame: Frame) -> Row:
    """Return a dot for every seed, and a cross at the edge for one without a finite result or far beyond the others."""
    dots, beyond = frame.placed(spread(trials, measure).values, measure.text)
    worst = frame.edge(low=measure.better > 0)
    lost = [(worst, f"seed {trial.seed} {why}") for trial in trials if (why := measure.lost(trial))]
    count = "" if summary.finished == summary.planned else f" ({summary.finished} of {summary.planned})"
    estimate = _median_mark(trials, measure, frame)
    return Row(summary.label, summary.label + count, dots, stops=[*lost, *beyond], estimate=estimate)


def _median_mark(trials: Sequence[Trial], measure: Measure, frame: Frame) -> Estimate | None:
    """Return the median over two seeds or more; None where it is not finite."""
    count, median = sum(trial.counts for trial in trials), _median(trials, measure)
    if count < 2 or median is None or math.isinf(median):
        return None
    note = f"median of {count} seeds: {measure.text(median)}"
    return Estimate("tick", clamped(median, frame), note, reach=_median_reach(trials, measure, frame))


def _median_reach(trials: Sequence[Trial], measure: Measure, frame: Frame) -> Interval | None:
    """Return the median's interval by order statistics; None where it is unbounded."""
    interval = median_interval(_oriented(trials, measure))
    if not interval.is_finite:
        return None
    low, high = sorted((-measure.better * interval.low, -measure.better * interval.high))
    return (clamped(low, frame),), (clamped(high, frame),)


def _target_chart(study: Study, target: Target, number: int, styles: Styles, horizon: int) -> Chart:
    ordered = sorted(target.rows, key=lambda row: _time_or_never(row.median("steps")))
    drawn = [_target_row(row, horizon) for row in ordered]
    axis, series = rows(drawn, styles)
    end = horizon * (1 + ROOM)
    metric = f"validation {study.metric.replace('_', ' ')}"
    return Chart(
        section="targets",
        key=f"steps-to-target-{number}",
        title=f"Steps to {metric} {target.value:g}",
        x=Axis("Optimizer step", bounds=(-0.02 * horizon, end)),
        y=axis,
        series=series,
        note=thinning(drawn).strip(),
        alt=f"Dot chart: steps to {metric} {target.value:g}. "
        + "; ".join(f"{row.label} reached it on {_hits(row)} seeds" for row in target.rows),
        guides=(Guide(horizon * (1 + ROOM / 8), end),),
    )


def _hits(row: TimeToTarget) -> str:
    return f"{row.hits} of {row.known}"


def _time_or_never(median: float | None) -> float:
    return math.inf if median is None else median


def _target_row(row: TimeToTarget, horizon: int) -> Row:
    times, median = row.times["steps"], _time_or_never(row.median("steps"))
    reached = row.known >= 2 and math.isfinite(median)
    return Row(
        label=row.label,
        name=f"{row.label}: {_hits(row)}",
        dots=seed_marks([(seed, time) for seed, time in times if math.isfinite(time)]),
        stops=[(horizon * (1 + BEYOND), f"seed {seed}: never") for seed, time in times if math.isinf(time)],
        estimate=Estimate("tick", median, f"median {median:,.0f}") if reached else None,
    )


_SEEDS = (
    "Every mark is one seed. The upright stroke is the median (from two seeds on), the shaded bar its 95% interval "
    "over seeds (from six on, each for itself). A count follows the name where trials have no result or diverged."
)
_BEYOND = " So is one whose value is far beyond all others; the table has it."
_FAR = " Differences far beyond all others are drawn as a × at the edge."
_ONE_LOST = " A × at the edge is a seed on which one of the two has no finite result."
_LOST = " A × at the edge is a seed without a finite result; it counts as the worst."
