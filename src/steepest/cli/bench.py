"""`steepest bench step`: measures, prints a table for each case, saves on request."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from steepest.bench import document, first_step, peers
from steepest.bench.cases import Case
from steepest.bench.first_step import FirstStep
from steepest.bench.group import Entry, Group, run_group
from steepest.bench.plan import Plan, make_plan
from steepest.bench.timing import Timer
from steepest.cli import bench_train, text
from steepest.cli.bench_run import (
    Device,
    JsonFile,
    Rounds,
    Run,
    Threads,
    about,
    add_rows,
    duration,
    grid,
    missing,
    say,
    set_threads,
    show,
    spread,
    times,
    writable,
)
from steepest.registry import Recipe
from steepest.study.errors import UsageError

COPIES: Final = "*: its step changes the gradients, so it was given copies of them, outside the clock"

app = typer.Typer(help="Measure the optimizers themselves.", no_args_is_help=True, rich_markup_mode=None)

Rules = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RULE[key=value,...]]...", help="Rules, perhaps with options. Default: all."),
]
CaseNames = Annotated[
    list[str] | None,
    typer.Option(
        "--case", metavar="NAME", help="small, matrices, cnn, resnet18, gpt2-small, 100m; repeatable. Default: all."
    ),
]
Modes = Annotated[
    list[str] | None,
    typer.Option("--modes", metavar="NAME,...", help="Ours: default, loop, foreach, fused. Default: all; torch's too."),
]
Peers = Annotated[bool, typer.Option("--peers/--no-peers", help="Whether installed libraries take part.")]
FirstSteps = Annotated[bool, typer.Option("--first-step/--no-first-step", help="Whether to measure first steps.")]


@app.command("step")
def step(
    rules: Rules = None,
    case_names: CaseNames = None,
    modes: Modes = None,
    peers_too: Peers = True,
    first_steps: FirstSteps = True,
    rounds: Rounds = None,
    threads: Threads = None,
    json_file: JsonFile = None,
    device: Device = "cpu",
) -> None:
    """Time optimizer.step(): ours, torch's and other libraries', in turn, in one run."""
    try:
        plan = make_plan(rules or (), case_names or (), _split(modes), peers_too, rounds, device)
    except ValueError as error:
        raise UsageError(str(error)) from error
    set_threads(threads)
    run = StepRun(plan, about(device), writable(json_file), wants_first_steps=first_steps)
    raise typer.Exit(run.carry_out())


app.command("train")(bench_train.train)


def _split(modes: Sequence[str] | None) -> list[str]:
    return [mode.strip() for given in modes or () for mode in given.split(",")]


@dataclass
class StepRun(Run[Case, Group]):
    """A run of `steepest bench step`: groups, then first steps."""

    plan: Plan
    wants_first_steps: bool = True
    first_steps: list[FirstStep] = field(default_factory=list)

    def introduction(self) -> Iterator[str]:
        """Yield lines on other libraries, and on the optimizers that are left out."""
        if self.plan.peers:
            here = ", ".join(f"{name} {version}" for name, version in peers.installed().items())
            yield f"peers      {here or 'none'}; not installed: {', '.join(peers.absent()) or 'none'}"
        for name, reason in self.plan.left_out.items():
            yield f"left out   {name}: {reason}"

    def run_group(self, case: Case, recipe: Recipe, timer: Timer) -> Group:
        """Measure one group."""
        taking_part = self.plan.implementations(recipe)
        return run_group(case, recipe.label, taking_part, self.plan.rounds_of(case), timer, self.plan.device)

    def document(self, complete: bool) -> Mapping[str, Any]:
        """Return everything that was measured."""
        return document.document(self.plan, self.groups, self.first_steps, self.about, complete)

    def measure(self) -> None:
        """Measure the groups, then the first steps."""
        super().measure()
        if not self.wants_first_steps:
            return
        wanted = self.plan.first_steps
        for place, (recipe, implementation) in enumerate(wanted, 1):
            say(f"[{place}/{len(wanted)}] first step: {recipe.label}, {implementation.name}")
            self.first_steps.append(first_step.measure(recipe, implementation, self.plan.device))
        self.print_rest()

    def print_groups(self, groups: Sequence[Group]) -> None:
        """Print one case."""
        entries = [(group.rule, entry) for group in groups for entry in group.entries]
        notes = [COPIES] * any(entry.writes_gradients for _, entry in entries)
        absent = missing([(rule, f"{entry.source} {entry.mode}", entry) for rule, entry in entries])
        show(_title(self.plan, groups[0]), [case_table(groups)], notes + absent)

    def print_rest(self) -> None:
        """Print the groups and first steps that are not printed yet."""
        super().print_rest()
        if self.first_steps:
            title = "First step on a tiny model, in a new process: cache empty (cold), then filled (warm)"
            absent = missing([(first.rule, f"{first.source} {first.mode}", first) for first in self.first_steps])
            show(title, [first_step_table(self.first_steps)], absent)


def case_table(groups: Sequence[Group]) -> Table:
    """Return a table with one row per implementation; the fastest first, rule by rule."""
    numbers = ("step", "quartiles", "vs torch's best", "GB/s", "of in-place add", "extra memory")
    table = grid(("rule", "who", "executor"), numbers)
    for group in groups:
        add_rows(table, group.rule, [_cells(group, e) for e in sorted(group.measured, key=lambda e: e.median)])
    return table


def _cells(group: Group, entry: Entry) -> tuple[str, ...]:
    low, median, high = entry.quartiles
    return (
        entry.name + ("*" if entry.writes_gradients else ""),
        entry.executor or "",
        duration(median),
        spread(low, high),
        times(group.ratio(entry)),
        f"{entry.bytes_per_second / 1e9:.1f}",
        f"{group.of_add(entry):.2f}",
        size(entry.peak_bytes),
    )


def first_step_table(measured: Sequence[FirstStep]) -> Table:
    """Return a table with one row per implementation."""
    table = grid(("rule", "who"), ("cold", "warm"))
    for first in measured:
        if first.cold is not None and first.warm is not None:
            table.add_row(Text(first.rule), f"{first.source} {first.mode}", duration(first.cold), duration(first.warm))
    return table


def size(count: int | None) -> str:
    """Return a number of bytes; less than the resolution of the measurement is "< 1 MiB".

    >>> size(None), size(4096), size(3 * 2**20)
    ('–', '< 1 MiB', '3 MiB')
    """
    if count is None:
        return "–"
    return f"{count / 2**20:,.0f} MiB" if count >= 2**20 else "< 1 MiB"


def _title(plan: Plan, group: Group) -> str:
    case = next(case for case in plan.cases if case.name == group.case)
    numbers = f"{text.count(len(case.shapes), 'tensor')}, {case.elements:,} floats, {text.count(group.rounds, 'round')}"
    return f"{case.name}: {case.title} ({numbers})"
