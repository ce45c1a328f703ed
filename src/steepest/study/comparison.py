"""A study from Python: the plan, records and report of the command, for a model in memory too."""

import importlib
import signal
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from steepest.study import user_files, workloads
from steepest.study.data import adapt
from steepest.study.data.adapt import Source
from steepest.study.declaration import LOSS, Declared, Experiment, Loss, Metric, Workload
from steepest.study.errors import UsageError
from steepest.study.optimizers import modules, sources
from steepest.study.planning.search import Space
from steepest.study.running import signals
from steepest.study.statistics.verdicts import Comparison
from steepest.study.trials import devices
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

if TYPE_CHECKING:
    from steepest.study.planning.plan import Plan
    from steepest.study.planning.request import Request
    from steepest.study.running.engine import Callback
    from steepest.study.running.store import StudyFolder
    from steepest.study.running.workers import Workers

Maker = Callable[..., torch.optim.Optimizer]
Optimizers = Sequence[str | Maker] | Mapping[str, Maker]


@dataclass(frozen=True, repr=False)
class Answer:
    """The outcome of a study. `folder` holds its records, `report` is the page with all results.

    `sentence` is the answer in words, and `cautions` are sentences to know before repeating it. `comparisons` holds a
    verdict with its figures for every optimizer but the reference, on the metric of the test set at the end. `rows` are
    the table that `print` and a notebook show: by optimizer and heading, with the setting that was used. `statuses`
    counts how the trials of this run ended, and `notes` are sentences on events during the run.
    """

    sentence: str
    comparisons: tuple[Comparison, ...]
    folder: Path
    report: Path
    statuses: Mapping[str, int]
    rows: Mapping[str, Mapping[str, str]]
    cautions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """The sentence, the table, the cautions, and the paths of report and records."""
        from steepest.study.report.text.outcome import as_text

        known = [f"- {sentence}" for sentence in (*self.cautions, *self.notes)]
        return "\n".join([self.sentence, "", as_text(self.rows), "", *known, f"report: {self.report}"])

    def open(self) -> None:
        """Show the report in the browser."""
        webbrowser.open(self.report.resolve().as_uri())

    def to_dataframe(self) -> Any:
        """Return the table as a pandas DataFrame, one row per optimizer, its values as they are shown.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        pandas: Any = importlib.import_module("pandas")
        return pandas.DataFrame.from_dict({label: dict(row) for label, row in self.rows.items()}, orient="index")

    def _repr_html_(self) -> str:
        """Return the answer as HTML for a notebook."""
        from markupsafe import Markup

        from steepest.study.report.text.outcome import as_html

        known = Markup("").join(Markup("<li>{}</li>").format(sentence) for sentence in (*self.cautions, *self.notes))
        parts = (self.sentence, Markup(as_html(self.rows)), known, self.report.resolve().as_uri(), self.report)
        return Markup('<p>{}</p>{}<ul>{}</ul><p>report: <a href="{}">{}</a></p>').format(*parts)


def compare(
    model: Callable[[], nn.Module] | Declared,
    data: Source | None = None,
    loss: Loss | None = None,
    optimizers: Optimizers = (),
    *,
    metric: Metric | None = None,
    batch_size: int | None = None,
    horizon: int | None = None,
    seeds: int | None = None,
    trials: int | None = None,
    target: float | tuple[float, ...] = (),
    margin: float = 0.0,
    searched: Sequence[str] = (),
    spaces: Mapping[str, Space] | None = None,
    schedule: str | None = None,
    timing_rounds: int = 3,
    reference: str | None = None,
    preset: str | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    jobs: int | None = None,
    progress: bool | None = None,
    out: Path | str | None = None,
    seed_offset: int = 0,
    search_seed: int = 0,
    more_seeds: int | None = None,
    match: str = "steps",
) -> Answer:
    """Compare optimizers on a model, a workload or an experiment, and return the answer.

    Args:
        model: a function that builds the network; called once per trial, with torch's generator seeded. Or what stands
            under `@workload` or `@experiment`, which declares data, loss, metric, targets and margin itself.
        data: see `Workload`; so are `loss`, `metric` (by default the loss), `batch_size` (32), `target` and `margin`.
        optimizers: names as the command line takes them (`"adamw"`, `"adam[lr=0.01,schedule=wsd]"`), classes or
            functions of the parameters; or a mapping from labels to classes or functions.
        horizon: epochs, or steps of an experiment that counts these; by default 10, or the declaration's own.
        seeds: evaluation seeds, 0, 1, ...; by default 10, or the declaration's own number.
        trials: search trials of every optimizer, a power of two; 0 runs every optimizer as it is given. By default 0,
            or the declaration's own number.
        searched: hyperparameters to search, or `("all",)`; the learning rate without any.
        spaces: search spaces by optimizer, see `steepest.study.planning.search`.
        schedule: the learning rate's schedule for every optimizer without its own, such as `"cosine[warmup=100]"`; by
            default cosine with warm-up if there is a search, else constant.
        timing_rounds: how often every optimizer's step is timed, after all training.
        reference: label of the optimizer that the others are compared with; the first without it.
        preset: the size of a workload or experiment: `smoke`, `quick` (the default) or `full`.
        device: the device, as `--device` names it.
        precision: `fp32`, `bf16` or `fp16`.
        jobs: trials that run at once, each in a process of its own. By default they run in this process, one after
            another. Processes need code that they can import: a workload or experiment in a file, optimizers by name.
        progress: whether to show a progress line on standard error; by default on a terminal and in a notebook.
        out: the study folder; a new temporary one without it. The same call with the same folder resumes.
        seed_offset: the first evaluation seed.
        search_seed: the number of the search's draw: another one gives other points and other tuning seeds.
        more_seeds: the largest number of seeds of a sequential test, which looks after every `seeds` of them.
        match: what is equal where optimizers are compared: `steps`, training `seconds` or gradient `evaluations`.

    Raises:
        UsageError: the arguments cannot be carried out as given.
    """
    from steepest.study.planning.request import Request

    _refuse_while_loading()
    given = {"data": data, "loss": loss, "metric": metric, "batch_size": batch_size} | {
        "target": target or None,
        "margin": margin or None,
    }
    if isinstance(model, Declared):
        declared, counted = _declared(model, [name for name, value in given.items() if value is not None]), None
    else:
        declared = _typed(model, data, loss, metric or LOSS, batch_size or 32, horizon or 10, target, margin, preset)
        counted = 0
    made = declared(preset or "quick")
    in_steps = isinstance(made, Experiment)
    request = Request(
        declared,
        preset_wanted=preset,
        optimizers=tuple(_texts(optimizers)),
        horizon_wanted=horizon if in_steps else None,
        epochs_wanted=None if in_steps else horizon,
        seeds_wanted=seeds,
        trials_wanted=counted if trials is None else trials,
        searched_wanted=tuple(searched),
        spaces=spaces or {},
        schedule_wanted=schedule,
        reference_wanted=reference,
        timing_rounds=timing_rounds,
        device_wanted=device,
        precision=precision,
        seed_offset=seed_offset,
        search_seed=search_seed,
        more_seeds_wanted=more_seeds,
        match=match,
    )
    return _run(request, made.data if isinstance(made, Workload) else None, jobs, progress, out)


def _typed(
    model: Any,
    data: Source | None,
    loss: Loss | None,
    metric: Metric,
    batch_size: int,
    horizon: int,
    target: float | tuple[float, ...],
    margin: float,
    preset: str | None,
) -> Declared:
    """Return a workload of the arguments."""
    if data is None or loss is None:
        raise UsageError("compare takes a model with its data and its loss: compare(model, data, loss, optimizers)")
    if preset is not None:
        raise UsageError(f"preset={preset!r} has no effect on a model; sizes are those of the data and of horizon")
    workload = Workload(
        data=data,
        model=model,
        loss=loss,
        metric=metric,
        batch_size=batch_size,
        horizon=horizon,
        target=target,
        margin=margin,
        title="A comparison from Python",
    )
    return Declared("comparison", lambda: workload, "comparison", model)


def _declared(declared: Declared, given: Sequence[str]) -> Declared:
    """Return a declaration under the name by which another process finds it."""
    if given:
        raise UsageError(f"{declared.source} declares its {', '.join(given)} itself; leave it out")
    if declared.source in workloads.workloads() or ".py:" in declared.source:
        return declared
    file = user_files.file_of(declared.function)
    return declared if file is None else replace(declared, source=f"{file}:{declared.function.__name__}")


def _refuse_while_loading() -> None:
    """Raise UsageError if this call is part of a file that a study is loading."""
    if user_files.LOADING:
        raise UsageError(
            f"{user_files.LOADING[-1]} calls compare while it is loaded; put the call under: if __name__ == '__main__'"
        )


def _run(
    request: "Request", data: Source | None, jobs: int | None, progress: bool | None, out: Path | str | None
) -> Answer:
    """Run a study, or the rest of it, and return its answer."""
    from steepest.study.planning import remarks
    from steepest.study.planning.plan import make_plan
    from steepest.study.running import engine
    from steepest.study.running.store import StudyFolder

    folder = StudyFolder(Path(tempfile.mkdtemp(prefix="steepest-")) if out is None else Path(out))
    loaded = None if data is None else adapt.load(data)
    plan = make_plan(request, loaded, f"steepest.study.compare in {Path(sys.argv[0]).name or 'python'}")
    with _watching(plan, folder, progress) as callback, _workers(request, plan, folder, jobs) as workers:
        summary = engine.run(plan, folder, callback, workers=workers)
    if summary.signal is not None:
        raise KeyboardInterrupt if summary.signal == signal.SIGINT else SystemExit(signals.exit_code(summary.signal))
    known = (*plan.subject.remarks, *remarks.remarks(request), *summary.notes)
    return _answer(folder.path, summary.ended, known)


@contextmanager
def _workers(request: "Request", plan: "Plan", folder: "StudyFolder", jobs: int | None) -> Iterator["Workers"]:
    """Yield processes if they are asked for, else this one."""
    from steepest.study.running.processes import Processes
    from steepest.study.running.workers import InProcess

    if jobs is None:
        with devices.used(request.device):
            yield InProcess(plan.task, folder)
        return
    if jobs < 1:
        raise UsageError(f"jobs must be at least 1, not {jobs}")
    here = [config.label for config in request.configs if config.source.startswith(f"{modules.HERE}:")]
    if here or not _can_be_imported(request.declared.source):
        what = ", ".join(here) or request.declared.source
        raise UsageError(
            f"jobs={jobs} runs trials in other processes, which cannot import {what}; put it into a file, and name "
            "optimizers as FILE.py:NAME; or leave jobs out"
        )
    with Processes(folder, jobs, environments=devices.environments(request.device)) as workers:
        yield workers


def _can_be_imported(source: str) -> bool:
    return ".py:" in source or source in workloads.workloads()


def _answer(folder: Path, statuses: Mapping[str, int], notes: tuple[str, ...]) -> Answer:
    """Read the study, write its report, and return the answer."""
    from steepest.study import report
    from steepest.study.report.findings.findings import findings
    from steepest.study.report.stored.reader import read_study
    from steepest.study.report.text.answer import answer, caution
    from steepest.study.report.text.matching import differing
    from steepest.study.report.text.outcome import outcome

    results = findings(read_study(folder))
    return Answer(
        sentence=answer(results.study, results.verdicts, results.summaries),
        comparisons=results.verdicts.comparisons,
        folder=folder,
        report=report.write_report(folder),
        statuses=dict(statuses),
        rows=outcome(results),
        cautions=(*caution(results.study, results.verdicts, results.searches), *differing(results)),
        notes=notes,
    )


class Unwatched:
    """A callback that does nothing."""

    def stage_started(self, trials: Sequence[TrialSpec]) -> None:
        """Ignore the stage."""

    def trial_started(self, trial: TrialSpec) -> None:
        """Ignore the trial."""

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        """Ignore the event."""


@contextmanager
def _watching(plan: "Plan", folder: "StudyFolder", wanted: bool | None) -> Iterator["Callback"]:
    """Return a progress line on a terminal or when it is asked for, else a callback that does nothing."""
    from steepest.study.running.progress import Progress
    from steepest.study.running.progress_line import ProgressLine, is_watched

    if not (is_watched() if wanted is None else wanted):
        yield Unwatched()
        return
    with closing(ProgressLine(Progress(plan, folder), sys.stderr)) as line:
        yield line


def _texts(optimizers: Optimizers) -> list[str]:
    if isinstance(optimizers, str):
        raise UsageError(f"optimizers must be a list of names, classes or functions, not the text {optimizers!r}")
    if isinstance(optimizers, Mapping):
        return [sources.give(label, maker) for label, maker in optimizers.items()]
    return [
        optimizer if isinstance(optimizer, str) else sources.give(_name(optimizer), optimizer)
        for optimizer in optimizers
    ]


def _name(maker: Any) -> str:
    if isinstance(maker, torch.optim.Optimizer):
        raise UsageError(f"this {type(maker).__name__} is built already, and every seed needs its own; give the class")
    name = getattr(maker, "__name__", "")
    if not name.isidentifier():
        raise UsageError(f"{maker!r} has no name of its own; give a mapping: {{'a label': {maker!r}}}")
    return str(name)
