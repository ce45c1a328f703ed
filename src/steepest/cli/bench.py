"""`steepest bench step`: measures, prints a table for each case, saves on request."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import torch
import typer
from rich.table import Table
from rich.text import Text

from steepest.bench import document, first_step, machine, peers
from steepest.bench.first_step import FirstStep
from steepest.bench.group import Entry, Group, run_group
from steepest.bench.plan import Plan, make_plan
from steepest.bench.timing import Timer
from steepest.cli import console, text
from steepest.study.errors import StudyError, UsageError
from steepest.study.records import machine as study_machine

INTERRUPTED: Final = 130
BUSY: Final = 0.25
"""Load per core before the run from which other work disturbs the timing."""
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
Rounds = Annotated[int | None, typer.Option(metavar="N", help="Rounds, instead of each case's own number.")]
Threads = Annotated[int | None, typer.Option(metavar="N", help="torch's threads. Default: torch's own choice.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Save everything to a file.")]
Device = Annotated[str, typer.Option(metavar="cpu|cuda", help="Where the parameters are.")]


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
    _set_threads(threads)
    run = Run(plan, _about(device), _writable(json_file))
    raise typer.Exit(run.carry_out(first_steps))


def _split(modes: Sequence[str] | None) -> list[str]:
    return [mode.strip() for given in modes or () for mode in given.split(",")]


def _set_threads(threads: int | None) -> None:
    if threads is None:
        return
    if threads < 1:
        raise UsageError(f"--threads must be at least 1, not {threads}")
    torch.set_num_threads(threads)


def _writable(path: Path | None) -> Path | None:
    """Refuse an output file that cannot be written, before anything is measured."""
    if path is not None and path.is_dir():
        raise UsageError(f"--json {path} is a folder; give a file in it")
    if path is not None and not path.parent.is_dir():
        raise UsageError(f"--json {path}: there is no folder {path.parent}; make it first")
    return path


def _about(device: str) -> dict[str, Any]:
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["steepest", *sys.argv[1:]]),
        "machine": {**study_machine.machine(), **machine.describe(device)},
        "versions": study_machine.versions(),
        "commit": study_machine.commit(),
    }


@dataclass
class Run:
    """A run of a plan: every case is printed when it is complete, and every group is saved at once."""

    plan: Plan
    about: dict[str, Any]
    json_file: Path | None
    groups: list[Group] = field(default_factory=list)
    first_steps: list[FirstStep] = field(default_factory=list)
    printed: int = 0

    def carry_out(self, first_steps: bool) -> int:
        """Measure, print and save; return the exit code."""
        self._introduce()
        try:
            self._measure_groups()
            if first_steps:
                self._measure_first_steps()
        except KeyboardInterrupt:
            return self._interrupted()
        self._save(complete=True)
        return self._conclude()

    def _introduce(self) -> None:
        screen = console.out()
        for line in introduction(self.plan, self.about):
            screen.print(line, markup=False)

    def _measure_groups(self) -> None:
        timer, jobs = Timer.of(self.plan.device), self.plan.jobs
        for place, (case, recipe) in enumerate(jobs, 1):
            _say(f"[{place}/{len(jobs)}] {case.name}: {recipe.label}")
            if self.groups and self.groups[-1].case != case.name:
                self._print_case()
            taking_part = self.plan.implementations(recipe)
            rounds = self.plan.rounds_of(case)
            self.groups.append(run_group(case, recipe.label, taking_part, rounds, timer, self.plan.device))
            self._save(complete=False)
        self._print_case()

    def _measure_first_steps(self) -> None:
        wanted = self.plan.first_steps
        for place, (recipe, implementation) in enumerate(wanted, 1):
            _say(f"[{place}/{len(wanted)}] first step: {recipe.label}, {implementation.name}")
            self.first_steps.append(first_step.measure(recipe, implementation, self.plan.device))
        self._print_first_steps()

    def _print_case(self) -> None:
        """Print the groups that are not printed yet. All of them belong to one case."""
        groups, self.printed = self.groups[self.printed :], len(self.groups)
        if groups:
            notes = [COPIES] * any(entry.writes_gradients for group in groups for entry in group.entries)
            _show(_title(self.plan, groups[0]), case_table(groups), notes + missing(_pairs(groups)))

    def _print_first_steps(self) -> None:
        if self.first_steps:
            pairs = [(first.rule, first) for first in self.first_steps]
            title = "First step on a tiny model, in a new process: cache empty (cold), then filled (warm)"
            _show(title, first_step_table(self.first_steps), missing(pairs))

    def _save(self, complete: bool) -> None:
        if self.json_file is None:
            return
        content = document.document(self.plan, self.groups, self.first_steps, self.about, complete)
        try:
            document.write(self.json_file, content)
        except OSError as error:
            raise StudyError(f"cannot write {self.json_file}: {error.strerror or error}") from error

    def _interrupted(self) -> int:
        self._print_case()
        self._print_first_steps()
        self._save(complete=False)
        saved = f"; they are saved in {self.json_file}" if self.json_file else ""
        done = f"{text.count(len(self.groups), 'group')} of {len(self.plan.jobs)}"
        _say(f"Interrupted. The tables above hold what was finished: {done}{saved}")
        return INTERRUPTED

    def _conclude(self) -> int:
        if self.json_file:
            console.out().print(f"saved: {self.json_file}", markup=False)
        without = sorted({group.rule for group in self.groups if not group.has_own})
        if without:
            _say(f"Error: none of Steepest's modes {', '.join(self.plan.modes)} could run: {', '.join(without)}")
        return 1 if without else 0


def introduction(plan: Plan, about: dict[str, Any]) -> Iterator[str]:
    """Yield the lines on the machine, the versions and the optimizers that are left out."""
    facts, versions = about["machine"], about["versions"]
    caches = ", ".join(f"{name} {size}" for name, size in facts["caches"].items())
    yield f"machine    {facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; {caches or 'caches unknown'}"
    yield f"running    {text.count(facts['threads'], 'thread')} on {facts['device']}; compiler {facts['compiler']}"
    yield f"versions   {', '.join(f'{name} {version}' for name, version in versions.items())}"
    if plan.peers:
        here = ", ".join(f"{name} {version}" for name, version in peers.installed().items())
        yield f"peers      {here or 'none'}; not installed: {', '.join(peers.absent()) or 'none'}"
    if facts["load"] is not None and facts["load"] > BUSY * facts["cores"]:
        yield f"LOAD       {facts['load']:.1f} before the run: other work goes on here, and no figure below is reliable"
    for name, reason in plan.left_out.items():
        yield f"left out   {name}: {reason}"
    yield ""


def case_table(groups: Sequence[Group]) -> Table:
    """Return a table with one row per implementation; the fastest first, rule by rule."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("rule")
    grid.add_column("who")
    grid.add_column("executor")
    for heading in ("step", "quartiles", "vs torch's best", "GB/s", "of in-place add", "extra memory"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for group in groups:
        if grid.row_count:
            grid.add_row()
        for place, entry in enumerate(sorted(group.measured, key=lambda e: e.median)):
            grid.add_row(Text("" if place else group.rule), *_cells(group, entry))
    return grid


def _cells(group: Group, entry: Entry) -> tuple[str, ...]:
    low, median, high = entry.quartiles
    ratio = group.ratio(entry)
    return (
        entry.name + ("*" if entry.writes_gradients else ""),
        entry.executor or "",
        duration(median),
        f"{duration(low)} – {duration(high)}",
        "–" if ratio is None else f"{ratio:.2f}x",
        f"{entry.bytes_per_second / 1e9:.1f}",
        f"{group.of_add(entry):.2f}",
        size(entry.peak_bytes),
    )


def first_step_table(measured: Sequence[FirstStep]) -> Table:
    """Return a table with one row per implementation."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("rule")
    grid.add_column("who")
    for heading in ("cold", "warm"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for first in measured:
        if first.cold is not None and first.warm is not None:
            grid.add_row(Text(first.rule), f"{first.source} {first.mode}", duration(first.cold), duration(first.warm))
    return grid


def _pairs(groups: Sequence[Group]) -> list[tuple[str, Entry]]:
    return [(group.rule, entry) for group in groups for entry in group.entries]


def missing(measured: Sequence[tuple[str, Entry | FirstStep]]) -> list[str]:
    """Return a line per unavailable implementation with the reason. Rules with the same reason share a line."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for rule, entry in measured:
        if entry.unavailable is not None:
            reasons.setdefault((f"{entry.source} {entry.mode}", entry.unavailable), []).append(rule)
    return [f"not available: {who} ({', '.join(rules)}): {reason}" for (who, reason), rules in reasons.items()]


def duration(seconds: float) -> str:
    """Return a short time with three digits.

    >>> duration(12.345e-6), duration(0.0123), duration(1.5)
    ('12.3 µs', '12.3 ms', '1.50 s')
    """
    unit, factor = next((u, f) for u, f in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if seconds * f >= 1 or u == "µs")
    value = seconds * factor
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


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


def _show(title: str, table: Table, notes: Sequence[str]) -> None:
    screen = console.out()
    screen.print(title, style="bold", markup=False)
    screen.print(table)
    for note in notes:
        screen.print(note, markup=False)
    screen.print()


def _say(message: str) -> None:
    console.err().print(message, markup=False)
