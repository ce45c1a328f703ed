"""The page of an explanation: the path on the surface, and at each step the value of every symbol."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from markupsafe import Markup

from steepest.landscapes.figures.parts import styles_of
from steepest.landscapes.page.contents import contents, formula
from steepest.landscapes.page.page import embedded
from steepest.landscapes.records import Path, Paths
from steepest.lines import Value
from steepest.study.report.charts.palette import swatch
from steepest.study.report.page import template
from steepest.walkthrough import Step, in_numbers, in_rows, is_several

DIGITS, DIGITS_OF_MATRICES = 5, 4
"""Significant digits of the values on a page."""


class Explained(Protocol):
    """Everything about an explanation that its page shows, in addition to the paths."""

    @property
    def steps(self) -> Sequence[Step]:
        """The first steps of the first path."""

    @property
    def helpers(self) -> Mapping[str, str]:
        """The functions that the equations name, with their meanings."""

    @property
    def remark(self) -> str:
        """A sentence about what is shown."""

    def text(self) -> str:
        """Return the explanation as text."""


def page(traced: Paths, explained: Explained) -> str:
    """Return the page of an explanation as HTML that needs nothing else.

    Args:
        traced: the paths, of one optimizer.
        explained: the explanation.
    """
    (path, *_) = traced.paths
    told = [_step(traced, path, step, has_gradient=not explained.remark) for step in explained.steps]
    made: str = template("explanation.html", "steepest.landscapes.page").render(
        traced=traced,
        path=path,
        count=len(told),
        text=explained.text(),
        helpers=explained.helpers,
        remark=explained.remark,
        title=f"{path.label} step by step",
        name=path.label,
        lead=Markup("{} {}").format(swatch(styles_of(traced)[path.label]), path.choice.words),
        formula=formula(traced),
        contents_json=embedded({**contents(traced), "steps": told}),
    )
    return made


def _step(traced: Paths, path: Path, step: Step, *, has_gradient: bool) -> dict[str, Any]:
    """Return a step: the texts of all values, and the gradient in the coordinates of the drawing."""
    gradient = step.gradient.reshape(1, -1).numpy()
    is_drawn = has_gradient and traced.plane is not None
    return {
        "given": [[name, _shown(value)] for name, value in step.given.items() if is_several(value)],
        "numbers": [[name, _shown(value)] for name, value in step.given.items() if not is_several(value)],
        "equations": [[each.symbol, each.expression, _shown(each.value)] for each in step.equations],
        "gradient": (gradient @ traced.plane.directions.T)[0].tolist() if is_drawn and traced.plane else None,
        "value": float(path.values[step.number]),
        "before": float(path.values[step.number - 1]),
    }


def _shown(value: Value) -> str | list[list[str]]:
    """Return a value as text; a small matrix as its rows."""
    return in_rows(value, DIGITS_OF_MATRICES) or in_numbers(value, DIGITS)
