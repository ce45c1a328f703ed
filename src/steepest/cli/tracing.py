"""`steepest trace`: optimizers on a surface, as a table and in pictures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from steepest.cli import console
from steepest.landscapes.atlas import basins, check_picture, speeds
from steepest.landscapes.traced import Traced, check_kind
from steepest.landscapes.tracing import trace
from steepest.study.errors import UsageError

USUAL: Final = ("sgd", "momentum", "adam")
"""The optimizers where none is named."""


@dataclass(frozen=True)
class Arguments:
    """The arguments of the command."""

    surface: str
    optimizers: Sequence[str]
    budget: int
    lr: float | None
    rates: int
    starts: int
    points: Sequence[str]
    seed: int
    out: Sequence[Path]
    basins: Path | None
    speed_map: Path | None
    over: str
    as_json: bool


def run(arguments: Arguments) -> None:
    """Trace, print the table, and write the pictures that are asked for; of maps only these, unless --out is given."""
    maps = [file for file in (arguments.basins, arguments.speed_map) if file]
    for file in arguments.out:
        check_kind(file)
    for file in maps:
        check_picture(file)
    if maps:
        _draw_maps(arguments)
    if arguments.out or not maps:
        _trace(arguments)


def _draw_maps(arguments: Arguments) -> None:
    optimizers = list(arguments.optimizers or USUAL)
    common = {"budget": arguments.budget, "seed": arguments.seed}
    if arguments.basins:
        found = basins(arguments.surface, optimizers, lr=arguments.lr, rates=arguments.rates, **common)
        for label, reason in found.skipped:
            console.note(f"{label} is skipped: {reason}")
        console.note(f"written: {found.save(arguments.basins)}")
    if arguments.speed_map:
        made = speeds(arguments.surface, optimizers, arguments.over, **common)
        console.note(f"written: {made.save(arguments.speed_map)}")


def _trace(arguments: Arguments) -> None:
    traced = trace(
        arguments.surface,
        list(arguments.optimizers or USUAL),
        budget=arguments.budget,
        lr=arguments.lr,
        rates=arguments.rates,
        starts=[point(text) for text in arguments.points] or arguments.starts,
        seed=arguments.seed,
    )
    if arguments.as_json:
        print(json.dumps(_document(traced), indent=2))
    else:
        _show(traced)
    for file in arguments.out:
        traced.save(file)
        console.note(f"written: {file}")


def point(text: str) -> tuple[float, ...]:
    """Return the point of a text such as `-1.2,1`."""
    try:
        return tuple(float(part) for part in text.strip("() ").split(","))
    except ValueError:
        raise UsageError(f"--start takes numbers, separated by commas, such as -1.2,1, not {text!r}") from None


def _document(traced: Traced) -> dict[str, Any]:
    return {
        "surface": traced.surface.label,
        "title": traced.surface.title,
        "budget": traced.budget,
        "paths": traced.rows,
        "skipped": [{"optimizer": label, "reason": reason} for label, reason in traced.skipped],
        "remarks": list(traced.remarks),
    }


def _show(traced: Traced) -> None:
    print(f"{traced.surface.title} ({traced.surface.label}), {traced.budget} gradient evaluations")
    grid = Table(box=None, pad_edge=False, header_style="bold")
    rows = [{heading: _spelled(cell) for heading, cell in row.items()} for row in traced.rows]
    for heading in rows[0] if rows else ():
        is_text = heading in ("optimizer", "start", "chosen", "ended")
        if heading != "ended" or any(row["ended"] for row in rows):
            grid.add_column(heading, justify="left" if is_text else "right", no_wrap=heading != "ended")
    for row in rows:
        grid.add_row(*map(Text, list(row.values())[: len(grid.columns)]))
    console.out().print(grid)
    for remark in (*filter(None, [traced.surface.note]), *traced.remarks):
        console.note(remark)


def _spelled(cell: Any) -> str:
    if cell is None:
        return "–"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)
