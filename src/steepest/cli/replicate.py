"""`steepest replicate`: the plan of a study, or of several, on fresh seeds, and whether the verdicts agree."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from steepest.cli import console, reporting, run_study, run_suite
from steepest.study.errors import StoreError, UsageError
from steepest.study.planning import replication, suites
from steepest.study.planning.plan import make_plan
from steepest.study.records.format import INTERRUPTED, UNSTARTED
from steepest.study.records.suite import SuiteDocument, read_suite
from steepest.study.report.stored.reader import read_study
from steepest.study.running.memory import keep_freed_memory
from steepest.study.running.preparation import Prepared, check_is_no_suite, data_of
from steepest.study.running.store import StudyFolder
from steepest.study.running.suite_preparation import Part, check_root
from steepest.study.running.worker_limits import WorkerLimits


def replicate(path: Path, out: Path | None, data_dir: Path | None, limits: WorkerLimits) -> int:
    """Run the plan of a study, or of several, again on fresh seeds; print how the verdicts compare.

    Return the exit code.
    """
    keep_freed_memory()
    command = shlex.join(["steepest", *sys.argv[1:]])
    root, suite = out or _beside(path), read_suite(path)
    if root.resolve() == path.resolve():
        raise UsageError(f"--out {root} is the study itself, and a replication has a folder of its own")
    if suite is not None:
        return _replicate_suite(path, suite, root, data_dir, limits, command)
    if StudyFolder(path).read_document() is None:
        raise StoreError(
            f"{path} is not a study folder: it has neither study.json nor the suite.json of several studies"
        )
    _check_finished(path)
    check_is_no_suite(root)
    code = run_study.run(_prepared(path, root, data_dir, command), data_dir, limits, command)
    return code if code > 1 else _told(code, reporting.write_replication(path, root), root)


def _replicate_suite(
    path: Path, suite: SuiteDocument, root: Path, data_dir: Path | None, limits: WorkerLimits, command: str
) -> int:
    """Prepare all studies before the first one runs, run them into one folder, and compare each with the first."""
    _check_suite_finished(path, suite)
    folders = {entry.source: entry.folder for entry in suite.workloads}
    check_root(root, folders)
    made = suites.each(folders, lambda name: _prepared(path / name, root / name, data_dir, command))
    document = SuiteDocument(name=suite.name, workloads=suite.workloads, command=command)
    code = run_suite.run(list(map(Part, made)), root, document, data_dir, limits)
    return code if code > 1 else _told(code, reporting.write_replications(path, root, list(folders.values())), root)


def _told(code: int, lines: Sequence[str], root: Path) -> int:
    screen = console.out()
    screen.print()
    for line in (*lines, f"replication: {root / 'replication.json'}"):
        screen.print(line, markup=False)
    return code


def _prepared(path: Path, out: Path, data_dir: Path | None, command: str) -> Prepared:
    document = StudyFolder(path).document()
    request = replication.replicating(document, path)
    with console.messages():
        data = data_of(request, data_dir)
    plan = make_plan(request, data, command)
    replication.check_same(document, plan.document)
    return Prepared(request, data, plan, StudyFolder(out))


def _check_finished(path: Path) -> None:
    left = _left(path)
    if left:
        raise UsageError(
            f"{path} has no verdicts to repeat: {left}. Finish it first: {StudyFolder(path).document().command}"
        )


def _check_suite_finished(path: Path, suite: SuiteDocument) -> None:
    """Raise UsageError with all studies of the suite that are missing or have not ended."""
    missing = [entry.folder for entry in suite.workloads if StudyFolder(path / entry.folder).read_document() is None]
    if missing:
        raise UsageError(
            f"{path} is no whole study of several workloads: there is no study.json in {', '.join(missing)}. Put it "
            f"back, or run the command again: {suite.command}"
        )
    left = [f"{entry.folder}: {words}" for entry in suite.workloads if (words := _left(path / entry.folder))]
    if left:
        raise UsageError(f"{path} is not finished ({'; '.join(left)}). Finish it first: {suite.command}")


def _left(path: Path) -> str:
    """Say what a study has left to run; empty for a finished one."""
    trials = read_study(path).trials
    waiting = sum(trial.status in (INTERRUPTED, UNSTARTED) for trial in trials)
    if not trials:
        return "it has not evaluated anything yet"
    return f"{waiting} of its trials have not ended" if waiting else ""


def _beside(path: Path) -> Path:
    place = path if path.name else path.resolve()
    return place.with_name(f"{place.name}-replication")
