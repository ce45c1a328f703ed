"""A study from Python: the plan, records and report of the command, for a model in memory too."""

import inspect
import math
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from steepest.study import user_files, workloads
from steepest.study.data.adapt import Source
from steepest.study.declaration import LOSS, Declared, Experiment, Loss, Workload
from steepest.study.errors import MetricError, StudyError, UsageError
from steepest.study.optimizers import modules, sources
from steepest.study.planning.search import Space
from steepest.study.records.format import FROM_PYTHON
from steepest.study.running import signals
from steepest.study.suggest import choices
from steepest.study.trials import devices
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

if TYPE_CHECKING:
    from steepest.study.planning.budget import Budget
    from steepest.study.planning.request import Request
    from steepest.study.report.answer import Answer
    from steepest.study.running.engine import Callback, RunSummary
    from steepest.study.running.preparation import Arguments, Prepared
    from steepest.study.running.suite_preparation import SuiteArguments
    from steepest.study.running.worker_limits import WorkerLimits
    from steepest.study.running.workers import Workers

Maker = Callable[..., torch.optim.Optimizer]
Optimizers = Sequence[str | Maker] | Mapping[str, Maker]
Task = str | Declared | Workload | Experiment
"""A workload or an experiment: its name, `FILE.py:NAME`, what stands under its decorator, or the object itself."""

TYPED: Final[Mapping[str, Any]] = {
    "metric": LOSS,
    "batch_size": 32,
    "horizon": 10,
    "trials": 0,
    "title": "A comparison from Python",
}
"""The defaults of a model's workload."""


def compare(
    model: Callable[[], nn.Module] | Task | Sequence[Task] = (),
    data: Source | None = None,
    loss: Loss | None = None,
    optimizers: Optimizers = (),
    *,
    suite: str | None = None,
    horizon: int | None = None,
    seeds: int | None = None,
    trials: int | None = None,
    budget: str | float | None = None,
    searched: Sequence[str] = (),
    spaces: Mapping[str, Space] | None = None,
    schedule: str | None = None,
    timing_rounds: int = 3,
    reference: str | None = None,
    preset: str | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    behaviour: bool = True,
    sharpness: bool = False,
    jobs: int | None = None,
    progress: bool | None = None,
    out: Path | str | None = None,
    seed_offset: int = 0,
    search_seed: int = 0,
    more_seeds: int | None = None,
    match: str = "steps",
    **declaration: Any,
) -> "Answer":
    """Compare optimizers on a model, a workload, an experiment, or on several of these, and return the answer.

    Args:
        model: a function that builds the network; called once per trial, with torch's generator seeded. Or a workload
            or an experiment, which declares data, loss, metric, targets and margin itself: its name, `"FILE.py:NAME"`,
            what stands under `@workload` or `@experiment`, or a `Workload`. Or a list of these, which have a study
            each, with equal optimizers, seeds and search trials, and one answer.
        data: see `Workload`; so is `loss`.
        optimizers: names as the command line takes them (`"adamw"`, `"adam[lr=0.01,schedule=wsd]"`), classes or
            functions of the parameters; or a mapping from labels to classes or functions. Without any a workload has
            its own.
        suite: the name of a list of workloads, as `--suite` takes it; those in `model` join them.
        horizon: epochs, or steps of an experiment that counts these; by default 10, or the declaration's own.
        seeds: evaluation seeds, 0, 1, ...; by default 10, or the declaration's own number.
        trials: search trials of every optimizer, a power of two; 0 runs every optimizer as it is given. By default 0
            for a model, or the declaration's own number.
        budget: the time that the study may take, `"2h"` or a number of seconds. Trials and seeds that are not given
            are chosen so that they fit, and none starts later.
        searched: hyperparameters to search, or `("all",)`; the learning rate without any.
        spaces: search spaces by optimizer, see `steepest.study.planning.search`.
        schedule: the learning rate's schedule for every optimizer without its own, such as `"cosine[warmup=100]"`; by
            default cosine with warm-up if there is a search, else constant.
        timing_rounds: how often every optimizer's step is timed, after all training.
        reference: label of the optimizer that the others are compared with; the first without it.
        preset: the size of a workload or experiment: `smoke`, `quick` (the default) or `full`.
        device: the device, as `--device` names it.
        precision: `fp32`, `bf16` or `fp16`.
        behaviour: whether the evaluation samples how the optimizers move; see `docs/protocol.md`.
        sharpness: whether it measures the loss's sharpness at every evaluation.
        jobs: trials that run at once, each in a process of its own. By default they run in this process, one after
            another. Processes need code that they can import: a workload or experiment in a file, optimizers by name.
        progress: whether to show a progress line on standard error; by default on a terminal and in a notebook.
        out: the study folder; a new temporary one without it. The same call with the same folder resumes.
        seed_offset: the first evaluation seed.
        search_seed: the number of the search's draw: another one gives other points and other tuning seeds.
        more_seeds: the largest number of seeds of a sequential test, which looks after every `seeds` of them.
        match: what is equal where optimizers are compared: `steps`, training `seconds` or gradient `evaluations`.
        declaration: further arguments of a model's `Workload`: `metric` (by default the loss), `batch_size` (32),
            `target`, `margin`, `accumulate` and all others.

    Raises:
        UsageError: the arguments cannot be carried out as given.
        TypeError: an argument is unknown.
    """
    from steepest.study.planning import suites
    from steepest.study.planning.budget import Budget, Given
    from steepest.study.planning.request import Request
    from steepest.study.running.preparation import Arguments
    from steepest.study.running.suite_preparation import SuiteArguments
    from steepest.study.running.worker_limits import WorkerLimits

    _refuse_while_loading()
    asked = suites.asked(_declared(model, {"data": data, "loss": loss, **declaration}, preset), suite)
    request = partial(
        Request,
        horizon_wanted=horizon,
        searched_wanted=tuple(searched),
        spaces=spaces or {},
        schedule_wanted=schedule,
        reference_wanted=reference,
        timing_rounds=timing_rounds,
        device_wanted=device,
        precision=precision,
        behaviour=behaviour,
        sharpness=sharpness,
        seed_offset=seed_offset,
        search_seed=search_seed,
        more_seeds_wanted=more_seeds,
        match=match,
    )
    requests = suites.requests(
        asked, request, preset=preset, optimizers=tuple(_texts(optimizers)), seeds=seeds, trials=trials
    )
    limits = WorkerLimits(jobs)
    _check_others_can_import(requests, limits)
    folder = Path(tempfile.mkdtemp(prefix="steepest-")) if out is None else Path(out)
    time = None if budget is None else Budget.read(budget if isinstance(budget, str) else f"{budget}s")
    if len(requests) == 1:
        return _of_one(Arguments(requests[0], folder, None, limits, extend=False, budget=time), progress)
    given = Given(trials, seeds)
    return _of_several(SuiteArguments(asked.name, requests, given, folder, None, limits, False, time), progress)


def _declared(what: Any, options: Mapping[str, Any], preset: str | None) -> tuple[Declared, ...]:
    """Return the declarations that a call names, or the workload that its arguments make up."""
    _check_options(options)
    given = {name: value for name, value in options.items() if value is not None}
    if not isinstance(what, Task | Sequence):
        return (_typed(what, given, preset),)
    if isinstance(what, str) or not isinstance(what, Sequence):
        declared: tuple[Declared, ...] = (_found(what, preset),)
    else:
        declared = tuple(_found(task, preset, place) for place, task in enumerate(what, 1))
    if given:
        who = ", ".join(one.source for one in declared) or "a suite"
        raise UsageError(f"{who} declares its {', '.join(given)} itself; leave it out")
    return declared


def _check_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError for a name that is neither an argument of `compare` nor one of `Workload`."""
    own = [name for name in inspect.signature(compare).parameters if name != "declaration"]
    known = dict.fromkeys([*own, *(entry.name for entry in fields(Workload))])
    for name in options:
        if name not in known:
            raise TypeError(f"compare() got an {choices('argument', name, known)}")


def _typed(model: Any, options: Mapping[str, Any], preset: str | None) -> Declared:
    """Return the workload of a model and the arguments that declare it."""
    if not {"data", "loss"} <= options.keys():
        raise UsageError(
            "compare takes a model with its data and its loss: compare(model, data, loss, optimizers), or a workload"
        )
    return _in_memory(Workload(model=model, **{**TYPED, **options}), preset)


def _found(task: Any, preset: str | None, place: int | None = None) -> Declared:
    """Return a declaration under the name by which another process finds it. `place` is its place in a list."""
    if isinstance(task, str):
        return workloads.find(task)
    if isinstance(task, Workload | Experiment):
        return _in_memory(task, preset, place)
    if not isinstance(task, Declared):
        raise UsageError(
            f"a list of workloads holds names, FILE.py:NAME, declared functions and objects, not {task!r}; a model "
            "becomes one by steepest.study.Workload(model=..., data=..., loss=..., ...)"
        )
    if task.source in workloads.workloads() or ".py:" in task.source:
        return task
    file = user_files.file_of(task.function)
    return task if file is None else replace(task, source=f"{file}:{task.function.__name__}")


def _in_memory(made: Workload | Experiment, preset: str | None, place: int | None = None) -> Declared:
    """Return the declaration of an object that only this process has. In a list it is known by title or place."""
    from steepest.study.planning.suites import slug

    if preset is not None and place is None and isinstance(made, Workload):
        raise UsageError(f"preset={preset!r} has no effect on a model; sizes are those of the data and of horizon")
    titled = replace(made, title=made.title or TYPED["title"])
    name = FROM_PYTHON if place is None else slug(made.title) or f"{FROM_PYTHON}-{place}"
    source = FROM_PYTHON if place is None else f"{FROM_PYTHON}:{name}"
    if isinstance(made, Workload):
        return Declared(name, lambda: titled, source, made.model)
    return Declared(name, lambda preset: titled, source, made.function)  # its run has the preset


def _refuse_while_loading() -> None:
    """Raise UsageError if this call is part of a file that a study is loading."""
    if user_files.LOADING:
        raise UsageError(
            f"{user_files.LOADING[-1]} calls compare while it is loaded; put the call under: if __name__ == '__main__'"
        )


def _check_others_can_import(requests: Sequence["Request"], limits: "WorkerLimits") -> None:
    """Raise UsageError for objects of this process that trials in other processes need."""
    if limits.jobs is None:
        return
    optimizers = [config for request in requests for config in request.configs]
    here = [config.label for config in optimizers if config.source.startswith(f"{modules.HERE}:")]
    tasks = [request.declared.source for request in requests if not _can_be_imported(request.declared.source)]
    if here or tasks:
        raise UsageError(
            f"jobs={limits.jobs} runs trials in other processes, which cannot import "
            f"{', '.join(dict.fromkeys(here or tasks))}; put it into a file, and name optimizers as FILE.py:NAME; or "
            "leave jobs out"
        )


def _can_be_imported(source: str) -> bool:
    return ".py:" in source or source in workloads.workloads()


def _command() -> str:
    return f"steepest.study.compare in {Path(sys.argv[0]).name or 'python'}"


def _of_one(arguments: "Arguments", progress: bool | None) -> "Answer":
    """Run a study, or the rest of it, and return its answer."""
    from steepest.study.report.answer import of_study
    from steepest.study.running import preparation

    prepared = preparation.prepare(arguments, _command())
    summary = _run(prepared, arguments.limits, arguments.budget, progress)
    sizes = [f"budget: {prepared.sizes}"] if prepared.sizes else []
    return of_study(prepared.folder.path, summary.ended, (*sizes, *prepared.remarks, *summary.notes))


def _of_several(arguments: "SuiteArguments", progress: bool | None) -> "Answer":
    """Run the study of every workload, or the rest of it, and return the answer across them."""
    from steepest.study.report.answer import of_study, of_suite
    from steepest.study.running import suite_preparation

    command = _command()
    parts = suite_preparation.prepare(arguments, command)
    notes = suite_preparation.remarks_of(parts)
    notes += suite_preparation.lock(parts, arguments.root, arguments.document(command))
    sizes = parts[0].prepared.sizes
    answers = []
    for part in parts:
        try:
            summary = _run(part.prepared, arguments.limits, part.budget, progress, part.order)
        except MetricError as error:
            notes.append(f"{part.source}: {error}")
            continue
        notes += [f"{part.source}: {note}" for note in summary.notes]
        if part.prepared.folder.has_result:
            answers.append(of_study(part.prepared.folder.path, summary.ended, summary.notes))
        else:
            notes.append(f"{part.source} has no result yet, so the comparison leaves it out")
    if not answers:
        raise StudyError(f"no workload has a result: {'; '.join(notes)}")
    return of_suite(arguments.root, answers, [*([f"budget: {sizes}"] if sizes else []), *notes])


def _run(
    prepared: "Prepared",
    limits: "WorkerLimits",
    budget: "Budget | None",
    progress: bool | None,
    order: Sequence[str] = (),
) -> "RunSummary":
    """Run a prepared study until it is done or its budget is spent."""
    from steepest.study.running import engine

    deadline = budget.deadline if budget else math.inf
    with _watching(prepared, limits, progress) as callback, _workers(prepared, limits) as workers:
        summary = engine.run(prepared.plan, prepared.folder, callback, order=order, workers=workers, deadline=deadline)
    if summary.signal is not None:
        raise KeyboardInterrupt if summary.signal == signal.SIGINT else SystemExit(signals.exit_code(summary.signal))
    if budget and summary.left:
        summary.notes.append(
            f"the budget of {budget.text} is spent, and trials that this stage has not run: {summary.left}; the same "
            "call with the same folder goes on"
        )
    return summary


@contextmanager
def _workers(prepared: "Prepared", limits: "WorkerLimits") -> Iterator["Workers"]:
    """Yield processes if they are asked for, else this one."""
    from steepest.study.running.workers import InProcess

    if limits.jobs is None:
        with devices.used(prepared.request.device):
            yield InProcess(prepared.plan.task, prepared.folder)
        return
    with limits.workers(prepared.folder, None, prepared.request) as workers:
        yield workers


class Unwatched:
    """A callback that does nothing."""

    def stage_started(self, trials: Sequence[TrialSpec]) -> None:
        """Ignore the stage."""

    def trial_started(self, trial: TrialSpec) -> None:
        """Ignore the trial."""

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        """Ignore the event."""


@contextmanager
def _watching(prepared: "Prepared", limits: "WorkerLimits", wanted: bool | None) -> Iterator["Callback"]:
    """Return a progress line on a terminal or when it is asked for, else a callback that does nothing."""
    from steepest.study.running.progress import Progress
    from steepest.study.running.progress_line import ProgressLine, is_watched

    if not (is_watched() if wanted is None else wanted):
        yield Unwatched()
        return
    with closing(ProgressLine(Progress(prepared.plan, prepared.folder, limits.at_once), sys.stderr)) as line:
        yield line


def _texts(optimizers: Optimizers) -> list[str]:
    if isinstance(optimizers, str):
        raise UsageError(f"optimizers must be a list of names, classes or functions, not the text {optimizers!r}")
    return sources.texts(optimizers, "seed")
