"""The subject of a study: a workload or an experiment, tried with every optimizer and described for the plan."""

import hashlib
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import nn

from steepest.study import seeds, user_files
from steepest.study.data.dataset import DataSet, Examples
from steepest.study.data.loaders import Loaded
from steepest.study.data.splits import Sizes
from steepest.study.declaration import Experiment, Workload
from steepest.study.errors import UsageError
from steepest.study.planning import dry_run
from steepest.study.planning.dry_run import DryRun
from steepest.study.planning.rehearsal import Rehearsal, is_deaf_to_seeds, peak_memory, rehearse
from steepest.study.planning.request import Request
from steepest.study.records import machine
from steepest.study.records.format import EVALUATION
from steepest.study.trials import children, devices, task_check
from steepest.study.trials.evaluation import evaluate
from steepest.study.trials.run import EPOCHS, STEPS, Trainable
from steepest.study.trials.spec import TaskName, TrialSpec
from steepest.study.trials.task import ExperimentTask, Task, steps_per_epoch, task_of

Setting = dict[str, Any]
SEEDED: Final = (
    "two seeds began with the same losses, so that seeds may tell nothing: take out what seeds the training function "
    "itself, such as torch.manual_seed"
)
"""The remark on a training function whose seeds make no difference."""


@dataclass(frozen=True)
class Subject:
    """A task and all that a plan says of it.

    Attributes:
        task: the task.
        pattern: the specification of its trials, but for optimizer, seed and phase.
        reports: the outcome of every optimizer's dry run, by label.
        functions: the functions that make it up, whose code is part of its identity.
        unit: the unit of its horizon.
        steps_per_epoch: None if the number is not known.
        reproducible: False if two equal runs differed.
        evaluation_seconds: returns the seconds of one evaluation.
        remarks: sentences on what its rehearsal found.
        loop: options of the training loop that differ from their defaults.
        memory: the most bytes that a rehearsal took, by place: `host`, and the device's kind.
    """

    task: Trainable
    pattern: TrialSpec
    reports: Mapping[str, DryRun]
    functions: tuple[Callable[..., Any], ...]
    evaluation_seconds: Callable[[], float]
    unit: Literal["epochs", "steps"] = "epochs"
    steps_per_epoch: int | None = None
    reproducible: bool = True
    remarks: tuple[str, ...] = ()
    loop: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def steps(self) -> int | None:
        """Steps of a trial, None if the number is not known."""
        assert self.pattern.epochs is not None
        if self.unit == EPOCHS:
            return None if self.steps_per_epoch is None else self.pattern.epochs * self.steps_per_epoch
        return self.pattern.epochs


def subject_of(request: Request, data: DataSet | None) -> Subject:
    """Return the subject of a request. Raise UsageError with all problems that would stop every trial.

    Args:
        request: the request.
        data: the data of a workload; None for an experiment, which loads its own.
    """
    declaration = request.workload
    with devices.used(request.device):
        if isinstance(declaration, Experiment):
            return _of_experiment(request, declaration)
        assert isinstance(declaration, Workload)
        assert data is not None
        return _of_workload(request, declaration, data)


def _of_workload(request: Request, workload: Workload, data: DataSet) -> Subject:
    sizes = _sizes(request, workload, data)
    task = task_of(workload, data, sizes)
    model = _example_model(task)
    functions: tuple[Callable[..., Any], ...] = (request.declared.function, task.model)
    functions += tuple(function for function in (task.loss, task.metric.of or task.loss) if function is not None)
    described = {
        "name": workload.network or type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sha256": hashlib.sha256(str(model).encode()).hexdigest(),
        "code_sha256": _code(functions),
    }
    train = task.splits.train
    setting = _setting(request, described, _data(data, task), channels_last=train.images) | workload.loop
    if workload.unit == STEPS:
        setting["unit"] = STEPS
    batch_size = train.batch_size if isinstance(train, Loaded) else workload.batch_size
    pattern = _pattern(request, setting, sizes=sizes, batch_size=batch_size, evaluations=workload.evaluations)
    return Subject(
        task=task,
        pattern=pattern,
        reports=_dry_runs(request, pattern, task),
        functions=functions,
        evaluation_seconds=lambda: _evaluation_seconds(task, pattern),
        unit=workload.unit,
        steps_per_epoch=steps_per_epoch(batch_size, train) if workload.unit == EPOCHS else None,
        loop=workload.loop,
    )


def _of_experiment(request: Request, experiment: Experiment) -> Subject:
    task = ExperimentTask(experiment)
    trying = _pattern(request, {"data": None})
    file = user_files.file_of(experiment.function)
    place = None if file is None else Path(file)
    known = children.running()
    rehearsals = {config.label: rehearse(config, trying, task, place) for config in request.configs}
    _check(request, [], {label: one.report for label, one in rehearsals.items()})
    config, first = next(
        (
            (config, rehearsals[config.label])
            for config in request.configs
            if not rehearsals[config.label].report.skipped
        ),
        (None, None),
    )
    if config is None or first is None or first.facts.loop is None:
        reasons = dict.fromkeys(str(one.report.skipped) for one in rehearsals.values())
        raise _cannot(request, list(reasons))
    facts, loop = first.facts, first.facts.loop
    deaf = is_deaf_to_seeds(config, trying, task, facts)
    left = children.end_others(known)
    _check_unit(request, loop.unit)
    _check_looked_at(request, facts.asked_for)
    functions = (experiment.function,)
    described = {
        "name": experiment.network or facts.model,
        "parameters": facts.parameters,
        "sha256": "",
        "code_sha256": _code(functions),
    }
    differences = {label: one.difference for label, one in rehearsals.items() if one.difference}
    setting = _setting(request, described, None) | {"unit": loop.unit, "reproducible": not differences}
    return Subject(
        task=task,
        pattern=_pattern(request, setting, epochs=loop.horizon),
        reports={label: one.report for label, one in rehearsals.items()},
        functions=functions,
        evaluation_seconds=lambda: facts.seconds,
        unit="epochs" if loop.unit == EPOCHS else "steps",
        steps_per_epoch=loop.per_epoch,
        reproducible=not differences,
        memory=_memory(request.device),
        remarks=(
            *_not_reproducible(differences),
            *([SEEDED] if deaf else []),
            *_left_behind(left),
            *_unresumable(loop.keep),
            *_unrehearsed(first),
        ),
    )


def _memory(device: torch.device) -> dict[str, int]:
    on_device = devices.peak_bytes(device)
    return {"host": peak_memory()} | ({} if on_device is None else {device.type: on_device})


def _not_reproducible(differences: Mapping[str, str | None]) -> list[str]:
    return [
        f"not bit-reproducible: two equal runs with {label} differed in {difference}; records say so, and a trial that "
        "resumes after an interruption may differ from one that was never interrupted"
        for label, difference in list(differences.items())[:1]
    ]


def _left_behind(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [
        f"the training function leaves processes behind ({', '.join(dict.fromkeys(names))}); they are ended after "
        "every trial"
    ]


def _unresumable(keep: Mapping[str, Any] | None) -> list[str]:
    if keep is not None:
        return []
    return [
        "a trial that is interrupted starts again, as the loop keeps nothing; call run.epochs(..., "
        "keep=dict(model=model, ...)) with all that training changes"
    ]


def _unrehearsed(rehearsal: Rehearsal) -> list[str]:
    if not rehearsal.facts.too_long:
        return []
    return [
        "evaluation and test were not rehearsed, as the loop iterates over something other than a DataLoader; "
        "run.steps, or a DataLoader, can be shortened to the first steps"
    ]


def _check_unit(request: Request, unit: str) -> None:
    """Raise UsageError for a horizon that was asked for in the other unit."""
    wrong = {"epochs": request.steps_wanted, "steps": request.epochs_wanted}[unit]
    if wrong is not None:
        other = "steps" if unit == "epochs" else "epochs"
        raise UsageError(
            f"{request.declared.source} counts {unit}; give --{unit} {wrong} in place of --{other} {wrong}"
        )


def _check_looked_at(request: Request, asked_for: Collection[str]) -> None:
    """Raise UsageError for a device or a precision that the training function does not look at."""
    if request.device.type != "cpu" and "device" not in asked_for:
        raise UsageError(f"--device {request.device_wanted} has no effect: the training function must use run.device")
    if request.precision != "fp32" and "precision" not in asked_for:
        raise UsageError(
            f"--precision {request.precision} has no effect: run the forward pass of the training function in a block: "
            "with run.autocast(): ..."
        )
    if request.precision == "fp16" and "scaler" not in asked_for:
        raise UsageError(
            "--precision fp16 needs a scaled loss: run.scaler.scale(loss).backward(), then run.scaler.step(optimizer) "
            "and run.scaler.update()"
        )


def _dry_runs(request: Request, pattern: TrialSpec, task: Task) -> dict[str, DryRun]:
    """Try the task and every optimizer on it. Raise UsageError with all problems."""
    problems, needs = task_check.examine(task, pattern), request.workload.needs
    with warnings.catch_warnings():
        if problems:  # they say it all, and better
            warnings.simplefilter("ignore")
        reports = {config.label: dry_run.try_steps(config, pattern, task, needs) for config in request.configs}
    _check(request, problems, reports)
    return reports


def _check(request: Request, problems: list[str], reports: Mapping[str, DryRun]) -> None:
    problems = [*problems, *(problem for report in reports.values() for problem in report.problems)]
    if problems:
        raise _cannot(request, list(dict.fromkeys(problems)))


def _cannot(request: Request, problems: list[str]) -> UsageError:
    numbered = "".join(f"\n  {number}. {problem}" for number, problem in enumerate(problems, 1))
    listed = f" {problems[0]}" if len(problems) == 1 else numbered
    return UsageError(f"{request.declared.source} cannot be studied as it is:{listed}")


def _sizes(request: Request, workload: Workload, data: DataSet) -> Sizes | None:
    if data.loaders is not None and workload.sizes is None and not request.all_train:
        return None
    if request.all_train:
        return Sizes.everything(data)
    return Sizes.usual(data) if workload.sizes is None else workload.sizes.fitted(data)


def _example_model(task: Task) -> nn.Module:
    with seeds.GlobalStream("init", 0).active():
        try:
            model = task.model()
        except Exception as error:  # whatever the user's function does
            raise UsageError(f"model() stopped with {user_files.reason(error)}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"model() must return a torch.nn.Module; it returned a {type(model).__name__}")
    return model


def _code(functions: Iterable[Callable[..., Any]]) -> str:
    """Return the digest of the code in the functions' files. Code without a file is known by its name."""
    digests = dict.fromkeys(map(user_files.code_digest, functions))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _pattern(
    request: Request,
    setting: Setting,
    *,
    sizes: Sizes | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    evaluations: int | None = None,
) -> TrialSpec:
    return TrialSpec(
        config=request.configs[0],
        seed=0,
        phase=EVALUATION,
        task=TaskName(request.declared.source, request.preset_name, sizes),
        epochs=epochs or request.epochs,
        batch_size=batch_size,
        evaluations=evaluations,
        precision=request.precision,
        threads=request.thread_count,
        setting=setting,
        device=request.device.type,
        deterministic=request.deterministic,
        behaviour=request.behaviour,
        sharpness=request.sharpness,
    )


def _setting(
    request: Request, model: Mapping[str, Any], data: Mapping[str, Any] | None, *, channels_last: bool = False
) -> Setting:
    """Return everything that a trial's numbers depend on, except the specification's own fields."""
    versions = machine.versions()
    return {
        "workload": request.declared.name,
        "model": dict(model),
        "metric": {name: getattr(request.workload.metric, name) for name in ("name", "direction", "over")},
        "data": data,
        "channels_last": channels_last,
        "versions": {"steepest": versions["steepest"], "torch": versions["torch"]},
    }


def _data(data: DataSet, task: Task) -> dict[str, Any] | None:
    """Return the description of the data, None for loaders, whose examples are not known before they are read."""
    sizes = {name: len(part) for name, part in vars(task.splits).items() if isinstance(part, Examples)}
    if not sizes:
        return None
    return {"name": data.name, "sha256": dict(data.sha256), **sizes}


def _evaluation_seconds(task: Task, pattern: TrialSpec) -> float:
    examples = task.splits.validation
    if not examples:
        return 0.0
    with seeds.GlobalStream("evaluation", pattern.seed, "validation", 0).active():
        device = torch.device(pattern.device)
        model, began = task.model().to(device), time.perf_counter()
        evaluate(model, examples.to(device), task, pattern.precision)
        return time.perf_counter() - began
