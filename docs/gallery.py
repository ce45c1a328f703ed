"""The gallery: a picture of every optimizer's paths in docs/gallery, and docs/gallery.md, which compares them.

Run it as ``python docs/gallery.py`` or ``make gallery``. It takes minutes; ``python docs/gallery.py adam`` draws one
anew. The pages of the optimizers are written after it, since they show the pictures that exist.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import generate
import torch
from matplotlib.axes import Axes
from PIL import Image

import steepest
from steepest import registry
from steepest.catalogue import Info
from steepest.landscapes import Surface, Traced, trace
from steepest.landscapes.figures import parts, pictures
from steepest.landscapes.rates import RESOLUTION
from steepest.landscapes.records import TARGET
from steepest.landscapes.surfaces import surfaces
from steepest.landscapes.tracing import BUDGET
from steepest.study.report.charts.matplotlib_renderer import INK, own_style

PAGE = generate.ROOT / "docs" / "gallery.md"
FOLDER = generate.GALLERY
RESULTS = FOLDER / "paths.json"
COMMAND = "python docs/gallery.py"

SURFACES = ("ravine", "rosenbrock", "beale", "himmelblau", "saddle", "least-squares")
"""The surfaces of every optimizer."""
FOR_MATRICES = ("linear-network",)
"""The surfaces of rules that update matrices, in addition."""

RATES = 8
"""Rates that are tried with every optimizer, in addition to its default."""

SIZE = 1.62, 2.15
"""Inches of a panel with its words."""
NOTE = 0.16
"""Height of a line of the note under the panels, in inches."""
DPI = 90
COLOURS = 32
SMALLER = 0.55
"""Size of signs, as a share of that in other figures."""
LETTERS = 24
"""Letters in a line under a panel."""

Row = dict[str, Any]

INTRODUCTION = f"""\
# Gallery: every optimizer on the same surfaces

Each optimizer walks from the first start of each [surface](landscapes.md) for {BUDGET} gradients, with the best
of its default rate and {RATES} rates at the same places of its declared range: `steepest trace --rates {RATES}`.
Circle: start; star: minimum; cross: the last finite point. `{COMMAND}` makes the pictures.

These are functions of a few numbers without noise. They show how a rule moves, not how it trains a network: for that
there are [studies](reference-study.md)."""

REACHED = f"""\
The gradients until the value is {TARGET:g} of the start's height above the minimum, the fewest in bold. The rate is
the best at the end of all {BUDGET} gradients, not the one that is there first. –: not within {BUDGET}. Empty: not
drawn there."""


def surfaces_for(facts: Info) -> tuple[str, ...]:
    """Return the names of the surfaces that an optimizer is drawn on."""
    return SURFACES + (FOR_MATRICES if facts.kind == "matrix" else ())


def traces(name: str) -> list[Traced]:
    """Return the traces of an optimizer on its surfaces."""
    return [trace(_surface(surface), name, rates=RATES) for surface in surfaces_for(steepest.info(name))]


@cache
def _surface(name: str) -> Surface:
    """Return a surface, the same one for all pictures, whose heights are then computed once."""
    return surfaces()[name]()


def rows(traced: list[Traced]) -> list[Row]:
    """Return what the table and the pictures say of an optimizer, a row for each surface."""
    return [_row(each) for each in traced]


def _row(traced: Traced) -> Row:
    if not traced.paths:
        return {"surface": traced.surface.name, "skipped": traced.skipped[0][1]}
    (path,), (facts,) = traced.paths, traced.rows
    assert traced.surface.floor is not None
    above = max(facts["value"] - traced.surface.floor, RESOLUTION)
    return {
        "surface": traced.surface.name,
        "rate": None if path.rate is None else float(f"{path.rate:.3g}"),
        "ties": path.choice.ties,
        "lost": path.is_lost,
        "above": float(f"{above:.2g}"),
        "reached": facts["to threshold"],
        "ended": facts["ended"],
    }


def words(row: Row) -> str:
    """Return the lines under a panel."""
    rate = "its own rate" if row["rate"] is None else f"rate {row['rate']:g}"
    if row["lost"]:
        tried = ", as all are lost" if row["ties"] else ""
        return "\n".join([rate + tried, *textwrap.wrap(f"lost, {row['ended']}", LETTERS)])
    ties = f" ({row['ties']} tie)" if row["ties"] > 1 else ""
    height = f"at most {RESOLUTION:g}" if row["above"] <= RESOLUTION else f"{row['above']:g}"
    soon = "threshold not reached" if row["reached"] is None else f"threshold after {row['reached']}"
    return "\n".join([rate + ties, f"ends {height} above", soon, textwrap.shorten(row["ended"], LETTERS)])


def picture(name: str, traced: list[Traced]) -> bytes:
    """Return the picture of an optimizer: a panel for each surface that suits it, as a PNG of few colours."""
    shown = [each for each in traced if each.paths]
    columns = max(len(SURFACES), len(shown))
    notes = note(traced)
    with own_style():
        made = pictures.empty(SIZE[0] * columns, SIZE[1] + NOTE * (len(notes) + 1))
        below = NOTE * len(notes) / made.get_figheight()
        made.set_layout_engine("constrained", rect=(0, below, 1, 1 - below))
        grid = made.subplots(1, columns)
        for axes, each in zip(grid, shown, strict=False):
            _draw(axes, each)
        for axes in grid[len(shown) :]:
            axes.set_axis_off()
        made.suptitle(steepest.info(name).optimizer.__name__, x=0.01, ha="left", fontsize=11, fontweight="bold")
        made.text(0.01, 0.02, "\n".join(notes), fontsize=7, color=INK, va="bottom")
        drawn = io.BytesIO()
        made.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
    few = Image.open(drawn).convert("RGB").quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small = io.BytesIO()
    few.save(small, "PNG", optimize=True)
    return small.getvalue()


def note(traced: list[Traced]) -> list[str]:
    """Return the lines that say on which surfaces an optimizer is not drawn, and why."""
    by_reason: dict[str, list[str]] = {}
    for each in traced:
        for _, reason in each.skipped:
            by_reason.setdefault(reason, []).append(title(each.surface))
    said = [f"Not on {', '.join(names)}: {reason}." for reason, names in by_reason.items()]
    return [line for each in said for line in textwrap.wrap(each, 26 * len(SURFACES))]


def title(surface: Surface) -> str:
    """Return the short title of a surface."""
    return re.split(":| function| over| of ", surface.title)[0]


def _draw(axes: Axes, traced: Traced) -> None:
    axes.set_title(title(traced.surface), fontsize=8, loc="center")
    parts.draw_ground(axes, traced)
    axes.set_aspect("auto")
    (style,) = parts.styles_of(traced).values()
    for path in traced.paths:
        parts.draw_path(axes, path, replace(style, dash="solid"), traced.budget)
    for line in axes.lines:
        line.set_markersize(line.get_markersize() * SMALLER)
        line.set_markeredgewidth(line.get_markeredgewidth() * SMALLER)
    axes.set(xticks=[], yticks=[], ylabel="")
    axes.set_xlabel(words(_row(traced)), fontsize=7, color=INK)


def index(results: Mapping[str, list[Row]]) -> str:
    """Return the page that compares all optimizers."""
    known = [steepest.info(name) for name in results]
    parts = [f"<!-- {COMMAND} writes this page -->", INTRODUCTION, "## Gradients to the threshold", REACHED]
    parts += [_table(results), *_best(results)]
    for heading in generate.GROUPS:
        members = [facts for facts in known if generate.group(facts) == heading]
        parts += [f"## {heading}", *_pictures(members, results)]
    return generate.joined(parts)


def _table(results: Mapping[str, list[Row]]) -> str:
    columns = SURFACES + FOR_MATRICES
    fewest = {surface: min(_reached(results, surface).values()) for surface in columns}
    lines = []
    for name, told in results.items():
        by_surface = {row["surface"]: row for row in told}
        cells = [_cell(by_surface.get(surface), fewest[surface]) for surface in columns]
        lines.append((f"[{steepest.info(name).optimizer.__name__}](optimizers/{name}.md)", *cells))
    return generate.table(("optimizer", *(title(surfaces()[surface]()) for surface in columns)), lines)


def _cell(row: Row | None, fewest: int) -> str:
    if row is None or "skipped" in row:
        return ""
    if row["reached"] is None:
        return "–"
    return f"**{row['reached']}**" if row["reached"] == fewest else str(row["reached"])


def _reached(results: Mapping[str, list[Row]], surface: str) -> dict[str, int]:
    """Return the gradients to the threshold of all optimizers that reach it on a surface."""
    every = {name: row for name, told in results.items() for row in told if row["surface"] == surface}
    return {name: row["reached"] for name, row in every.items() if row.get("reached") is not None}


def _best(results: Mapping[str, list[Row]]) -> Iterator[str]:
    """Yield the sentence that names the first on every surface, and says their ties."""
    said = []
    for surface in SURFACES + FOR_MATRICES:
        reached = _reached(results, surface)
        first = [steepest.info(name).optimizer.__name__ for name in reached if reached[name] == min(reached.values())]
        tie = " tie" if len(first) > 1 else ""
        said.append(f"* {title(surfaces()[surface]())}: {', '.join(first)}{tie}, after {min(reached.values())}.")
    yield "The fewest:"
    yield "\n".join(said)


def _pictures(members: list[Info], results: Mapping[str, list[Row]]) -> Iterator[str]:
    for facts in members:
        name = facts.optimizer.__name__
        if all("skipped" in row for row in results[facts.name]):
            yield f"[{name}](optimizers/{facts.name}.md) is not drawn: {results[facts.name][0]['skipped']}."
        else:
            yield f"[![{name}: its paths](gallery/{facts.name}.png)](optimizers/{facts.name}.md)"


def make(name: str) -> tuple[str, list[Row]]:
    """Trace an optimizer and write its picture, unless no surface suits it. Return its name and rows."""
    torch.set_num_threads(1)
    traced = traces(name)
    told = rows(traced)
    if not all("skipped" in row for row in told):
        (FOLDER / f"{name}.png").write_bytes(picture(name, traced))
    return name, told


def main() -> None:
    """Write the pictures, their results, the page that compares them, and the pages of the optimizers."""
    FOLDER.mkdir(exist_ok=True)
    named = sys.argv[1:] or list(registry.built_in())
    known = json.loads(RESULTS.read_text("utf-8")) if sys.argv[1:] else {}
    for path in FOLDER.glob("*.png"):
        if path.stem in named or path.stem not in registry.built_in():
            path.unlink()
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as workers:
        known |= dict(workers.map(make, named))
    results = {name: known[name] for name in registry.built_in()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(told)}" for name, told in results.items())
    RESULTS.write_text(f"{{\n{lines}\n}}\n", "utf-8")
    PAGE.write_text(index(results), "utf-8")
    generate.main()


if __name__ == "__main__":
    main()
