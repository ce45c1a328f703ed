"""From the arguments of `steepest study` to its plan and folder, whether it then runs or is only printed."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from steepest.cli import console, introduction
from steepest.cli.worker_limits import WorkerLimits
from steepest.study.data import adapt
from steepest.study.data.dataset import DataSet
from steepest.study.planning import remarks
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder


@dataclass(frozen=True)
class Arguments:
    """What a study is asked for: the request, its folder and data folder, how it runs, and whether it is extended."""

    request: Request
    out: Path | None
    data_dir: Path | None
    limits: WorkerLimits
    extend: bool


@dataclass(frozen=True)
class Prepared:
    """A study that could begin."""

    request: Request
    data: DataSet
    plan: Plan
    folder: StudyFolder

    def introduce(self, screen: Console) -> None:
        """Print what would run."""
        introduction.show(screen, self.request, self.data, self.plan, self.folder.path)


def prepare(asked: Arguments, command: str) -> Prepared:
    """Load the data, continue what the folder holds, lay out the plan; tell of what has no effect."""
    request = asked.request
    if asked.extend:
        remarks.check_extend(request)
    with console.messages():
        data = adapt.load(request.workload.data, asked.data_dir)
    folder = StudyFolder(asked.out or request.folder(fallback=data.fallback is not None))
    request = request.continuing(folder.read_document(), asked.limits.threads)
    plan = make_plan(request, data, command)
    if asked.extend:
        request = request.extended(engine.next_extension(plan, folder))
        plan = make_plan(request, data, command)
    for remark in remarks.remarks(request, asked.data_dir):
        console.note(remark)
    return Prepared(request, data, plan, folder)
