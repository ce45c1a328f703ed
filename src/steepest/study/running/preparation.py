"""Preparation of a study: from its arguments to a plan and a folder, to be run or only printed."""

from dataclasses import dataclass
from pathlib import Path

from steepest.study.data import adapt
from steepest.study.data.dataset import DataSet
from steepest.study.declaration import Workload
from steepest.study.errors import UsageError
from steepest.study.planning import budget as budgets
from steepest.study.planning import remarks
from steepest.study.planning.budget import Budget
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request
from steepest.study.records.format import StudyDocument
from steepest.study.records.suite import read_suite
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder
from steepest.study.running.worker_limits import WorkerLimits


@dataclass(frozen=True)
class Arguments:
    """The arguments of a study: request, folder, data folder, worker limits, whether it is extended, its budget."""

    request: Request
    out: Path | None
    data_dir: Path | None
    limits: WorkerLimits
    extend: bool
    budget: Budget | None = None


@dataclass(frozen=True)
class Prepared:
    """A study that is ready to run."""

    request: Request
    data: DataSet | None
    plan: Plan
    folder: StudyFolder
    sizes: str = ""
    remarks: tuple[str, ...] = ()


def prepare(arguments: Arguments, command: str) -> Prepared:
    """Load the data, continue the folder's study, and make the plan, with remarks on options without effect."""
    request = arguments.request
    if arguments.extend:
        remarks.check_extend(request)
    data = data_of(request, arguments.data_dir)
    folder = StudyFolder(arguments.out or _folder(arguments, data))
    check_is_no_suite(folder.path)
    document = folder.read_document()
    request, sizes = request.continuing(document, arguments.limits.threads), ""
    if arguments.budget is not None:
        request, sizes = _within(arguments.budget, request, document, data, arguments.limits.at_once)
    plan = make_plan(request, data, command)
    if arguments.extend:
        request = request.extended(engine.next_extension(plan, folder))
        plan = make_plan(request, data, command)
    told = (*plan.subject.remarks, *remarks.remarks(request, arguments.data_dir))
    return Prepared(request, data, plan, folder, sizes, told)


def check_is_no_suite(path: Path) -> None:
    """Raise UsageError for the folder of a study of several workloads, which holds their studies."""
    suite = read_suite(path)
    if suite is not None:
        studies = ", ".join(str(path / entry.folder) for entry in suite.workloads)
        raise UsageError(f"{path} holds a study of several workloads ({studies}); give another folder with --out")


def data_of(request: Request, data_dir: Path | None) -> DataSet | None:
    """Return the data of a workload; None for an experiment, which loads its own."""
    workload = request.workload
    return adapt.load(workload.data, data_dir) if isinstance(workload, Workload) else None


def _folder(arguments: Arguments, data: DataSet | None) -> Path:
    """Return the default folder. A budget is part of its name, as the sizes that it has room for are not known yet."""
    path = arguments.request.folder(fallback=data is not None and data.fallback is not None)
    return path if arguments.budget is None else path.with_name(f"{path.name}-in-{arguments.budget.text}")


def _within(
    budget: Budget, request: Request, document: StudyDocument | None, data: DataSet | None, jobs: int
) -> tuple[Request, str]:
    """Return the request with the sizes that a budget has room for, or with those of the folder's study."""
    budgets.check(request)
    if document is not None:
        return budgets.continued(request, document), f"{budget.text} for what is left of the plan of this folder"
    probe = make_plan(budgets.probing(request), data, "")
    return budgets.budgeted(request, probe, budget, jobs)
