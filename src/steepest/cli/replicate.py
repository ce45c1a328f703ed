"""`steepest replicate`: a study's plan on fresh seeds, and whether the verdicts agree."""

import shlex
import sys
from pathlib import Path

from steepest.cli import console, reporting, run_study
from steepest.cli.preparation import Prepared, data_of
from steepest.cli.worker_limits import WorkerLimits
from steepest.study.errors import UsageError
from steepest.study.planning import replication
from steepest.study.planning.plan import make_plan
from steepest.study.records.format import INTERRUPTED, UNSTARTED
from steepest.study.report.stored.reader import read_study
from steepest.study.running.memory import keep_freed_memory
from steepest.study.running.store import StudyFolder


def replicate(path: Path, out: Path | None, data_dir: Path | None, limits: WorkerLimits) -> int:
    """Run the plan of a study again on fresh seeds, print how the verdicts compare, and return the exit code."""
    keep_freed_memory()
    command = shlex.join(["steepest", *sys.argv[1:]])
    prepared = _prepared(path, out or _beside(path), data_dir, command)
    code = run_study.run(prepared, data_dir, limits, command)
    if code > 1:  # interrupted
        return code
    screen = console.out()
    screen.print()
    for line in reporting.write_replication(path, prepared.folder.path):
        screen.print(line, markup=False)
    screen.print(f"replication: {prepared.folder.path / 'replication.json'}", markup=False)
    return code


def _prepared(path: Path, out: Path, data_dir: Path | None, command: str) -> Prepared:
    document = StudyFolder(path).document()
    if out.resolve() == path.resolve():
        raise UsageError(f"--out {out} is the study itself, and a replication has a folder of its own")
    _check_finished(path, document.command)
    request = replication.replicating(document, path)
    with console.messages():
        data = data_of(request, data_dir)
    plan = make_plan(request, data, command)
    replication.check_same(document, plan.document)
    return Prepared(request, data, plan, StudyFolder(out))


def _check_finished(path: Path, command: str) -> None:
    study = read_study(path)
    waiting = [trial.id for trial in study.trials if trial.status in (INTERRUPTED, UNSTARTED)]
    if waiting or not study.trials:
        left = f"{len(waiting)} of its trials have not ended" if waiting else "it has not evaluated anything yet"
        raise UsageError(f"{path} has no verdicts to repeat: {left}. Finish it first: {command}")


def _beside(path: Path) -> Path:
    place = path if path.name else path.resolve()
    return place.with_name(f"{place.name}-replication")
