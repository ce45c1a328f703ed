"""Preparation of `steepest study`: from its arguments to a plan and a folder, to be run or only printed."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from steepest.cli import console, introduction
from steepest.cli.worker_limits import WorkerLimits
from steepest.study.data import adapt
from steepest.study.data.dataset import DataSet
from steepest.study.declaration import Workload
from steepest.study.planning import remarks
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder


@dataclass(frozen=True)
class Arguments:
    """The arguments of a study: request, folder, data folder, worker limits, and whether it is extended."""

    request: Request
    out: Path | None
    data_dir: Path | None
    limits: WorkerLimits
    extend: bool


@dataclass(frozen=True)
class Prepared:
    """A study that is ready to run."""

    request: Request
    data: DataSet | None
    plan: Plan
    folder: StudyFolder

    def introduce(self, screen: Console) -> None:
        """Print the introduction to the study."""
        introduction.show(screen, self.request, self.data, self.plan, self.folder.path)


def prepare(arguments: Arguments, command: str) -> Prepared:
    """Load the data, continue the folder's study, make the plan, and print remarks on options without effect."""
    request = arguments.request
    if arguments.extend:
        remarks.check_extend(request)
    with console.messages():
        data = _data(request, arguments.data_dir)
    folder = StudyFolder(arguments.out or request.folder(fallback=data is not None and data.fallback is not None))
    request = request.continuing(folder.read_document(), arguments.limits.threads)
    plan = make_plan(request, data, command)
    if arguments.extend:
        request = request.extended(engine.next_extension(plan, folder))
        plan = make_plan(request, data, command)
    for remark in (*plan.subject.remarks, *remarks.remarks(request, arguments.data_dir)):
        console.note(remark)
    return Prepared(request, data, plan, folder)


def _data(request: Request, data_dir: Path | None) -> DataSet | None:
    """Return the data of a workload; None for an experiment, which loads its own."""
    workload = request.workload
    return adapt.load(workload.data, data_dir) if isinstance(workload, Workload) else None
