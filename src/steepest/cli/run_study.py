"""`steepest study`: prints the introduction, runs the study with its progress, prints the results."""

import math
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live

from steepest.cli import console, introduction, reporting, results, text
from steepest.cli.live import LiveTable
from steepest.cli.plain import PlainLines
from steepest.cli.preparation import prepare
from steepest.study.planning.budget import Budget
from steepest.study.records.format import FAILED, TIMED_OUT
from steepest.study.report.findings.findings import findings
from steepest.study.report.stored.reader import read_study
from steepest.study.running import engine, signals
from steepest.study.running.engine import Callback, RunSummary
from steepest.study.running.memory import keep_freed_memory
from steepest.study.running.preparation import Arguments, Prepared
from steepest.study.running.progress import Progress
from steepest.study.running.store import StudyFolder
from steepest.study.running.worker_limits import WorkerLimits


def study(arguments: Arguments) -> int:
    """Run a study to its report; return the exit code."""
    keep_freed_memory()
    command = shlex.join(["steepest", *sys.argv[1:]])
    prepared = prepare(arguments, command)
    return run(prepared, arguments.data_dir, arguments.limits, command, arguments.budget)


def run(
    prepared: Prepared, data_dir: Path | None, limits: WorkerLimits, command: str, budget: Budget | None = None
) -> int:
    """Run a prepared study to its report, or until its budget is spent; return the exit code."""
    screen = console.out()
    introduction.show(screen, prepared)
    plan, folder = prepared.plan, prepared.folder
    progress = Progress(plan, folder, limits.at_once)
    order = list(prepared.request.workload.settings)
    deadline = budget.deadline if budget else math.inf
    with (
        _watching(screen, progress) as callback,
        limits.workers(folder, data_dir, prepared.request) as workers,
    ):
        summary = engine.run(plan, folder, callback, order=order, workers=workers, deadline=deadline)
    for note in summary.notes:
        console.note(note)
    if summary.signal is not None:
        return _interrupted(folder, command, summary.signal)
    _conclude(screen, folder, summary)
    if budget and summary.left:
        _spent(budget, summary.left, command)
    return 1 if _unfinished(summary) else 0


@contextmanager
def _watching(screen: Console, progress: Progress) -> Iterator[Callback]:
    if not screen.is_terminal:
        yield PlainLines(progress, screen)
        return
    with Live(LiveTable(progress), console=screen, refresh_per_second=2, vertical_overflow="crop"):
        yield progress


def _spent(budget: Budget, left: int, command: str) -> None:
    trials = "1 trial of this stage has" if left == 1 else f"{left:,} trials of this stage have"
    words = f"The budget of {budget.text} is spent, and {trials} not run. Nothing is lost. To continue: {command}"
    console.err().print(words, markup=False)


def _interrupted(folder: StudyFolder, command: str, signal: int) -> int:
    kept = f"Finished trials are kept in {folder.path} and shown by: steepest report {shlex.quote(str(folder.path))}"
    with suppress(OSError):  # a terminal that was closed
        console.err().print(f"Interrupted. {kept}\nTo continue: {command}", markup=False)
    return signals.exit_code(signal)


def _conclude(screen: Console, folder: StudyFolder, summary: RunSummary) -> None:
    outcome = findings(read_study(folder.path))
    screen.print()
    if summary.skipped:
        screen.print(f"{text.count(summary.skipped, 'trial')} had been done before and did not run again.")
    results.show(screen, outcome)
    screen.print(f"report: {reporting.write(folder.path)}", markup=False)
    for line in _unfinished(summary):
        console.err().print(f"Error: {line.format(folder=folder.path)}", markup=False)


def _unfinished(summary: RunSummary) -> list[str]:
    """Return a sentence for the trials that the same command would try again."""
    lines = {
        FAILED: "failed; tracebacks are in {folder}/trials and in the report; the same command tries again",
        TIMED_OUT: "took longer than --time-limit, the worst result; the same command with a longer one tries again",
    }
    counts = {status: summary.ended[status] for status in lines if summary.ended[status]}
    return [f"{text.count(count, 'trial')} {lines[status]}" for status, count in counts.items()]
