"""`steepest bench train`: times whole training steps, shows their memory, saves on request."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from steepest.bench.timing import Timer
from steepest.bench.train import document, memory
from steepest.bench.train.cases import CASES, TrainingCase
from steepest.bench.train.group import TrainingEntry, TrainingGroup, run_group
from steepest.bench.train.memory import MemoryEntry
from steepest.bench.train.plan import USUAL, TrainingPlan, make_plan
from steepest.cli import text
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
    set_threads,
    show,
    spread,
    times,
    writable,
)
from steepest.registry import Recipe
from steepest.study.errors import UsageError

WHERE: Final = {False: "after backward", True: "in backward"}
MIB: Final = 2**20

Rules = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RULE[key=value,...]]...",
        help=f"Rules, perhaps with options. Default: {', '.join(USUAL)}.",
    ),
]
CaseNames = Annotated[
    list[str] | None,
    typer.Option("--case", metavar="NAME", help=f"{', '.join(CASES)}; repeatable. Default: all."),
]
Compile = Annotated[
    bool, typer.Option("--compile/--no-compile", help="Whether model and step also run under torch.compile.")
]
Memory = Annotated[bool, typer.Option("--memory/--no-memory", help="Whether to measure the memory of training steps.")]
Batch = Annotated[int | None, typer.Option(metavar="N", help="Examples in a batch, instead of each case's own number.")]


def train(
    rules: Rules = None,
    case_names: CaseNames = None,
    compiles: Compile = True,
    memory_too: Memory = True,
    batch: Batch = None,
    rounds: Rounds = None,
    threads: Threads = None,
    json_file: JsonFile = None,
    device: Device = "cpu",
) -> None:
    """Time forward, backward and step of whole models, ours and torch's in turn; show the memory."""
    try:
        plan = make_plan(rules or (), case_names or (), compiles, memory_too, batch, rounds, device)
    except ValueError as error:
        raise UsageError(str(error)) from error
    set_threads(threads)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler would print two lines per measurement of memory
    raise typer.Exit(TrainingRun(plan, about(device), writable(json_file)).carry_out())


@dataclass
class TrainingRun(Run[TrainingCase, TrainingGroup]):
    """A run of `steepest bench train`."""

    plan: TrainingPlan

    def introduction(self) -> Iterator[str]:
        """Yield nothing: what takes part is in the tables."""
        yield from ()

    def run_group(self, case: TrainingCase, recipe: Recipe, timer: Timer) -> TrainingGroup:
        """Measure times, then memory, of one group."""
        plan, taking_part = self.plan, self.plan.implementations(recipe)
        rounds = plan.rounds_of(case)
        group = run_group(case, recipe.label, taking_part, plan.ways, rounds, timer, plan.device)
        if not plan.memory:
            return group
        return replace(group, memory=memory.measure(case, memory.candidates(recipe, taking_part), plan.device))

    def document(self, complete: bool) -> Mapping[str, Any]:
        """Return everything that was measured."""
        return document.document(self.plan, self.groups, self.about, complete)

    def print_groups(self, groups: Sequence[TrainingGroup]) -> None:
        """Print the times of one case, then the memory."""
        case = next(case for case in self.plan.cases if case.name == groups[0].case)
        batch, rounds = text.count(case.batch_size, "example"), text.count(groups[0].rounds, "round")
        timed = [(group.rule, f"{e.name} [compiled: {e.compiled}]", e) for group in groups for e in group.entries]
        show(f"{case.name}: {case.title} ({batch}, {rounds})", [time_table(groups)], missing(timed))
        if self.plan.memory:
            kept = [(group.rule, _kept(e), e) for group in groups for e in group.memory]
            show(f"{case.name}: memory of a training step ({batch})", [memory_table(groups)], missing(kept))


def time_table(groups: Sequence[TrainingGroup]) -> Table:
    """Return a table with one row per implementation and way, rule by rule, the fastest of each way first."""
    numbers = ("fwd + bwd", "step", "quartiles", "vs torch", "whole", "quartiles", "vs torch", "share")
    table = grid(("rule", "compiled", "who", "executor"), numbers)
    for group in groups:
        order = list(dict.fromkeys(entry.compiled for entry in group.entries))
        ordered = sorted(group.measured, key=lambda entry: (order.index(entry.compiled), entry.median("whole")))
        add_rows(table, group.rule, [_times(group, entry) for entry in ordered])
    return table


def _times(group: TrainingGroup, entry: TrainingEntry) -> tuple[str, ...]:
    step, whole = entry.quartiles("step"), entry.quartiles("whole")
    return (
        entry.compiled,
        entry.name,
        entry.executor or "",
        duration(entry.median("forward_backward")),
        duration(step[1]),
        spread(step[0], step[2]),
        times(group.ratio(entry, "step")),
        duration(whole[1]),
        spread(whole[0], whole[2]),
        times(group.ratio(entry, "whole")),
        f"{entry.share_of_step:.1%}",
    )


def memory_table(groups: Sequence[TrainingGroup]) -> Table:
    """Return a table with one row per implementation, kind of state and place of the step."""
    table = grid(("rule", "who", "state", "step"), ("between steps", "peak"))
    for group in groups:
        add_rows(table, group.rule, [_bytes(entry) for entry in group.memory if entry.unavailable is None])
    return table


def _bytes(entry: MemoryEntry) -> tuple[str, ...]:
    return (entry.name, entry.state, WHERE[entry.in_backward], size(entry.held_bytes), size(entry.peak_bytes))


def _kept(entry: MemoryEntry) -> str:
    return f"{entry.name} [{entry.state} state, step {WHERE[entry.in_backward]}]"


def size(count: int) -> str:
    """Return a number of bytes that is exact, with two decimals.

    >>> size(3 * 2**20), size(2**16)
    ('3.00 MiB', '0.06 MiB')
    """
    return f"{count / MIB:,.2f} MiB"
