"""Shared parts of `steepest bench step` and `steepest bench train`: options, the course of a run, tables."""

import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar

import torch
import typer
from rich.table import Table
from rich.text import Text

from steepest.bench import document, machine
from steepest.bench.timing import Timer
from steepest.cli import console, text
from steepest.registry import Recipe
from steepest.study.errors import StudyError, UsageError
from steepest.study.records import machine as study_machine

INTERRUPTED: Final = 130
BUSY: Final = 0.25
"""Load per core before the run from which other work disturbs the timing."""

Rounds = Annotated[int | None, typer.Option(metavar="N", help="Rounds, instead of each case's own number.")]
Threads = Annotated[int | None, typer.Option(metavar="N", help="torch's threads. Default: torch's own choice.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Save everything to a file.")]
Device = Annotated[str, typer.Option(metavar="cpu|cuda", help="Where the parameters are.")]


class NamedCase(Protocol):
    """A case of either command."""

    @property
    def name(self) -> str:
        """Its name on the command line."""


class AnyGroup(Protocol):
    """The results of one rule over one case."""

    @property
    def case(self) -> str:
        """The case's name."""

    @property
    def rule(self) -> str:
        """The rule's label."""

    @property
    def has_own(self) -> bool:
        """True if any of ours ran."""


CaseT_co = TypeVar("CaseT_co", bound=NamedCase, covariant=True)
CaseT = TypeVar("CaseT", bound=NamedCase)
GroupT = TypeVar("GroupT", bound=AnyGroup)


class AnyPlan(Protocol[CaseT_co]):
    """The plan of either command."""

    @property
    def jobs(self) -> Sequence[tuple[CaseT_co, Recipe]]:
        """The groups to run, all of one case after those of another."""

    @property
    def device(self) -> str:
        """The device."""


def set_threads(threads: int | None) -> None:
    """Set the number of torch's threads, if one is given."""
    if threads is None:
        return
    if threads < 1:
        raise UsageError(f"--threads must be at least 1, not {threads}")
    torch.set_num_threads(threads)


def writable(path: Path | None) -> Path | None:
    """Refuse an output file that cannot be written, before anything is measured."""
    if path is not None and path.is_dir():
        raise UsageError(f"--json {path} is a folder; give a file in it")
    if path is not None and not path.parent.is_dir():
        raise UsageError(f"--json {path}: there is no folder {path.parent}; make it first")
    return path


def about(device: str) -> dict[str, Any]:
    """Return when, how and on what a run takes place."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["steepest", *sys.argv[1:]]),
        "machine": {**study_machine.machine(), **machine.describe(device)},
        "versions": study_machine.versions(),
        "commit": study_machine.commit(),
    }


@dataclass
class Run(ABC, Generic[CaseT, GroupT]):
    """A run of a plan: every case is printed when it is complete, and every group is saved at once."""

    plan: AnyPlan[CaseT]
    about: dict[str, Any]
    json_file: Path | None
    groups: list[GroupT] = field(default_factory=list)
    printed: int = 0

    @abstractmethod
    def introduction(self) -> Iterator[str]:
        """Yield lines to print before the run, after those on the machine."""

    @abstractmethod
    def run_group(self, case: CaseT, recipe: Recipe, timer: Timer) -> GroupT:
        """Measure one group."""

    @abstractmethod
    def print_groups(self, groups: Sequence[GroupT]) -> None:
        """Print groups, all of one case."""

    @abstractmethod
    def document(self, complete: bool) -> Mapping[str, Any]:
        """Return everything that was measured."""

    def measure(self) -> None:
        """Measure everything. A subclass adds what it measures in addition to the groups."""
        timer, jobs = Timer.of(self.plan.device), self.plan.jobs
        for place, (case, recipe) in enumerate(jobs, 1):
            say(f"[{place}/{len(jobs)}] {case.name}: {recipe.label}")
            if self.groups and self.groups[-1].case != case.name:
                self.print_rest()
            self.groups.append(self.run_group(case, recipe, timer))
            self._save(complete=False)
        self.print_rest()

    def print_rest(self) -> None:
        """Print what is measured and not printed yet."""
        groups, self.printed = self.groups[self.printed :], len(self.groups)
        if groups:
            self.print_groups(groups)

    def carry_out(self) -> int:
        """Measure, print and save; return the exit code."""
        screen = console.out()
        for line in (*about_machine(self.about), *self.introduction(), ""):
            screen.print(line, markup=False)
        try:
            self.measure()
        except KeyboardInterrupt:
            return self._interrupted()
        self._save(complete=True)
        return self._conclude()

    def _save(self, complete: bool) -> None:
        if self.json_file is None:
            return
        try:
            document.write(self.json_file, self.document(complete))
        except OSError as error:
            raise StudyError(f"cannot write {self.json_file}: {error.strerror or error}") from error

    def _interrupted(self) -> int:
        self.print_rest()
        self._save(complete=False)
        saved = f"; they are saved in {self.json_file}" if self.json_file else ""
        done = f"{text.count(len(self.groups), 'group')} of {len(self.plan.jobs)}"
        say(f"Interrupted. The tables above hold what was finished: {done}{saved}")
        return INTERRUPTED

    def _conclude(self) -> int:
        if self.json_file:
            console.out().print(f"saved: {self.json_file}", markup=False)
        without = sorted({group.rule for group in self.groups if not group.has_own})
        if without:
            say(f"Error: none of Steepest's modes that take part could run: {', '.join(without)}")
        return 1 if without else 0


def about_machine(about: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines on the machine and the versions."""
    facts, versions = about["machine"], about["versions"]
    caches = ", ".join(f"{name} {size}" for name, size in facts["caches"].items())
    yield f"machine    {facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; {caches or 'caches unknown'}"
    yield f"running    {text.count(facts['threads'], 'thread')} on {facts['device']}; compiler {facts['compiler']}"
    yield f"versions   {', '.join(f'{name} {version}' for name, version in versions.items())}"
    if facts["load"] is not None and facts["load"] > BUSY * facts["cores"]:
        yield f"LOAD       {facts['load']:.1f} before the run: other work goes on here, and no figure below is reliable"


def grid(words: Iterable[str], numbers: Iterable[str]) -> Table:
    """Return an empty table with columns of words, then of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in words:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def add_rows(table: Table, rule: str, rows: Sequence[Sequence[str]]) -> None:
    """Add the rows of a rule, whose label stands in the first of them only, after an empty row."""
    if table.row_count and rows:
        table.add_row()
    for place, cells in enumerate(rows):
        table.add_row(Text("" if place else rule), *cells)


class Unavailable(Protocol):
    """An entry of a table that may have a reason instead of numbers."""

    @property
    def unavailable(self) -> str | None:
        """The reason, or None."""


def missing(measured: Sequence[tuple[str, str, Unavailable]]) -> list[str]:
    """Return a line per reason for which entries are unavailable: the implementations, the rules, the reason.

    Implementations share a line if they are unavailable for the same rules.

    Args:
        measured: rule, name of the implementation, entry.
    """
    reasons: dict[tuple[str, str], list[str]] = {}
    for rule, who, entry in measured:
        if entry.unavailable is not None:
            reasons.setdefault((who, entry.unavailable), []).append(rule)
    lines: dict[tuple[str, str], list[str]] = {}
    for (who, reason), rules in reasons.items():
        lines.setdefault((", ".join(rules), reason), []).append(who)
    return [f"not available: {', '.join(who)} ({rules}): {reason}" for (rules, reason), who in lines.items()]


def duration(seconds: float) -> str:
    """Return a short time with three digits.

    >>> duration(12.345e-6), duration(0.0123), duration(1.5)
    ('12.3 µs', '12.3 ms', '1.50 s')
    """
    unit, factor = next((u, f) for u, f in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if seconds * f >= 1 or u == "µs")
    value = seconds * factor
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def spread(low: float, high: float) -> str:
    """Return two quartiles as a range."""
    return f"{duration(low)} – {duration(high)}"


def times(ratio: float | None) -> str:
    """Return a ratio.

    >>> times(2), times(None)
    ('2.00x', '–')
    """
    return "–" if ratio is None else f"{ratio:.2f}x"


def show(title: str, tables: Sequence[Table], notes: Sequence[str]) -> None:
    """Print tables under one title, and notes below them."""
    screen = console.out()
    screen.print(title, style="bold", markup=False)
    for table in tables:
        screen.print(table)
    for note in notes:
        screen.print(note, markup=False)
    screen.print()


def say(message: str) -> None:
    """Print a message on stderr."""
    console.err().print(message, markup=False)
