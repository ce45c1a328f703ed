"""From a request and its data to the trials of a study and its document. Nothing is trained or written here.

A study has up to three stages. `search` tries the same number of points of every optimizer's space on the tuning seeds.
`evaluation` runs each optimizer's chosen point (or, without a search, the setting it was given) on seeds that no choice
has seen. `timing` takes the seconds, one trial at a time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, cast

from steepest.study import seeds, source_code, user_files
from steepest.study.data.dataset import DataSet
from steepest.study.errors import UsageError
from steepest.study.optimizers import schedules
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.planning import dry_run, search
from steepest.study.planning.extension import extended_points
from steepest.study.planning.request import Request
from steepest.study.planning.subject import Subject, subject_of
from steepest.study.records import machine
from steepest.study.records.format import (
    DEFAULTS,
    EVALUATION,
    SEARCH,
    TIMING,
    Config,
    Data,
    Device,
    Machine,
    Match,
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
from steepest.study.trials import devices
from steepest.study.trials.run import Trainable
from steepest.study.trials.spec import TrialSpec

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
    subject: Subject
    seeds: tuple[int, ...]
    search_seeds: tuple[int, ...]
    timing_rounds: int
    document: StudyDocument

    @property
    def task(self) -> Trainable:
        """The task of its trials."""
        return self.subject.task

    @property
    def pattern(self) -> TrialSpec:
        """The specification of its trials, but for optimizer, seed and phase."""
        return self.subject.pattern

    @property
    def most_seeds(self) -> int:
        """The largest number of evaluation seeds: that of a sequential test's last look."""
        return max(self.document.protocol.looks, default=len(self.seeds))

    @cached_property
    def search_trials(self) -> tuple[PlannedTrial, ...]:
        """The trials of the search: every point of every optimizer before the next seed, point by point."""
        longest = max(map(len, self.candidates.values()), default=0)
        rounds = [[points[n] for points in self.candidates.values() if n < len(points)] for n in range(longest)]
        return tuple(
            self._trial(candidate, seed, SEARCH) for seed in self.search_seeds for row in rounds for candidate in row
        )

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
        pattern, evaluated = self.pattern, phase == EVALUATION
        spec = replace(
            pattern,
            config=candidate.config,
            seed=seed,
            phase=phase,
            behaviour=pattern.behaviour and evaluated,
            sharpness=pattern.sharpness and evaluated,
        )
        return PlannedTrial(spec, candidate.point)


def make_plan(request: Request, data: DataSet | None, command: str) -> Plan:
    """Make the plan of a study. An optimizer that cannot run is left out, and the document names the reason."""
    subject = subject_of(request, data)
    reports = subject.reports
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
    _check_lengths(subject, (*runnable, *(one.config for its in candidates.values() for one in its)))
    code = source_code.descriptions(_files(request, subject))
    return Plan(
        configs=runnable,
        spaces={label: spaces[label] for label in candidates},
        candidates=candidates,
        subject=subject,
        seeds=tuple(request.seeds),
        search_seeds=tuple(request.search_seeds) if candidates else (),
        timing_rounds=request.timing_rounds,
        document=_document(request, data, subject, optimizers, code, command),
    )


def _check_lengths(subject: Subject, configs: Iterable[OptimizerConfig]) -> None:
    """Raise UsageError if a schedule does not fit into a trial."""
    if subject.steps is None:
        return
    for config in configs:
        try:
            schedules.read(config.schedule).check_lengths(subject.steps)
        except UsageError as error:
            raise UsageError(f"{config.label}: {error}") from error


def _files(request: Request, subject: Subject) -> list[str]:
    """Return the files of the task's functions and of the optimizers."""
    files = [user_files.file_of(function) for function in subject.functions]
    return [*filter(None, files), *(file for config in request.configs for file in config.origin.files)]


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


def _document(
    request: Request,
    data: DataSet | None,
    subject: Subject,
    optimizers: tuple[OptimizerEntry, ...],
    code: Mapping[str, Mapping[str, Any]],
    command: str,
) -> StudyDocument:
    workload, pattern, setting = request.workload, subject.pattern, subject.pattern.setting
    fallback = None if data is None else data.fallback
    return StudyDocument(
        name=_name(request, data),
        workload=request.declared.name,
        preset=request.preset_name,
        title=workload.title if fallback is None else f"Digits in place of: {workload.title}",
        description=workload.description,
        config=_config(request, subject),
        protocol=_protocol(request),
        metric=Metric(**setting["metric"]),
        model=Model(**setting["model"]),
        data=None
        if data is None or not setting["data"]
        else Data(**setting["data"], source=data.source, fallback=fallback),
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


def _config(request: Request, subject: Subject) -> Config:
    pattern, device = subject.pattern, devices.description(request.device)
    assert pattern.epochs is not None
    return Config(
        epochs=pattern.epochs,
        unit=subject.unit,
        batch_size=pattern.batch_size,
        evaluations=pattern.evaluations,
        precision=pattern.precision,
        seeds=tuple(request.seeds),
        all_train=request.all_train,
        steps_per_epoch=subject.steps_per_epoch,
        channels_last=pattern.setting["channels_last"],
        reproducible=subject.reproducible,
        device=None if device is None else Device(**device),
        deterministic=request.deterministic,
        behaviour=request.behaviour,
        sharpness=request.sharpness,
        **subject.loop,
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
        match=cast("Match", request.match),
    )


def _name(request: Request, data: DataSet | None) -> str:
    name = f"{request.declared.name} {request.preset_name}"
    return name if data is None or data.fallback is None else f"{name}, on {data.name} instead"


def _published(request: Request, data: DataSet | None) -> Published | None:
    """Return the published figures if they are comparable: the same data, size and epochs, and without a search."""
    published = request.workload.published
    if published is None or data is None or data.fallback or request.trials or request.preset_name != "full":
        return None
    if request.epochs != published.epochs:
        return None
    as_published = {config.source: config.label for config in request.configs if "[" not in config.label}
    rows = {as_published[name]: dict(row) for name, row in published.rows.items() if name in as_published}
    return Published(source=published.source, setting=published.setting, rows=rows)


def entries(trials: Iterable[PlannedTrial]) -> tuple[TrialEntry, ...]:
    """Return the trials' entries in the study's document."""
    return tuple(trial.entry() for trial in trials)
