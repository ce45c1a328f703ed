"""The page of an explanation: the path on the surface, and at each step the value of every symbol."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from steepest.landscapes.figures.parts import styles_of
from steepest.landscapes.page.contents import contents, formula
from steepest.landscapes.page.page import embedded
from steepest.landscapes.records import Path, Paths
from steepest.study.report.charts.palette import swatch
from steepest.study.report.page import template
from steepest.walkthrough import Step, in_numbers


def page(traced: Paths, steps: Sequence[Step], text: str) -> str:
    """Return the page of an explanation as HTML that needs nothing else.

    Args:
        traced: the paths, of one optimizer.
        steps: the first steps of its first path.
        text: the explanation as text.
    """
    (path, *_) = traced.paths
    told = [_step(traced, path, step) for step in steps]
    made: str = template("explanation.html", "steepest.landscapes.page").render(
        traced=traced,
        path=path,
        count=len(steps),
        text=text,
        title=f"{path.label} step by step",
        name=path.label,
        lead=Markup("{} {}").format(swatch(styles_of(traced)[path.label]), path.choice.words),
        formula=formula(traced),
        contents_json=embedded({**contents(traced), "steps": told}),
    )
    return made


def _step(traced: Paths, path: Path, step: Step) -> dict[str, Any]:
    """Return a step: the texts of all values, and the gradient in the coordinates of the drawing."""
    gradient = step.gradient.reshape(1, -1).numpy()
    return {
        "given": [[name, in_numbers(value, 5)] for name, value in step.given.items()],
        "equations": [[each.symbol, each.expression, in_numbers(each.value, 5)] for each in step.equations],
        "gradient": None if traced.plane is None else (gradient @ traced.plane.directions.T)[0].tolist(),
        "value": float(path.values[step.number]),
        "before": float(path.values[step.number - 1]),
    }
