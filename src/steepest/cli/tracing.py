"""`steepest trace`: optimizers on a surface, as a table and in pictures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from steepest.cli import console
from steepest.landscapes.atlas import basins, kind_of_picture, speeds
from steepest.landscapes.files import kind_of
from steepest.landscapes.traced import KINDS, Traced
from steepest.landscapes.tracing import BUDGET, RATES, trace
from steepest.landscapes.training import trace_training
from steepest.study.errors import UsageError

USUAL: Final = ("sgd", "momentum", "adam")
"""The optimizers on a surface where none is named."""
OF_SURFACES: Final = ("surface", "budget", "lr", "rates", "starts", "points", "basins", "speed_map")
OF_TRAININGS: Final = ("preset", "epochs", "steps", "data_dir")
SPELLED: Final = {"surface": "SURFACE", "points": "--start"}
PRESET: Final = "quick"


@dataclass(frozen=True)
class Arguments:
    """The arguments of the command."""

    surface: str | None
    model: str | None
    optimizers: Sequence[str]
    budget: int | None
    lr: float | None
    rates: int | None
    starts: int | None
    points: Sequence[str]
    preset: str | None
    epochs: int | None
    steps: int | None
    data_dir: Path | None
    seed: int
    out: Sequence[Path]
    basins: Path | None
    speed_map: Path | None
    over: str
    as_json: bool


def run(arguments: Arguments) -> None:
    """Trace, print the table, and write the pictures that are asked for; of maps only these, unless --out is given."""
    _check_use(arguments)
    maps = [file for file in (arguments.basins, arguments.speed_map) if file]
    for file in arguments.out:
        kind_of(file, KINDS)
    for file in maps:
        kind_of_picture(file)
    if maps:
        _draw_maps(arguments)
    if arguments.out or not maps:
        _trace(arguments)


def _check_use(arguments: Arguments) -> None:
    """Raise UsageError for options of surfaces with --model, and the other way round."""
    if arguments.surface is None and arguments.model is None:
        raise UsageError("name a surface, such as rosenbrock: see `steepest list surfaces`")
    useless, what = (OF_TRAININGS, "a surface") if arguments.model is None else (OF_SURFACES, "--model")
    given = [name for name in useless if getattr(arguments, name) not in (None, ())]
    if given:
        spelled = ", ".join(SPELLED.get(name, f"--{name.replace('_', '-')}") for name in given)
        advice = "; give a rate in brackets, -o adam[lr=0.1]" if "lr" in given else ""
        raise UsageError(f"{spelled} has no effect with {what}; leave it out{advice}")


def _draw_maps(arguments: Arguments) -> None:
    optimizers = list(arguments.optimizers or USUAL)
    budget, rates = _counts(arguments)
    if arguments.basins:
        found = basins(arguments.surface, optimizers, lr=arguments.lr, rates=rates, budget=budget, seed=arguments.seed)
        for label, reason in found.skipped:
            console.note(f"{label} is skipped: {reason}")
        console.note(f"written: {found.save(arguments.basins)}")
    if arguments.speed_map:
        assert arguments.surface is not None
        made = speeds(arguments.surface, optimizers, arguments.over, budget=budget, seed=arguments.seed)
        console.note(f"written: {made.save(arguments.speed_map)}")


def _counts(arguments: Arguments) -> tuple[int, int]:
    """Return the budget and the number of rates."""
    return (
        BUDGET if arguments.budget is None else arguments.budget,
        RATES if arguments.rates is None else arguments.rates,
    )


def _trace(arguments: Arguments) -> None:
    traced = _of_training(arguments) if arguments.model else _of_surface(arguments)
    if arguments.as_json:
        print(json.dumps(_document(traced), indent=2))
    else:
        _show(traced)
    for file in arguments.out:
        traced.save(file)
        console.note(f"written: {file}")


def _of_surface(arguments: Arguments) -> Traced:
    budget, rates = _counts(arguments)
    starts = 1 if arguments.starts is None else arguments.starts
    return trace(
        arguments.surface,
        list(arguments.optimizers or USUAL),
        budget=budget,
        lr=arguments.lr,
        rates=rates,
        starts=[point(text) for text in arguments.points] or starts,
        seed=arguments.seed,
    )


def _of_training(arguments: Arguments) -> Traced:
    assert arguments.model is not None
    with console.messages():
        return trace_training(
            arguments.model,
            arguments.optimizers,
            preset=arguments.preset or PRESET,
            epochs=arguments.epochs,
            steps=arguments.steps,
            seed=arguments.seed,
            data_dir=arguments.data_dir,
        )


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
