"""A study -> the figure-data of every chart. Pure data; nothing is drawn here."""

import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from steepest.study.report.answer import plus_minus
from steepest.study.report.chart import Axis, Chart, Figures, Interval, Series
from steepest.study.report.curves import POSITION, Curve, XAxis, epoch_curve, step_curve
from steepest.study.report.measures import Measure, curve_measures, goal, number
from steepest.study.report.palette import Look, look
from steepest.study.report.reader import DIVERGED, Array, Study, Trial
from steepest.study.report.sampling import SMOOTH_POINTS
from steepest.study.report.summary import Spread, Summary, ranked, spread

X_TITLES: dict[XAxis, str] = {"epochs": "Epoch", "steps": "Optimizer step", "seconds": "Training seconds"}
LOG_FROM = 8.0
TICK_LENGTH = 26


def build_figures(study: Study, summaries: Sequence[Summary]) -> Figures:
    """Every chart of the report."""
    looks = {label: look(index) for index, label in enumerate(study.labels)}
    return Figures(
        seeds=_seed_chart(study, summaries, looks),
        learning={axis: _learning(study, looks, axis) for axis in POSITION},
        steps=_step_chart(study, looks),
        speed=_speed_chart(study, looks),
    )


def _learning(study: Study, looks: dict[str, Look], axis: XAxis) -> tuple[Chart, ...]:
    return tuple(_learning_chart(study, looks, measure, axis) for measure in curve_measures(study))


def _learning_chart(study: Study, looks: dict[str, Look], measure: Measure, axis: XAxis) -> Chart:
    curves = {label: epoch_curve(study.trials_of(label), measure.key, axis) for label in looks}
    trained = _trained(curves.values())
    log = measure.better < 0 and _wide(trained)
    series = tuple(_line(label, looks[label], curve, log) for label, curve in curves.items())
    framed = any(len(part) < len(curve) for part, curve in zip(trained, curves.values(), strict=True))
    return Chart(
        key=f"{measure.key.replace('_', '-')}-over-{axis}",
        title=measure.title,
        x=Axis(X_TITLES[axis], integer=axis == "epochs", bounds=_x_frame(trained) if framed else None),
        y=Axis(_scaled(measure.title, log), log=log, bounds=_y_frame(trained, log) if framed else None),
        series=series,
        note=_UNTRAINED if framed else "",
        alt=_curve_words(f"{measure.title} over {axis}", series),
    )


def _step_chart(study: Study, looks: dict[str, Look]) -> Chart:
    curves = {label: step_curve(study.trials_of(label)) for label in looks}
    log = _wide(curves.values())
    lines = tuple(_line(label, looks[label], curve, log) for label, curve in curves.items())
    stops = [stop for label in looks if (stop := _stop(label, looks[label], study.trials_of(label))).x]
    longest = max((len(trial.steps) for trial in study.trials), default=0)
    last = [loss for stop in stops for loss in stop.y]
    return Chart(
        key="training-loss-per-step",
        title="Training loss of every step",
        x=Axis(X_TITLES["steps"]),
        y=Axis(_scaled("Training loss", log), log=log, bounds=_y_frame(curves.values(), log, last) if log else None),
        series=(*lines, *stops),
        note=_smoothing(longest) + (_STOPS if stops else ""),
        alt=_curve_words("Training loss over steps", lines),
    )


def _seed_chart(study: Study, summaries: Sequence[Summary], looks: dict[str, Look]) -> Chart:
    measure = goal(study)
    order = [summary.label for summary in ranked(summaries, measure)]
    order += [label for label in looks if label not in order]
    rows = {label: float(len(order) - 1 - rank) for rank, label in enumerate(order)}
    series = [
        part
        for label in order
        for part in _seed_series(label, looks[label], spread(study.trials_of(label), measure), measure, rows[label])
    ]
    names = {summary.label: _row_name(summary) for summary in summaries}
    return Chart(
        key="every-seed",
        title=f"{measure.title} of every seed",
        x=Axis(measure.title),
        y=Axis("", ticks=tuple((rows[label], names[label]) for label in reversed(order))),
        series=tuple(series),
        note=_SEEDS,
        alt=_mean_words(measure, [(label, spread(study.trials_of(label), measure)) for label in order]),
    )


def _speed_chart(study: Study, looks: dict[str, Look]) -> Chart:
    measure = goal(study)
    series = [part for label in looks for part in _speed_series(label, looks[label], study.trials_of(label), measure)]
    return Chart(
        key="accuracy-against-time" if study.metric == "accuracy" else "result-against-time",
        title=f"{measure.title} against training time",
        x=Axis("Training seconds"),
        y=Axis(measure.title),
        series=tuple(sorted(series, key=lambda one: one.kind == "mean")),  # means on top of every dot
        note=_SPEED,
        alt=_mean_words(measure, [(label, spread(study.trials_of(label), measure)) for label in looks]),
    )


def _line(label: str, its_look: Look, curve: Curve, log: bool) -> Series:
    low = (
        np.maximum(curve.low, curve.mean / 10) if log else curve.low
    )  # a log axis cannot show a band that reaches zero
    several = bool((curve.counts > 1).any())
    points = zip(curve.counts, curve.mean, curve.high, strict=True)
    return Series(
        label=label,
        look=its_look,
        kind="line",
        x=_values(curve.x),
        y=_values(curve.mean),
        band=(_values(low), _values(curve.high)) if several else None,
        notes=tuple(_covered(int(count), high - mean) for count, mean, high in points),
    )


def _stop(label: str, its_look: Look, trials: Iterable[Trial]) -> Series:
    ended = [trial for trial in trials if trial.status == DIVERGED]
    shown = [(trial, last) for trial in ended if (last := _last_finite(trial)) is not None]
    return Series(
        label=label,
        look=its_look,
        kind="stop",
        x=tuple(step for _, (step, _) in shown),
        y=tuple(loss for _, (_, loss) in shown),
        notes=tuple(f"seed {trial.seed} diverged: {trial.reason or 'no reason recorded'}" for trial, _ in shown),
    )


def _last_finite(trial: Trial) -> tuple[float, float] | None:
    finite = np.flatnonzero(np.isfinite(trial.losses))
    return (float(trial.steps[finite[-1]]), float(trial.losses[finite[-1]])) if len(finite) else None


def _seed_series(label: str, its_look: Look, found: Spread, measure: Measure, row: float) -> list[Series]:
    if found.mean is None:
        return []
    values = tuple(value for _, value in found.values)
    seeds = tuple(f"seed {seed}" for seed, _ in found.values)
    dots = Series(label, its_look, "dots", values, (row,) * found.count, notes=seeds)
    ends = _ends(found)
    if ends is None:
        return [dots]
    return [Series(label, its_look, "tick", (found.mean,), (row,), reach=ends, notes=_mean_note(found, measure)), dots]


def _ends(found: Spread) -> Interval | None:
    """One standard deviation to each side of the mean; none below two seeds, where the dot says it all."""
    if found.mean is None or found.deviation is None:
        return None
    return (found.mean - found.deviation,), (found.mean + found.deviation,)


def _mean_note(found: Spread, measure: Measure) -> tuple[str]:
    return (f"mean of {found.count} seeds: {plus_minus(found, measure)}",)


def _speed_series(label: str, its_look: Look, trials: Iterable[Trial], measure: Measure) -> list[Series]:
    timed = [trial for trial in trials if trial.finished and trial.seconds is not None]
    found = spread(timed, measure)
    if not found.count:
        return []
    known = dict(found.values)
    shown = [trial for trial in timed if trial.seed in known]
    seconds = tuple(trial.seconds or 0.0 for trial in shown)
    notes = tuple(f"seed {trial.seed}" for trial in shown)
    dots = Series(label, its_look, "dots", seconds, tuple(known[trial.seed] for trial in shown), notes=notes)
    ends = _ends(found)
    if ends is None or found.mean is None:
        return [dots]
    centre = (math.fsum(seconds) / len(seconds),)
    return [dots, Series(label, its_look, "mean", centre, (found.mean,), band=ends, notes=_mean_note(found, measure))]


def _trained(curves: Collection[Curve]) -> list[Curve]:
    """The curves without the untrained network, if that leaves two points to draw a line through."""
    parts = [curve.where(curve.x > 0) for curve in curves]
    return parts if max((len(part) for part in parts), default=0) > 1 else list(curves)


def _wide(curves: Collection[Curve]) -> bool:
    """Whether the means span so much, all above zero, that only a log axis shows them side by side."""
    values = np.concatenate([np.empty(0), *(curve.mean for curve in curves)])
    return bool(len(values)) and bool(values.min() > 0) and bool(values.max() / values.min() > LOG_FROM)


def _x_frame(curves: Collection[Curve]) -> tuple[float, float]:
    ends = [float(x) for curve in curves if len(curve) for x in (curve.x[0], curve.x[-1])]
    room = 0.04 * (max(ends) - min(ends))
    return min(ends) - room, max(ends) + room


def _y_frame(curves: Collection[Curve], log: bool, also: Sequence[float] = ()) -> tuple[float, float]:
    """Room for means and bands; on a log axis a band may leave the frame downwards, where it could reach below zero."""
    shown = [curve for curve in curves if len(curve)]
    high = max([*also, *(float(curve.high.max()) for curve in shown)])
    if log:
        return min(float(curve.mean.min()) for curve in shown) / 1.3, high * 1.15
    low = min(float(curve.low.min()) for curve in shown)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room


def _covered(count: int, deviation: float) -> str:
    if count < 2:
        return "one seed"
    return f"± {number(float(deviation), 3)} over {count} seeds"


def _row_name(summary: Summary) -> str:
    name = summary.label if len(summary.label) <= TICK_LENGTH else summary.label[: TICK_LENGTH - 1] + "…"
    return name if summary.finished == summary.planned else f"{name} ({summary.finished} of {summary.planned})"


def _curve_words(subject: str, lines: Sequence[Series]) -> str:
    ends = [f"{line.label} {number(line.y[-1], 3)}" for line in lines if line.y]
    return f"Line chart: {subject}. Last values: {'; '.join(ends)}." if ends else f"{subject}: nothing recorded yet."


def _mean_words(measure: Measure, found: Sequence[tuple[str, Spread]]) -> str:
    parts = [f"{label} {plus_minus(its, measure)}" for label, its in found if its.count]
    return f"Dot chart: {measure.title}. {'; '.join(parts)}." if parts else f"{measure.title}: nothing recorded yet."


def _smoothing(longest: int) -> str:
    width = max(-(-longest // SMOOTH_POINTS), 1)
    if width == 1:
        return "Every step is drawn. The loss is that of the step's batch, before the step."
    return f"Each point is the mean of {width} neighbouring steps, so single spikes are averaged away."


def _scaled(title: str, log: bool) -> str:
    return f"{title} (log scale)" if log else title


def _values(array: Array) -> tuple[float, ...]:
    return tuple(array.tolist())


_UNTRAINED = "The frame begins with the first epoch; the untrained network (epoch 0) lies outside it."
_STOPS = " A large × marks the last finite loss of a trial that diverged."
_SEEDS = (
    "Every mark is one seed. The upright stroke is their mean, the shaded bar one standard deviation to each side "
    "(both from two seeds on). Only finished trials are drawn; a count follows the name where some are missing."
)
_SPEED = (
    "Small marks are single seeds; the large one is their mean with one standard deviation. "
    "Times are training only and belong to this machine."
)
