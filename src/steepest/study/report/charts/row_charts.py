"""Charts that show every seed as a dot: verdicts, final results, times to target, cost."""

import math
from collections.abc import Iterable, Sequence

from steepest.study.report.charts.chart import Axis, Chart, Guide, Interval, Kind, Series
from steepest.study.report.charts.frames import EVERYTHING, NOTE, clamped, fence, within
from steepest.study.report.charts.palette import SeriesStyle, Styles
from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.measures import Measure, goal
from steepest.study.report.findings.summary import Spread, Summary, spread
from steepest.study.report.findings.time_to_target import Target, TimeToTarget
from steepest.study.report.findings.verdicts import VerdictRow, Verdicts
from steepest.study.report.names import folded
from steepest.study.report.stored.study import Study, Trial
from steepest.study.report.wording import between, percent, plus_minus, signed
from steepest.study.statistics.intervals import median_interval
from steepest.study.statistics.targets import median_with_censoring

Seeds = list[tuple[int, float]]
ROOM = 0.08
BEYOND = 0.5 * ROOM  # where a value without a place on the axis is drawn: inside the frame, outside the others


def verdict_chart(found: Findings, styles: Styles) -> Chart:
    """The difference from the reference: its interval, and every paired seed."""
    judged = found.verdicts
    rows = sorted(judged.rows, key=lambda row: -_estimate(row))
    low, high = _difference_frame(judged)
    places = {row.label: float(len(rows) - 1 - place) for place, row in enumerate(rows)}
    series = [one for row in rows for one in _verdict_series(row, styles[row.label], places[row.label], (low, high))]
    return Chart(
        section="verdicts",
        key="verdicts",
        title=f"{judged.measure.title}: difference from {judged.reference or 'the reference'}",
        x=Axis(f"Difference from {judged.reference}, positive is better", bounds=(low, high)),
        y=Axis("", ticks=tuple((places[row.label], _verdict_name(row)) for row in reversed(rows))),
        series=tuple(series),
        note=_verdict_note(judged),
        alt=_verdict_words(judged),
        guides=_verdict_guides(judged.margin),
    )


def seed_chart(found: Findings, styles: Styles) -> Chart:
    """The final result of every seed, with the median of each optimizer."""
    study, measure = found.study, goal(found.study)
    medians = {label: _median(study.trials_of(label), measure) for label in styles}
    order = sorted(styles, key=lambda label: _worst_last(medians[label], measure))
    places = {label: float(len(order) - 1 - place) for place, label in enumerate(order)}
    values = [value for label in styles for _, value in spread(study.trials_of(label), measure).values]
    ends = fence(values)
    frame = _frame(within(values, ends))
    series = [
        one
        for label in order
        for one in _seed_series(label, styles[label], study.trials_of(label), measure, places[label], frame)
    ]
    names = {summary.label: _row_name(summary) for summary in found.summaries}
    lost = any(one.kind == "stop" for one in series)
    return Chart(
        section="seeds",
        key="every-seed",
        title=f"{measure.title} of every seed",
        x=Axis(measure.title, bounds=frame if lost else None),
        y=Axis("", ticks=tuple((places[label], names[label]) for label in reversed(order))),
        series=tuple(series),
        note=_SEEDS + (_LOST if lost else "") + ("" if ends == EVERYTHING else _BEYOND),
        alt=_mean_words(measure, [(label, spread(study.trials_of(label), measure)) for label in order]),
    )


def target_charts(found: Findings, styles: Styles) -> tuple[Chart, ...]:
    """For every target, the steps that every seed took to it."""
    horizon = max([1, *(epoch.step for trial in found.study.trials for epoch in trial.epochs)])
    return tuple(
        _target_chart(found.study, target, number, styles, horizon) for number, target in enumerate(found.targets, 1)
    )


def cost_chart(found: Findings, styles: Styles) -> Chart:
    """The final result against the seconds of a step, or, without a timing pass, against the seconds of the trial."""
    study, measure = found.study, goal(found.study)
    clock = {one.label: 1000 * one.seconds for one in found.costs}
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
        y=Axis(measure.title, bounds=None if ends == EVERYTHING else ends),
        series=tuple(sorted(series, key=lambda one: one.kind == "mean")),  # means on top of every dot
        note=(_STEP_TIME if clock else _TRIAL_TIME) + ("" if ends == EVERYTHING else NOTE),
        alt=_mean_words(measure, [(label, spread(study.trials_of(label), measure)) for label in styles]),
    )


def _estimate(row: VerdictRow) -> float:
    return -math.inf if row.comparison is None or math.isnan(row.comparison.estimate) else row.comparison.estimate


def _verdict_name(row: VerdictRow) -> str:
    verdict = "no pair" if row.comparison is None else row.comparison.verdict.value
    return folded(f"{row.label}: {verdict}")


def _difference_frame(judged: Verdicts) -> tuple[float, float]:
    """A frame around the differences and interval ends that are not far from all others, around 0 and the margin."""
    drawn = [difference for row in judged.rows for _, difference in row.differences]
    ends = fence(drawn)
    drawn += [end for one in judged.comparisons for end in (one.interval.low, one.interval.high)]
    return _frame([*within(drawn, ends), 0.0, judged.margin, -judged.margin])


def _frame(values: Iterable[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    room = ROOM * (max(finite) - min(finite)) or 0.1 * abs(finite[0]) or 0.1
    return min(finite) - room, max(finite) + room


def _split(found: Iterable[tuple[int, float]], frame: tuple[float, float]) -> tuple[Seeds, Seeds]:
    """The (seed, value) pairs inside a frame, and those whose value is finite and beyond it."""
    finite = [(seed, value) for seed, value in found if math.isfinite(value)]
    return (
        [pair for pair in finite if frame[0] <= pair[1] <= frame[1]],
        [pair for pair in finite if not frame[0] <= pair[1] <= frame[1]],
    )


def _edge(frame: tuple[float, float], *, low: bool) -> float:
    """A place just inside the frame's end, for a value that has none."""
    inside = BEYOND / (1 + 2 * ROOM) * (frame[1] - frame[0])
    return frame[0] + inside if low else frame[1] - inside


def _verdict_series(row: VerdictRow, style: SeriesStyle, place: float, frame: tuple[float, float]) -> list[Series]:
    one = row.comparison
    if one is None:
        return []
    inside, beyond = _split(row.differences, frame)
    lost = [(seed, value) for seed, value in row.differences if math.isinf(value)]
    found = [_estimated(row.label, style, place, row, frame)] if math.isfinite(one.estimate) else []
    dots = [_dots(row.label, style, "dots", inside, place, [f"seed {seed}" for seed, _ in inside])] if inside else []
    at_edge = [(seed, _edge(frame, low=value < 0)) for seed, value in (*lost, *beyond)]
    notes = [f"seed {seed}: {row.label if value < 0 else one.reference} has no finite result" for seed, value in lost]
    notes += [f"seed {seed}: {signed(value)}, beyond the frame" for seed, value in beyond]
    return [*found, *dots, *([_dots(row.label, style, "stop", at_edge, place, notes)] if at_edge else [])]


def _estimated(label: str, style: SeriesStyle, place: float, row: VerdictRow, frame: tuple[float, float]) -> Series:
    one = row.comparison
    assert one is not None  # only rows with a comparison are drawn
    ends = (max(one.interval.low, frame[0]),), (min(one.interval.high, frame[1]),)
    unbounded = math.isinf(one.interval.low) and math.isinf(one.interval.high)
    note = f"{one.verdict.value}: {signed(one.estimate)}, interval {between(one.interval.low, one.interval.high)}"
    at = clamped(one.estimate, (_edge(frame, low=True), _edge(frame, low=False)))
    return Series(label, style, "interval", (at,), (place,), reach=None if unbounded else ends, notes=(note,))


def _dots(
    label: str, style: SeriesStyle, kind: Kind, found: Sequence[tuple[int, float]], place: float, notes: Sequence[str]
) -> Series:
    values = tuple(value for _, value in found)
    return Series(label, style, kind, values, (place,) * len(values), notes=tuple(notes))


def _verdict_guides(margin: float) -> tuple[Guide, ...]:
    return (*((Guide(-margin, margin),) if margin else ()), Guide(0.0, 0.0))


def _verdict_note(judged: Verdicts) -> str:
    margin = f" The stripe is the margin of ±{judged.margin:g} within which a difference has no practical meaning." * (
        judged.margin > 0
    )
    far = fence([difference for row in judged.rows for _, difference in row.differences]) != EVERYTHING
    lost = (_ONE_LOST if any(row.infinite for row in judged.rows) else "") + (_FAR if far else "")
    return (
        f"Every small mark is one seed: the optimizer's result minus {judged.reference}'s on the same seed, turned so "
        f"that positive is better. The large mark is their mean (the median where one diverged), the bar its "
        f"{percent(judged.level)} interval, drawn from as many seeds on as can give one. All intervals hold together "
        f"with {percent(1 - judged.alpha)}.{margin}{lost}"
    )


def _verdict_words(judged: Verdicts) -> str:
    parts = [f"{one.label} {one.verdict.value}, {signed(one.estimate)}" for one in judged.comparisons]
    about = f"difference in {judged.measure.title.lower()} from {judged.reference}"
    return f"Dot chart: {about}. {'; '.join(parts)}." if parts else f"{about}: nothing to compare yet."


def _median(trials: Sequence[Trial], measure: Measure) -> float | None:
    """The median over the trials with a result, finite or the worst; None without any."""
    values = _oriented(trials, measure)
    return measure.better * -median_with_censoring(values) if values else None


def _oriented(trials: Sequence[Trial], measure: Measure) -> list[float]:
    """Results turned so that smaller is better; infinite for the worst one."""
    finished = [-measure.better * value for _, value in spread(trials, measure).values]
    return finished + [math.inf for trial in trials if measure.lost(trial)]


def _worst_last(median: float | None, measure: Measure) -> float:
    return math.inf if median is None or math.isinf(median) else -measure.better * median


def _seed_series(
    label: str, style: SeriesStyle, trials: Sequence[Trial], measure: Measure, place: float, frame: tuple[float, float]
) -> list[Series]:
    marks = _seed_marks(label, style, trials, measure, place, frame)
    count, median = sum(trial.counts for trial in trials), _median(trials, measure)
    if count < 2 or median is None or math.isinf(median):
        return marks
    note = f"median of {count} seeds: {measure.text(median)}"
    reach = _median_reach(trials, measure, frame)
    return [Series(label, style, "tick", (clamped(median, frame),), (place,), reach=reach, notes=(note,)), *marks]


def _seed_marks(
    label: str, style: SeriesStyle, trials: Sequence[Trial], measure: Measure, place: float, frame: tuple[float, float]
) -> list[Series]:
    """A dot for every seed, and a cross at the frame's end for one without a finite result or far beyond the others."""
    inside, beyond = _split(spread(trials, measure).values, frame)
    whys = {trial.seed: why for trial in trials if (why := measure.lost(trial))}
    worst = _edge(frame, low=measure.better > 0)
    at_edge = [(seed, worst) for seed in whys]
    at_edge += [(seed, _edge(frame, low=value < frame[0])) for seed, value in beyond]
    notes = [f"seed {seed} {why}" for seed, why in whys.items()]
    notes += [f"seed {seed}: {measure.text(value)}, beyond the frame" for seed, value in beyond]
    dots = [_dots(label, style, "dots", inside, place, [f"seed {seed}" for seed, _ in inside])] if inside else []
    return dots + ([_dots(label, style, "stop", at_edge, place, notes)] if at_edge else [])


def _median_reach(trials: Sequence[Trial], measure: Measure, frame: tuple[float, float]) -> Interval | None:
    """The median's interval by order statistics; None where it is unbounded."""
    interval = median_interval(_oriented(trials, measure))
    if not interval.is_finite:
        return None
    low, high = sorted((-measure.better * interval.low, -measure.better * interval.high))
    return (clamped(low, frame),), (clamped(high, frame),)


def _target_chart(study: Study, target: Target, number: int, styles: Styles, horizon: int) -> Chart:
    rows = sorted(target.rows, key=lambda row: _time_or_never(row.median("steps")))
    places = {row.label: float(len(rows) - 1 - place) for place, row in enumerate(rows)}
    end = horizon * (1 + ROOM)
    series = [one for row in rows for one in _target_series(row, styles[row.label], places[row.label], horizon)]
    metric = f"validation {study.metric.replace('_', ' ')}"
    return Chart(
        section="targets",
        key=f"steps-to-target-{number}",
        title=f"Steps to {metric} {target.value:g}",
        x=Axis("Optimizer step", bounds=(-0.02 * horizon, end)),
        y=Axis("", ticks=tuple((places[row.label], folded(f"{row.label}: {_hits(row)}")) for row in reversed(rows))),
        series=tuple(series),
        note="",
        alt=f"Dot chart: steps to {metric} {target.value:g}. "
        + "; ".join(f"{row.label} reached it on {_hits(row)} seeds" for row in target.rows),
        guides=(Guide(horizon * (1 + ROOM / 8), end),),
    )


def _hits(row: TimeToTarget) -> str:
    return f"{row.hits} of {row.known}"


def _time_or_never(median: float | None) -> float:
    return math.inf if median is None else median


def _target_series(row: TimeToTarget, style: SeriesStyle, place: float, horizon: int) -> list[Series]:
    hits = [(seed, time) for seed, time in row.times["steps"] if math.isfinite(time)]
    lost = [(seed, horizon * (1 + BEYOND)) for seed, time in row.times["steps"] if math.isinf(time)]
    marks = []
    if hits:
        marks.append(_dots(row.label, style, "dots", hits, place, [f"seed {seed}" for seed, _ in hits]))
    if lost:
        marks.append(_dots(row.label, style, "stop", lost, place, [f"seed {seed}: never" for seed, _ in lost]))
    median = _time_or_never(row.median("steps"))
    if row.known < 2 or math.isinf(median):
        return marks
    return [Series(row.label, style, "tick", (median,), (place,), notes=(f"median {median:,.0f}",)), *marks]


def _placed(trials: Sequence[Trial], step_milliseconds: float | None) -> list[tuple[Trial, float]]:
    """Every finished trial with its place on the axis of time."""
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


def _row_name(summary: Summary) -> str:
    count = "" if summary.finished == summary.planned else f" ({summary.finished} of {summary.planned})"
    return folded(summary.label + count)


def _mean_words(measure: Measure, found: Sequence[tuple[str, Spread]]) -> str:
    parts = [f"{label} {plus_minus(its, measure)}" for label, its in found if its.count]
    return f"Dot chart: {measure.title}. {'; '.join(parts)}." if parts else f"{measure.title}: nothing recorded yet."


_SEEDS = (
    "Every mark is one seed. The upright stroke is the median (from two seeds on), the shaded bar its 95% interval "
    "over seeds (from six on, each for itself). A count follows the name where trials have no result or diverged."
)
_BEYOND = " So is one whose value is far beyond all others; the table has it."
_FAR = " Differences far beyond all others are drawn as a × at the edge."
_ONE_LOST = " A × at the edge is a seed on which one of the two has no finite result."
_LOST = " A × at the edge is a seed without a finite result; it counts as the worst."
_STEP_TIME = (
    "Small marks are single seeds; the large one is their mean with one standard deviation. Times are the medians of "
    "the timing pass, one trial at a time, and belong to this machine."
)
_TRIAL_TIME = (
    "Small marks are single seeds; the large one is their mean with one standard deviation. Times are those of the "
    "trials themselves, training only, as there was no timing pass; they belong to this machine and to what else ran."
)
