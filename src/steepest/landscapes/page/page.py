"""The page itself: a template filled with a trace."""

import json
from pathlib import Path as File

from steepest.landscapes.page.contents import contents, formula, rows
from steepest.landscapes.records import TARGET, Paths
from steepest.study.report.page import template


def page(traced: Paths) -> str:
    """Return the page of a trace as HTML that needs nothing else."""
    name, _, lead = traced.surface.title.partition(": ")
    made: str = template("trace.html", "steepest.landscapes.page").render(
        traced=traced,
        title=traced.surface.title,
        name=name,
        lead=lead[:1].upper() + lead[1:],
        formula=formula(traced),
        rows=rows(traced),
        target=TARGET,
        contents_json=embedded(contents(traced)),
    )
    return made


def save(traced: Paths, file: File) -> None:
    """Write the page into a file."""
    file.write_text(page(traced), encoding="utf-8")


def embedded(document: object) -> str:
    """Return JSON that may stand inside a script element: no text in it can close the element."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
