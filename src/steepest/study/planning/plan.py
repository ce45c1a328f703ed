"""From a request and its data to the trials of a study and its document. Nothing is trained or written here.

A study has up to three stages. `search` tries the same number of points of every optimizer's space on the tuning seeds.
`evaluation` runs each optimizer's chosen point (or, without a search, the setting it was given) on seeds that no choice
has seen. `timing` takes the seconds, one trial at a time.
"""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from torch import nn

from steepest.study import seeds, source_code, user_files
from steepest.study.data.dataset import DataSet
from steepest.study.data.splits import Sizes
from steepest.study.errors import UsageError
from steepest.study.optimizers import schedules
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.planning import dry_run, search
from steepest.study.planning.extension import extended_points
from steepest.study.planning.request import Request
from steepest.study.records import machine
from steepest.study.records.format import (
    DEFAULTS,
    EVALUATION,
    SEARCH,
    TIMING,
    Config,
    Data,
    Machine,
    Metric,
    Model,
    OptimizerEntry,
    Phase,
    Point,
    PointEntry,
    Protocol,
    Published,
    StudyDocument,
    TaskEntry,
    TrialEntry,
    read,
)
from steepest.study.records.records import plain
from steepest.study.statistics.sequential import EXPONENT
from steepest.study.trials import task_check
from steepest.study.trials.spec import TaskName, TrialSpec
from steepest.study.trials.task import Task, task_of

ALPHA: Final = 0.05


@dataclass(frozen=True)
class Candidate:
    """An optimizer at one point of its search space: a number, `defaults`, or None for the given setting."""

    config: OptimizerConfig
    point: Point | None = None


@dataclass(frozen=True)
class PlannedTrial:
    """A trial and its point."""

    spec: TrialSpec
    point: Point | None

    @property
    def id(self) -> str:
        """The trial's name."""
        return self.spec.id

    def entry(self) -> TrialEntry:
        """Return the trial's entry in the study's document."""
        spec = self.spec
        return TrialEntry(id=spec.id, optimizer=spec.config.label, seed=spec.seed, phase=spec.phase, point=self.point)


@dataclass(frozen=True)
class Plan:
    """The plan of a study: its trials, its task, and the document that describes it.

    `configs` are all optimizers that run. `spaces` and `candidates` hold the search spaces and the points of those that
    search, by label.
    """

    configs: tuple[OptimizerConfig, ...]
    spaces: Mapping[str, search.Space]
    candidates: Mapping[str, tuple[Candidate, ...]]
    pattern: TrialSpec
    seeds: tuple[int, ...]
    search_seeds: tuple[int, ...]
    timing_rounds: int
    task: Task
    document: StudyDocument

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches in one pass over the training set, the last one perhaps smaller."""
        return math.ceil(len(self.task.splits.train) / self.pattern.batch_size)

    @property
    def most_seeds(self) -> int:
        """The largest number of evaluation seeds: that of a sequential test's last look."""
        return max(self.document.protocol.looks, default=len(self.seeds))

    @property
    def search_trials(self) -> list[PlannedTrial]:
        """The trials of the search: every point of every optimizer before the next seed, point by point."""
        longest = max(map(len, self.candidates.values()), default=0)
        rounds = [[points[n] for points in self.candidates.values() if n < len(points)] for n in range(longest)]
        return [
            self._trial(candidate, seed, SEARCH) for seed in self.search_seeds for row in rounds for candidate in row
        ]

    def evaluation_trials(self, chosen: Sequence[Candidate]) -> list[PlannedTrial]:
        """Return the evaluation trials: every seed goes through all optimizers before the next seed starts."""
        return [self._trial(candidate, seed, EVALUATION) for seed in self.seeds for candidate in chosen]

    def timing_trials(self, chosen: Sequence[Candidate]) -> list[PlannedTrial]:
        """Return the timing trials: the optimizers take turns."""
        return [self._trial(candidate, number, TIMING) for number in range(self.timing_rounds) for candidate in chosen]

    @property
    def given(self) -> list[Candidate]:
        """The optimizers without a search, with their given settings."""
        return [Candidate(config) for config in self.configs if config.label not in self.candidates]

    def _trial(self, candidate: Candidate, seed: int, phase: Phase) -> PlannedTrial:
        spec = replace(self.pattern, config=candidate.config, seed=seed, phase=phase)
        return PlannedTrial(spec, candidate.point)


def make_plan(request: Request, data: DataSet, command: str) -> Plan:
    """Make the plan of a study. An optimizer that cannot run is left out, and the document names the reason."""
    sizes = _sizes(request, data)
    task = task_of(request.workload, data, sizes)
    model = _example_model(task)
    pattern = _pattern(request, sizes, _setting(request, data, task, model))
    reports = _dry_runs(request, pattern, task)
    runnable = tuple(config for config in request.configs if reports[config.label].skipped is None)
    if not runnable:
        raise UsageError("; ".join(f"{label}: {report.skipped}" for label, report in reports.items()))
    spaces = {config.label: _space(request, config) for config in request.configs}
    candidates = {
        config.label: _candidates(request, config, spaces[config.label]) for config in runnable if spaces[config.label]
    }
    optimizers = tuple(
        _optimizer(config, reports[config.label], spaces[config.label], candidates.get(config.label, ()))
        for config in request.configs
    )
    _check_lengths(request, task, (*runnable, *(one.config for its in candidates.values() for one in its)))
    code = source_code.descriptions(_files(request, task))
    return Plan(
        configs=runnable,
        spaces={label: spaces[label] for label in candidates},
        candidates=candidates,
        pattern=pattern,
        seeds=tuple(request.seeds),
        search_seeds=tuple(request.search_seeds) if candidates else (),
        timing_rounds=request.timing_rounds,
        task=task,
        document=_document(request, data, pattern, optimizers, code, command),
    )


def _check_lengths(request: Request, task: Task, configs: Iterable[OptimizerConfig]) -> None:
    """Raise UsageError if a schedule does not fit into a trial."""
    steps = request.epochs * math.ceil(len(task.splits.train) / request.workload.batch_size)
    for config in configs:
        try:
            schedules.read(config.schedule).check_lengths(steps)
        except UsageError as error:
            raise UsageError(f"{config.label}: {error}") from error


def _dry_runs(request: Request, pattern: TrialSpec, task: Task) -> dict[str, dry_run.DryRun]:
    """Try the task and every optimizer on it. Raise UsageError with all problems."""
    problems, needs = task_check.examine(task, pattern), request.workload.needs
    with warnings.catch_warnings():
        if problems:  # they say it all, and better
            warnings.simplefilter("ignore")
        reports = {config.label: dry_run.try_steps(config, pattern, task, needs) for config in request.configs}
    problems += [problem for report in reports.values() for problem in report.problems]
    if problems:
        numbered = "".join(f"\n  {number}. {problem}" for number, problem in enumerate(problems, 1))
        listed = f" {problems[0]}" if len(problems) == 1 else numbered
        raise UsageError(f"{request.declared.source} cannot be studied as it is:{listed}")
    return reports


def _sizes(request: Request, data: DataSet) -> Sizes:
    if request.all_train:
        return Sizes.everything(data)
    return Sizes.usual(data) if request.workload.sizes is None else request.workload.sizes.fitted(data)


def _example_model(task: Task) -> nn.Module:
    with seeds.GlobalStream("init", 0).active():
        try:
            model = task.model()
        except Exception as error:  # whatever the user's function does
            raise UsageError(f"model() stopped with {user_files.reason(error)}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"model() must return a torch.nn.Module; it returned a {type(model).__name__}")
    return model


def _functions(request: Request, task: Task) -> list[Callable[..., Any]]:
    """Return the functions that make up the task."""
    return [request.declared.build, task.model, task.loss, task.metric.of or task.loss]


def _files(request: Request, task: Task) -> list[str]:
    """Return the files of the task's functions and of the optimizers."""
    files = [user_files.file_of(function) for function in _functions(request, task)]
    return [*filter(None, files), *(file for config in request.configs for file in config.origin.files)]


def _code(functions: Iterable[Callable[..., Any]]) -> str:
    """Return the digest of the code in the functions' files. Code without a file is known by its name."""
    digests = dict.fromkeys(map(user_files.code_digest, functions))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _space(request: Request, config: OptimizerConfig) -> dict[str, search.Dimension]:
    if not request.trials:
        return {}
    space = request.own_space(config)
    return search.space_of(config, request.searched, space)


def _candidates(request: Request, config: OptimizerConfig, space: search.Space) -> tuple[Candidate, ...]:
    """Return the library's defaults, and the points of the space on top of the workload's setting."""
    defaults = Candidate(config.with_defaults(space), DEFAULTS)
    drawn = extended_points(
        space, config.label, request.trials, request.sampler, request.extensions, request.search_seed
    )
    return (defaults, *(Candidate(config.with_options(point), number) for number, point in enumerate(drawn)))


def _optimizer(
    config: OptimizerConfig, report: dry_run.DryRun, space: search.Space, candidates: Iterable[Candidate]
) -> OptimizerEntry:
    return OptimizerEntry(
        **config.document(),
        executor=report.executor,
        skipped=report.skipped,
        space={name: dimension.entry() for name, dimension in space.items()},
        points=tuple(_point(candidate, space) for candidate in candidates),
    )


def _point(candidate: Candidate, space: search.Space) -> PointEntry:
    assert candidate.point is not None  # only a search has candidates
    return PointEntry(point=candidate.point, options=candidate.config.settings(space))


def _pattern(request: Request, sizes: Sizes, setting: Mapping[str, Any]) -> TrialSpec:
    return TrialSpec(
        config=request.configs[0],
        seed=0,
        phase=EVALUATION,
        task=TaskName(request.declared.source, request.preset_name, sizes),
        epochs=request.epochs,
        batch_size=request.workload.batch_size,
        evaluations=request.workload.evaluations,
        precision=request.precision,
        threads=request.thread_count,
        setting=setting,
    )


def _setting(request: Request, data: DataSet, task: Task, model: nn.Module) -> dict[str, Any]:
    """Return everything that a trial's numbers depend on, except the specification's own fields."""
    versions = machine.versions()
    return {
        "workload": request.declared.name,
        "model": {
            "name": request.workload.network or type(model).__name__,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "sha256": hashlib.sha256(str(model).encode()).hexdigest(),
            "code_sha256": _code(_functions(request, task)),
        },
        "metric": {name: getattr(request.workload.metric, name) for name in ("name", "direction", "over")},
        "data": {
            "name": data.name,
            "sha256": dict(data.sha256),
            "train": len(task.splits.train),
            "validation": len(task.splits.validation),
            "test": len(task.splits.test),
        },
        "channels_last": task.splits.train.images,
        "versions": {"steepest": versions["steepest"], "torch": versions["torch"]},
    }


def _document(
    request: Request,
    data: DataSet,
    pattern: TrialSpec,
    optimizers: tuple[OptimizerEntry, ...],
    code: Mapping[str, Mapping[str, Any]],
    command: str,
) -> StudyDocument:
    workload, setting = request.workload, pattern.setting
    return StudyDocument(
        name=_name(request, data),
        workload=request.declared.name,
        preset=request.preset_name,
        title=workload.title if data.fallback is None else f"Digits in place of: {workload.title}",
        description=workload.description,
        config=_config(request, pattern),
        protocol=_protocol(request),
        metric=Metric(**setting["metric"]),
        model=Model(**setting["model"]),
        data=Data(**setting["data"], source=data.source, fallback=data.fallback),
        optimizers=optimizers,
        code=code,
        trials=(),
        chosen={},
        published=_published(request, data),
        seed_purposes=dict(seeds.PURPOSES),
        versions=machine.versions(),
        machine=Machine(**machine.machine()),
        threads=pattern.threads,
        commit=machine.commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
    )


def _config(request: Request, pattern: TrialSpec) -> Config:
    batch_size = request.workload.batch_size
    return Config(
        epochs=request.epochs,
        batch_size=batch_size,
        evaluations=request.workload.evaluations,
        precision=request.precision,
        seeds=tuple(request.seeds),
        all_train=request.all_train,
        steps_per_epoch=math.ceil(pattern.setting["data"]["train"] / batch_size),
        channels_last=pattern.setting["channels_last"],
        task=read(TaskEntry, plain(pattern.task)),
    )


def _protocol(request: Request) -> Protocol:
    return Protocol(
        trials=request.trials,
        tuning_seeds=tuple(request.search_seeds) if request.trials else (),
        sampler=request.sampler,
        searched=tuple(request.searched),
        extensions=request.extensions,
        schedule=request.schedule,
        reference=request.reference,
        alpha=ALPHA,
        margin=request.workload.margin,
        targets=tuple(request.workload.targets),
        timing_rounds=request.timing_rounds,
        seed_offset=request.seed_offset,
        search_seed=request.search_seed,
        looks=request.looks,
        spending=EXPONENT if request.looks else None,
    )


def _name(request: Request, data: DataSet) -> str:
    name = f"{request.declared.name} {request.preset_name}"
    return name if data.fallback is None else f"{name}, on {data.name} instead"


def _published(request: Request, data: DataSet) -> Published | None:
    """Return the published figures if they are comparable: the same data, size and epochs, and without a search."""
    published = request.workload.published
    if published is None or data.fallback or request.trials or request.preset_name != "full":
        return None
    if request.epochs != published.epochs:
        return None
    as_published = {config.source: config.label for config in request.configs if "[" not in config.label}
    rows = {as_published[name]: dict(row) for name, row in published.rows.items() if name in as_published}
    return Published(source=published.source, setting=published.setting, rows=rows)


def entries(trials: Iterable[PlannedTrial]) -> tuple[TrialEntry, ...]:
    """Return the trials' entries in the study's document."""
    return tuple(trial.entry() for trial in trials)
