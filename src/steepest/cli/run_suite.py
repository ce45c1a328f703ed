"""`steepest study` of several workloads: one study after another, then the comparison across all of them."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from steepest.cli import console, planning, reporting, results, run_study, text
from steepest.cli.preparation import prepare_suite
from steepest.study.errors import MetricError, StudyError
from steepest.study.planning.estimate import Cost
from steepest.study.records.suite import SuiteDocument
from steepest.study.running.memory import keep_freed_memory
from steepest.study.running.store import StudyFolder
from steepest.study.running.suite_preparation import Part, SuiteArguments, lock
from steepest.study.running.worker_limits import WorkerLimits


def study(arguments: SuiteArguments) -> int:
    """Run the study of every workload, compare them, and return the exit code: the worst one of all studies."""
    keep_freed_memory()
    command = shlex.join(["steepest", *sys.argv[1:]])
    parts = prepare_suite(arguments, command)
    _introduce(console.out(), arguments)
    return run(parts, arguments.root, arguments.document(command), arguments.data_dir, arguments.limits)


def run(parts: Sequence[Part], root: Path, document: SuiteDocument, data_dir: Path | None, limits: WorkerLimits) -> int:
    """Run prepared studies, compare them, and return the exit code: the worst one of all studies."""
    screen, command = console.out(), document.command
    for note in lock(parts, root, document):
        console.note(note)
    codes = []
    for number, part in enumerate(parts, 1):
        screen.print(f"workload {number} of {len(parts)}: {part.source}", style="bold", markup=False)
        codes.append(_run(part, data_dir, limits, command))
        if codes[-1] > 1:  # interrupted
            return codes[-1]
        screen.print()
    _conclude(screen, root, [part.prepared.folder.path for part in parts])
    return max(codes)


def show(arguments: SuiteArguments) -> None:
    """Print the plans of all workloads, and what they take together, without writing anything."""
    parts, screen = prepare_suite(arguments, command=""), console.out()
    _introduce(screen, arguments)
    costs = []
    for part in parts:
        costs.append(planning.show_plan(screen, part.prepared, arguments.limits))
        if part.budget is not None:
            screen.print(f"share      {part.budget.text}", markup=False)
        screen.print()
    sequential = any(part.prepared.plan.document.protocol.looks for part in parts)
    words = planning.cost_in_words(_sum(costs), arguments.limits.at_once, sequential=sequential)
    for line in (
        f"total      {text.count(len(parts), 'workload')}, {words}",
        *planning.limit_in_words(arguments.limits),
    ):
        screen.print(line, markup=False)


def write_report(root: Path, document: SuiteDocument, out: Path | None) -> Path:
    """Write the comparison of a suite's studies anew and return the path of its page. Print no answer."""
    folders = _with_results([root / entry.folder for entry in document.workloads])
    if not folders:
        raise StudyError(f"no study in {root} has a result yet; go on with: {document.command}")
    return reporting.write_comparison(folders, out or root / "report")


def _introduce(screen: Console, arguments: SuiteArguments) -> None:
    first = arguments.requests[0]
    count = text.count(len(arguments.requests), "workload")
    screen.print(f"{arguments.name} ({first.preset_name}): {count}, one study each, in {arguments.root}", markup=False)
    screen.print()


def _run(part: Part, data_dir: Path | None, limits: WorkerLimits, command: str) -> int:
    """Run one study. A metric that is finite in no trial ends this study, and not the others."""
    try:
        return run_study.run(part.prepared, data_dir, limits, command, part.budget)
    except MetricError as error:
        console.err().print(f"Error: {part.source}: {error}", markup=False)
        return 1


def _conclude(screen: Console, root: Path, folders: Sequence[Path]) -> None:
    """Print the answer across the workloads and write its page, if more than one has results."""
    from steepest.study.report.across import contents
    from steepest.study.report.across.outcome import outcome

    kept = _with_results(folders)
    if len(kept) < 2:
        screen.print(f"Fewer than two of the {len(folders)} workloads have results, so there is nothing to compare.")
        return
    found = reporting.compare(kept)
    screen.print(f"across {text.count(len(kept), 'workload')}", style="bold")
    results.show_rows(screen, contents.answer(found), outcome(found), contents.cautions(found))
    screen.print(f"report: {reporting.write_across(found, kept, root / 'report')}", markup=False)


def _with_results(folders: Sequence[Path]) -> list[Path]:
    """Return the folders of studies with a result, and name the others in notes."""
    kept = [folder for folder in folders if StudyFolder(folder).has_result]
    for folder in folders:
        if folder not in kept:
            console.note(f"{folder} has no result yet, so the comparison leaves it out")
    return kept


def _sum(costs: Sequence[Cost]) -> Cost:
    return Cost(
        seconds=sum(cost.seconds for cost in costs),
        disk_bytes=sum(cost.disk_bytes for cost in costs),
        timing_seconds=sum(cost.timing_seconds for cost in costs),
    )
