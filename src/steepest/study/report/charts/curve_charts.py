"""Learning curves: figures over epochs, steps or seconds, and the training loss of every step."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from steepest.study.records.format import DIVERGED
from steepest.study.report.charts.chart import Axis, Chart, Series
from steepest.study.report.charts.curves import POSITION, Curve, Position, XAxis, epoch_curve, step_curve
from steepest.study.report.charts.downsampling import SMOOTH_POINTS
from steepest.study.report.charts.frames import EVERYTHING, clamped, fence, note_of, within
from steepest.study.report.charts.palette import SeriesStyle, Styles
from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.measures import Measure, curve_measures, number
from steepest.study.report.stored.study import Array, Study, Trial

X_TITLES: dict[XAxis, str] = {"epochs": "Epoch", "steps": "Optimizer step", "seconds": "Training seconds"}
LOG_FROM = 8.0


def learning_charts(findings: Findings, styles: Styles) -> tuple[Chart, ...]:
    """Draw the learning curves, over each x axis."""
    clock = {cost.label: cost.seconds for cost in findings.costs}
    return tuple(
        _learning_chart(measure, axis, styles, _curves(findings.study, styles, measure, axis, clock))
        for axis in POSITION
        for measure in curve_measures(findings.study)
    )


def _curves(
    study: Study, styles: Styles, measure: Measure, axis: XAxis, clock: Mapping[str, float]
) -> dict[str, Curve]:
    places = {label: _position(axis, clock.get(label)) for label in styles}
    return {label: epoch_curve(study.trials_of(label), measure.key, place) for label, place in places.items()}


def _position(axis: XAxis, step_seconds: float | None) -> Position:
    """Return the place of evaluations on the axis; seconds are the timing pass's where there was one."""
    if axis == "seconds" and step_seconds is not None:
        return lambda epoch: epoch.step * step_seconds
    return POSITION[axis]


def _learning_chart(measure: Measure, axis: XAxis, styles: Styles, curves: Mapping[str, Curve]) -> Chart:
    trained = _trained(curves.values())
    log = measure.better < 0 and _wide(trained)
    series = tuple(line(label, styles[label], curve, log) for label, curve in curves.items())
    untrained = any(len(part) < len(curve) for part, curve in zip(trained, curves.values(), strict=True))
    ends = _fence(trained, log)
    framed = untrained or ends != EVERYTHING
    return Chart(
        section="curves",
        key=f"{measure.key.replace('_', '-')}-over-{axis}",
        title=measure.title,
        x=Axis(X_TITLES[axis], integer=axis == "epochs", bounds=_x_frame(trained) if framed else None),
        y=Axis(_scaled(measure.title, log), log=log, bounds=_y_frame(trained, log, ends) if framed else None),
        series=series,
        note=((_UNTRAINED if untrained else "") + note_of(ends)).strip(),
        alt=curve_words(f"{measure.title} over {axis}", series),
        switch="axis",
        choice=axis,
        figure=f"learning-over-{axis}",
        printed=axis != "steps",  # epochs times a constant: the same picture
    )


def step_chart(findings: Findings, styles: Styles) -> Chart:
    """Draw the training loss of every step, with a mark where a trial diverged."""
    study = findings.study
    curves = {label: step_curve(study.trials_of(label)) for label in styles}
    log = _wide(curves.values())
    lines = tuple(line(label, styles[label], curve, log) for label, curve in curves.items())
    stops = [stop for label in styles if (stop := _stop(label, styles[label], study.trials_of(label))).x]
    longest = max((len(trial.steps) for trial in study.trials), default=0)
    last = [loss for stop in stops for loss in stop.y]
    ends = _fence(curves.values(), log)
    framed = log or ends != EVERYTHING
    return Chart(
        section="curves",
        key="training-loss-per-step",
        title="Training loss of every step",
        x=Axis(X_TITLES["steps"]),
        y=Axis(
            _scaled("Training loss", log),
            log=log,
            bounds=_y_frame(curves.values(), log, ends, last) if framed else None,
        ),
        series=(*lines, *stops),
        note=_smoothing(longest) + (_STOPS if stops else "") + note_of(ends),
        alt=curve_words("Training loss over steps", lines),
    )


def line(label: str, style: SeriesStyle, curve: Curve, log: bool) -> Series:
    """Return a curve as a line, with a band where it covers several trials."""
    low = (
        np.maximum(curve.low, curve.mean / 10) if log else curve.low
    )  # a log axis cannot show a band that reaches zero
    several = bool((curve.counts > 1).any())
    points = zip(curve.counts, curve.mean, curve.high, strict=True)
    return Series(
        label=label,
        style=style,
        kind="line",
        x=_values(curve.x),
        y=_values(curve.mean),
        band=(_values(low), _values(curve.high)) if several else None,
        notes=tuple(_covered(int(count), high - mean) for count, mean, high in points),
    )


def _stop(label: str, style: SeriesStyle, trials: Iterable[Trial]) -> Series:
    ended = [trial for trial in trials if trial.status == DIVERGED]
    shown = [(trial, last) for trial in ended if (last := _last_finite(trial)) is not None]
    return Series(
        label=label,
        style=style,
        kind="stop",
        x=tuple(step for _, (step, _) in shown),
        y=tuple(loss for _, (_, loss) in shown),
        notes=tuple(f"seed {trial.seed} diverged: {trial.reason or 'no reason recorded'}" for trial, _ in shown),
    )


def _last_finite(trial: Trial) -> tuple[float, float] | None:
    finite = np.flatnonzero(np.isfinite(trial.losses))
    return (float(trial.steps[finite[-1]]), float(trial.losses[finite[-1]])) if len(finite) else None


def _trained(curves: Collection[Curve]) -> list[Curve]:
    """Return the curves without the untrained network, if that leaves two points to draw a line through."""
    parts = [curve.where(curve.x > 0) for curve in curves]
    return parts if max((len(part) for part in parts), default=0) > 1 else list(curves)


def _wide(curves: Collection[Curve]) -> bool:
    """Return whether the means span so much, all above zero, that only a log axis shows them side by side."""
    values = np.array(within(_means(curves), fence(_means(curves), log=True)))
    return bool(len(values)) and bool(values.min() > 0) and bool(values.max() / values.min() > LOG_FROM)


def _means(curves: Iterable[Curve]) -> list[float]:
    return [float(mean) for curve in curves for mean in curve.mean]


def _fence(curves: Iterable[Curve], log: bool) -> tuple[float, float]:
    """Return the ends between which means are drawn: one that is far beyond all others leaves the frame."""
    return fence(_means(curves), log=log)


def _x_frame(curves: Collection[Curve]) -> tuple[float, float]:
    ends = [float(x) for curve in curves if len(curve) for x in (curve.x[0], curve.x[-1])]
    room = 0.04 * (max(ends) - min(ends))
    return min(ends) - room, max(ends) + room


def _y_frame(
    curves: Collection[Curve], log: bool, ends: tuple[float, float], also: Sequence[float] = ()
) -> tuple[float, float]:
    """Leave room for means and bands inside the ends. On a log axis a band may leave the frame: it may reach 0."""
    shown = [curve for curve in curves if len(curve)]
    high = clamped(max([*also, *(float(curve.high.max()) for curve in shown)]), ends)
    if log:
        return clamped(min(float(curve.mean.min()) for curve in shown), ends) / 1.3, high * 1.15
    low = clamped(min(float(curve.low.min()) for curve in shown), ends)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room


def _covered(count: int, deviation: float) -> str:
    if count < 2:
        return "one seed"
    return f"± {number(float(deviation), 3)} over {count} seeds"


def curve_words(subject: str, lines: Sequence[Series]) -> str:
    """Return the words for those who do not see a chart of curves: the last values."""
    ends = [f"{line.label} {number(line.y[-1], 3)}" for line in lines if line.y]
    return f"Line chart: {subject}. Last values: {'; '.join(ends)}." if ends else f"{subject}: nothing recorded yet."


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
