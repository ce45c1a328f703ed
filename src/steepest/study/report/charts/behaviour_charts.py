"""Figures of sampled steps, of all parameters and of each, for the best optimizer and the reference."""

import re
from collections.abc import Mapping, Sequence

from steepest.study.report.charts.chart import Axis, Chart
from steepest.study.report.charts.curve_charts import X_TITLES, curve_words, line
from steepest.study.report.charts.curves import point_curve
from steepest.study.report.charts.palette import Styles
from steepest.study.report.findings.behaviour import MOVED, WHOLE, Moved
from steepest.study.report.findings.findings import Findings
from steepest.study.report.stored.study import Layer, Sample, Trial

Points = Mapping[int, float]


def behaviour_charts(findings: Findings, styles: Styles) -> tuple[Chart, ...]:
    """Draw every figure of sampled steps, for every layer that the reader may choose."""
    trials, names = _trials(findings), findings.behaviour.layers
    return tuple(
        _moved_chart(moved, name, number, trials, styles) for moved in MOVED for number, name in enumerate(names)
    )


def _trials(findings: Findings) -> dict[str, Sequence[Trial]]:
    return {label: findings.study.trials_of(label) for label in findings.behaviour.labels}


def _moved_chart(moved: Moved, layer: str, number: int, trials: Mapping[str, Sequence[Trial]], styles: Styles) -> Chart:
    """Draw a figure of one layer, whose number is 0 for all together."""
    curves = {label: point_curve([_points(trial, moved, layer) for trial in ones]) for label, ones in trials.items()}
    log = moved.bounds is None and any((curve.mean > 0).any() for curve in curves.values())
    series = tuple(line(label, styles[label], curve, log) for label, curve in curves.items())
    return Chart(
        section="behaviour",
        key=f"{moved.key}-{number}" if number else moved.key,
        title=moved.title,
        x=Axis(X_TITLES["steps"]),
        y=Axis(f"{moved.title} (log scale)" if log else moved.title, log=log, bounds=moved.bounds),
        series=series,
        note=moved.meaning,
        alt=curve_words(f"{moved.title} of {layer[:1].lower()}{layer[1:]} over steps", series),
        switch="layer",
        choice=layer,
        figure="behaviour",
        printed=not number,
        placeholder=False,
    )


def _points(trial: Trial, moved: Moved, name: str) -> Points:
    found = ((sample.step, _layer(sample, name)) for sample in trial.samples)
    return {step: moved.of(layer) for step, layer in found if layer is not None}


def _layer(sample: Sample, name: str) -> Layer | None:
    return sample.whole if name == WHOLE else sample.layers.get(name)


def log_charts(findings: Findings, styles: Styles) -> tuple[Chart, ...]:
    """Draw the figures that training functions have logged, the loss's sharpness among them."""
    trials, names = _trials(findings), findings.behaviour.logged
    return tuple(_log_chart(name, number, trials, styles) for number, name in enumerate(names, 1))


def _log_chart(name: str, number: int, trials: Mapping[str, Sequence[Trial]], styles: Styles) -> Chart:
    series = tuple(
        line(label, styles[label], point_curve([_logged(trial, name) for trial in ones]), log=False)
        for label, ones in trials.items()
    )
    words = name.replace("_", " ")
    title = words[:1].upper() + words[1:]
    return Chart(
        section="behaviour",
        key=f"logged-{number}-{_NOT_IN_KEYS.sub('-', name)}",
        title=title,
        x=Axis(X_TITLES["steps"]),
        y=Axis(title),
        series=series,
        note=_NOTES.get(name, "As the training function logged it."),
        alt=curve_words(f"{words} over steps", series),
        placeholder=False,
    )


def _logged(trial: Trial, name: str) -> Points:
    return {entry.step: entry.values[name] for entry in trial.logs if name in entry.values}


_NOT_IN_KEYS = re.compile(r"[\W_]+")
_NOTES = {"sharpness": "The eigenvalue of the loss's Hessian that is largest in absolute value, on training examples."}
