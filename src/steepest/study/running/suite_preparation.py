"""Preparation of a study of several workloads: every plan is made and checked before any trial runs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from steepest.study.errors import UsageError
from steepest.study.planning import budget as budgets
from steepest.study.planning import remarks, suite_budget, suites
from steepest.study.planning.budget import Budget, Given
from steepest.study.planning.plan import make_plan
from steepest.study.planning.request import Request
from steepest.study.records.format import StudyDocument
from steepest.study.records.suite import SuiteDocument, SuiteEntry, read_suite, write_suite
from steepest.study.report.stored.study import task_of
from steepest.study.running import engine, locking, preparation
from steepest.study.running.preparation import Arguments, Prepared, data_of
from steepest.study.running.store import StudyFolder
from steepest.study.running.worker_limits import WorkerLimits

T = TypeVar("T")


@dataclass(frozen=True)
class SuiteArguments:
    """The arguments of a study of several workloads.

    Attributes:
        name: the name of all workloads together.
        requests: one for each workload.
        given: the sizes that the command names.
        out, data_dir, limits, extend, budget: as in `Arguments`.
    """

    name: str
    requests: tuple[Request, ...]
    given: Given
    out: Path | None
    data_dir: Path | None
    limits: WorkerLimits
    extend: bool
    budget: Budget | None

    @property
    def root(self) -> Path:
        """The folder that holds the studies."""
        path = self.out or self.requests[0].folder(fallback=False, name=self.name)
        return path if self.out or self.budget is None else path.with_name(f"{path.name}-in-{self.budget.text}")

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folder of each study."""
        return tuple(self.root / name for name in suites.subfolders(one.declared for one in self.requests))

    def document(self, command: str) -> SuiteDocument:
        """Return the record of the suite."""
        entries = zip(self.requests, self.folders, strict=True)
        return SuiteDocument(
            name=self.name,
            workloads=tuple(SuiteEntry(source=one.declared.source, folder=path.name) for one, path in entries),
            command=command,
        )


@dataclass(frozen=True)
class Part:
    """A study of the suite that is ready to run, and the budget that it has."""

    prepared: Prepared
    budget: Budget | None = None

    @property
    def source(self) -> str:
        """The workload as the command line names it."""
        return self.prepared.request.declared.source

    @property
    def order(self) -> list[str]:
        """The names of the optimizers that come first in tables."""
        return list(self.prepared.request.workload.settings)


def prepare(arguments: SuiteArguments, command: str) -> tuple[Part, ...]:
    """Make the plan of every workload. Raise UsageError with the mistakes of all of them."""
    check_root(arguments.root, (request.declared.source for request in arguments.requests))
    if arguments.extend:
        _each(arguments, lambda number: remarks.check_extend(arguments.requests[number]))
    requests, sizes = _sized(arguments)
    made = _each(arguments, lambda number: _prepared(arguments, number, requests[number], command))
    if arguments.extend and not any(extended for _, extended in made):
        raise UsageError("no best learning rate lies on the edge of its range on any workload: nothing to extend")
    parts = [Part(replace(prepared, sizes=sizes)) for prepared, _ in made]
    _each(arguments, lambda number: _check_folder(parts[number]))
    _check_tasks_differ(parts)
    if arguments.budget is None:
        return tuple(parts)
    plans = [part.prepared.plan for part in parts]
    shares = suite_budget.shared(arguments.budget, plans, arguments.limits.at_once)
    return tuple(replace(part, budget=share) for part, share in zip(parts, shares, strict=True))


def remarks_of(parts: Sequence[Part]) -> list[str]:
    """Return every remark once, after the workloads that it concerns."""
    found: dict[str, list[str]] = {}
    for part in parts:
        for remark in part.prepared.remarks:
            found.setdefault(remark, []).append(part.source)
    return [f"{', '.join(sources)}: {remark}" for remark, sources in found.items()]


def lock(parts: Sequence[Part], root: Path, document: SuiteDocument) -> list[str]:
    """Write the suite's document and all plans, so that no result of one workload can change the plan of another.

    Return notes on changes that leave a study the same.
    """
    write_suite(root, document)
    return [note for part in parts for note in locking.lock(part.prepared.plan, part.prepared.folder, part.order)]


def _prepared(arguments: SuiteArguments, number: int, request: Request, command: str) -> tuple[Prepared, bool]:
    """Return the study, and whether its search is extended: only if a best rate lies on its edge."""
    plain = Arguments(request, arguments.folders[number], arguments.data_dir, arguments.limits, extend=False)
    prepared = preparation.prepare(plain, command)
    if not arguments.extend:
        return prepared, False
    if not engine.next_extension(prepared.plan, prepared.folder):
        note = "no best learning rate lies on the edge of its range, so there is nothing to extend"
        return replace(prepared, remarks=(*prepared.remarks, note)), False
    return preparation.prepare(replace(plain, extend=True), command), True


def _sized(arguments: SuiteArguments) -> tuple[tuple[Request, ...], str]:
    """Return the requests with the sizes that a budget has room for, or with those that its folder has."""
    budget, requests = arguments.budget, arguments.requests
    if budget is None:
        return requests, ""
    for request in requests:
        budgets.check(request)
    stored = _stored(arguments)
    if stored is not None:
        given = arguments.given
        trials = stored.protocol.trials if given.trials is None else given.trials
        seeds = len(stored.config.seeds) if given.seeds is None else given.seeds
        words = f"{budget.text} for what is left of the plans of all workloads"
        return tuple(_of_size(one, trials, seeds) for one in requests), words
    plans = _each(
        arguments,
        lambda number: make_plan(
            suite_budget.probing(requests[number], arguments.given), data_of(requests[number], arguments.data_dir), ""
        ),
    )
    sizes, why = suite_budget.budgeted(arguments.given, plans, budget, arguments.limits.at_once)
    return tuple(_of_size(one, sizes.trials, sizes.seeds) for one in requests), f"{why}; for all workloads together"


def _of_size(request: Request, trials: int, seeds: int) -> Request:
    return replace(request, trials_wanted=trials, seeds_wanted=seeds)


def _stored(arguments: SuiteArguments) -> StudyDocument | None:
    documents = (StudyFolder(folder).read_document() for folder in arguments.folders)
    return next((document for document in documents if document is not None), None)


def _each(arguments: SuiteArguments, do: Callable[[int], T]) -> list[T]:
    """Do something for every workload, given its place; all mistakes are told at once."""
    return suites.each({request.declared.source: place for place, request in enumerate(arguments.requests)}, do)


def check_root(root: Path, sources: Iterable[str]) -> None:
    """Raise UsageError if the folder holds something other than a study of these workloads."""
    if StudyFolder(root).document_path.exists():
        raise UsageError(f"{root} is the study of one workload; give another folder with --out")
    document, wanted = read_suite(root), {*sources}
    there = {entry.source for entry in document.workloads} if document else wanted
    if there != wanted:
        raise UsageError(
            f"{root} holds a study of other workloads. There and here: {', '.join(sorted(there))}; "
            f"{', '.join(sorted(wanted))}. Workloads that join after results were seen would be another study: give "
            "another folder with --out, or ask for the same again."
        )


def _check_folder(part: Part) -> None:
    locking.check(part.prepared.plan, part.prepared.folder, part.order)


def _check_tasks_differ(parts: Sequence[Part]) -> None:
    """Raise UsageError for one workload under two names."""
    for one, other in combinations(parts, 2):
        if task_of(one.prepared.plan.document) == task_of(other.prepared.plan.document):
            raise UsageError(
                f"{one.source} and {other.source} are one workload: equal name, data and model. A comparison across "
                "workloads would count it twice: give one of the two"
            )
