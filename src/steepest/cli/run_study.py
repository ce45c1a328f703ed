"""`steepest study`: prints what will run, shows it running, prints what came out."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.live import Live

from steepest.cli import console, introduction, reporting, results, text
from steepest.cli.live import LiveTable
from steepest.cli.plain import PlainLines
from steepest.study import engine
from steepest.study.data import adapt
from steepest.study.engine import Tally, Watcher
from steepest.study.errors import UsageError
from steepest.study.memory import keep_freed_memory
from steepest.study.plan import make_plan
from steepest.study.processes import Processes
from steepest.study.progress import Progress
from steepest.study.report.findings import findings
from steepest.study.report.reader import read_study
from steepest.study.request import Request
from steepest.study.store import StudyFolder

SIGNALLED = 128  # plus the signal's number: the exit code of a program that a signal ended


@dataclass(frozen=True)
class Labour:
    """How many trials run at once, and how many minutes each may take."""

    jobs: int = 1
    time_limit: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.jobs < 1:
            raise UsageError(f"--jobs must be at least 1, not {self.jobs}")
        if self.time_limit is not None and self.time_limit <= 0:
            raise UsageError(f"--time-limit must be more than 0 minutes, not {self.time_limit:g}")

    @property
    def threads(self) -> int:
        """The threads of a trial that nobody has settled: torch's own, divided between the jobs."""
        return max(1, torch.get_num_threads() // self.jobs)

    def workers(self, folder: StudyFolder, data_dir: Path | None) -> Processes:
        """Return the processes that run the trials."""
        limit = None if self.time_limit is None else 60 * self.time_limit
        return Processes(folder, self.jobs, data_dir=data_dir, time_limit=limit)


def study(request: Request, out: Path | None, data_dir: Path | None, labour: Labour, extend: bool = False) -> int:
    """Run a study to its report; return the exit code. `extend` searches on first where an optimum lies on an edge."""
    keep_freed_memory()
    command = shlex.join(["steepest", *sys.argv[1:]])
    with console.messages():
        data = adapt.load(request.workload.data, data_dir)
    folder = StudyFolder(out or request.folder(fallback=data.fallback is not None))
    request = request.continuing(folder.read_document(), labour.threads)
    plan = make_plan(request, data, command)
    if extend:
        plan = make_plan(request.extended(engine.next_extension(plan, folder)), data, command)
    screen = console.out()
    introduction.show(screen, request, data, plan, folder.path)
    progress = Progress(plan, folder, labour.jobs)
    with _watching(screen, progress) as watcher, labour.workers(folder, data_dir) as workers:
        tally = engine.run(plan, folder, watcher, order=list(request.workload.settings), workers=workers)
    for note in tally.notes:
        console.err().print(f"note: {note}", markup=False)
    if tally.signal is not None:
        return _interrupted(folder, command, tally.signal)
    _conclude(screen, folder, tally)
    return 1 if tally.ended["failed"] else 0


@contextmanager
def _watching(screen: Console, progress: Progress) -> Iterator[Watcher]:
    if not screen.is_terminal:
        yield PlainLines(progress, screen)
        return
    with Live(LiveTable(progress), console=screen, refresh_per_second=4, vertical_overflow="crop"):
        yield progress


def _interrupted(folder: StudyFolder, command: str, signal: int) -> int:
    kept = f"Finished trials are kept in {folder.path} and shown by: steepest report {shlex.quote(str(folder.path))}"
    with suppress(OSError):  # a terminal that was closed
        console.err().print(f"Interrupted. {kept}\nTo continue: {command}", markup=False)
    return SIGNALLED + signal


def _conclude(screen: Console, folder: StudyFolder, tally: Tally) -> None:
    found = findings(read_study(folder.path))
    screen.print()
    if tally.skipped:
        screen.print(f"{text.count(tally.skipped, 'trial')} had been done before and did not run again.")
    screen.print(results.sentence(found), markup=False)
    screen.print()
    screen.print(results.table(found))
    screen.print()
    screen.print(f"report: {reporting.write(folder.path)}", markup=False)
    if tally.ended["failed"]:
        failed = text.count(tally.ended["failed"], "trial")
        advice = f"tracebacks are in {folder.path / 'trials'} and in the report; the same command tries again"
        console.err().print(f"Error: {failed} failed; {advice}", markup=False)
