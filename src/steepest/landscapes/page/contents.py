"""The contents of a trace's page: plain data for its script, rows of its table, and the formula as an image."""

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image

from steepest.landscapes.declaration import Point, Window
from steepest.landscapes.figures import parts
from steepest.landscapes.paths import Array
from steepest.landscapes.plane import heights
from steepest.landscapes.records import Path, Paths, value_curve
from steepest.landscapes.sources import spelled
from steepest.study.report.charts.palette import SeriesStyle, swatch

GRID: Final = 121
"""Points of the drawn grid in each direction."""
DIGITS: Final = 6
"""Significant digits of drawn numbers."""
FORMULA: Final = 14
"""Size of the formula in points."""

Numbers = list[float | None]


def contents(traced: Paths) -> dict[str, Any]:
    """Return all that the page's script draws, as plain data."""
    return {
        "budget": traced.budget,
        "axes": ["gradient evaluations", "x"] if traced.plane is None else list(traced.plane.names),
        "window": traced.window if traced.plane is not None else _history_window(traced),
        "isometric": traced.surface.size == 2,
        "ground": _ground(traced),
        "minima": _on_plane(traced, traced.surface.minima),
        "starts": _on_plane(traced, traced.starts),
        "curves": _curves(traced),
        "series": [_series(traced, label, style) for label, style in parts.styles_of(traced).items()],
    }


def _ground(traced: Paths) -> dict[str, Any] | None:
    """Return the heights above the minimum on a grid, row by row, and the levels of the contours."""
    if traced.plane is None:
        return None
    x, _, values = heights(traced.surface, traced.plane, traced.window, GRID)
    finite = values[np.isfinite(values)]
    floor = traced.surface.floor if traced.surface.floor is not None else float(finite.min()) if finite.size else 0.0
    above = values - floor
    levels = parts.levels_of(above[np.isfinite(above)])[0] if finite.size else np.array([])
    return {"count": len(x), "heights": _plain(above.ravel()), "levels": _plain(levels), "floor": floor}


def _history_window(traced: Paths) -> Window:
    """Return the window of a surface of one number: all evaluations, and all numbers with a margin."""
    numbers = np.concatenate([*(path.plane[:, 1] for path in traced.paths), np.array(traced.surface.minima).ravel()])
    low, high = float(numbers.min()), float(numbers.max())
    margin = 0.08 * (high - low) or 1.0
    return (0.0, float(traced.budget)), (low - margin, high + margin)


def _on_plane(traced: Paths, points: Sequence[Point]) -> list[list[float]]:
    """Return points as the drawing has them; those of a surface of one number only by that number."""
    if not points:
        return []
    at = np.array(points)
    shown: list[list[float]] = (at if traced.plane is None else traced.plane.coordinates(at)).tolist()
    return shown


def _curves(traced: Paths) -> list[dict[str, Any]]:
    """Return what is drawn over the evaluations, with its scale."""
    found = []
    for key, (title, curve) in _drawn(traced).items():
        is_log, low, high = parts.limits_of([curve(path) for path in traced.paths])
        found.append({"key": key, "title": title, "log": is_log, "low": low, "high": high})
    return found


def _drawn(traced: Paths) -> dict[str, tuple[str, Callable[[Path], Array]]]:
    """Return title and function of what is drawn: the value, and the distance where a minimum is known."""
    floor = traced.surface.floor
    title = "value" if floor is None else "value above the minimum"
    drawn: dict[str, tuple[str, Callable[[Path], Array]]] = {"value": (title, lambda path: value_curve(path, floor))}
    if traced.surface.minima:
        drawn["distance"] = "distance to the nearest minimum", traced.distances
    return drawn


def _series(traced: Paths, label: str, style: SeriesStyle) -> dict[str, Any]:
    paths = [path for path in traced.paths if path.label == label]
    return {
        "label": label,
        "light": style.light,
        "dark": style.dark,
        "dash": style.dash,
        "marker": style.marker,
        "paths": [_path(traced, path) for path in paths],
    }


def _path(traced: Paths, path: Path) -> dict[str, Any]:
    """Return a path; of lengths, gradients and rates those of the step that led to each point."""
    return {
        "x": _plain(path.plane[:, 0]),
        "y": _plain(path.plane[:, 1]),
        "evaluations": path.evaluations.tolist(),
        "values": _plain(path.values),
        "lengths": [None, *_plain(path.step_lengths)],
        "gradients": [None, *_plain(path.gradient_norms)],
        "rates": [None, *_plain(path.effective_rates)],
        "marks": parts.marks(path, traced.budget),
        "ended": path.ended,
        "lost": path.is_lost,
        **{key: _plain(curve(path)) for key, (_, curve) in _drawn(traced).items()},
    }


def _plain(numbers: Array) -> Numbers:
    """Return numbers with the digits that are drawn; None for those that are not finite."""
    return [float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None for number in numbers.tolist()]


def rows(traced: Paths) -> list[dict[str, Any]]:
    """Return the rows of the table, with the sign of every optimizer."""
    styles = parts.styles_of(traced)
    return [
        {
            "swatch": swatch(styles[path.label]),
            "label": path.label,
            "start": spelled(traced.starts[path.start]),
            "rate": path.choice.words,
            "ties": path.choice.ties,
            "value": row["value"],
            "evaluations": row["evaluations"],
            "reached": row["to threshold"],
            "distance": row["distance"],
            "ended": row["ended"],
        }
        for path, row in zip(traced.paths, traced.rows, strict=True)
    ]


def formula(traced: Paths) -> Markup:
    """Return the surface's formula as an SVG image in the colour of the text around it; empty without one."""
    if not traced.surface.formula:
        return Markup()
    made = io.StringIO()
    math_to_image(f"${traced.surface.formula}$", made, prop=FontProperties(size=FORMULA), format="svg")
    image = re.sub(r"^.*?(?=<svg)", "", made.getvalue(), flags=re.DOTALL)
    for left_out in (
        r"<metadata>.*?</metadata>",
        r"<g id=\"patch_1\">.*?</g>",
        r"style=\"fill: #[0-9a-f]*\"",
        r"<!--.*?-->",
    ):
        image = re.sub(left_out, "", image, flags=re.DOTALL)
    return Markup(image)
