"""A study from Python: the plan, records and report of the command, for a model in memory."""

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from steepest.study.data import adapt
from steepest.study.data.adapt import Source
from steepest.study.declaration import LOSS, Declared, Loss, Metric, Workload
from steepest.study.errors import UsageError
from steepest.study.optimizers import sources
from steepest.study.planning.search import Space
from steepest.study.running import signals
from steepest.study.statistics.verdicts import Comparison
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

if TYPE_CHECKING:
    from steepest.study.planning.plan import Plan
    from steepest.study.planning.request import Request
    from steepest.study.running.engine import Callback
    from steepest.study.running.store import StudyFolder

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

    def _repr_html_(self) -> str:
        """Return the answer as HTML for a notebook."""
        from markupsafe import Markup

        from steepest.study.report.text.outcome import as_html

        known = Markup("").join(Markup("<li>{}</li>").format(sentence) for sentence in (*self.cautions, *self.notes))
        parts = (self.sentence, Markup(as_html(self.rows)), known, self.report.resolve().as_uri(), self.report)
        return Markup('<p>{}</p>{}<ul>{}</ul><p>report: <a href="{}">{}</a></p>').format(*parts)


def compare(
    model: Callable[[], nn.Module],
    data: Source,
    loss: Loss,
    optimizers: Optimizers,
    *,
    metric: Metric = LOSS,
    batch_size: int = 32,
    horizon: int = 10,
    seeds: int = 10,
    trials: int = 0,
    target: float | tuple[float, ...] = (),
    margin: float = 0.0,
    searched: Sequence[str] = (),
    spaces: Mapping[str, Space] | None = None,
    schedule: str | None = None,
    timing_rounds: int = 3,
    reference: str | None = None,
    progress: bool | None = None,
    out: Path | str | None = None,
    seed_offset: int = 0,
    search_seed: int = 0,
    more_seeds: int | None = None,
) -> Answer:
    """Compare optimizers on a model, in this process and on the CPU, and return the answer.

    Args:
        model: a function that builds the network; called once per trial, with torch's generator seeded.
        data: see `Workload`; so are `loss`, `metric`, `batch_size`, `horizon` (epochs), `target` and `margin`.
        optimizers: names as the command line takes them (`"adamw"`, `"adam[lr=0.01,schedule=wsd]"`), classes or
            functions of the parameters; or a mapping from labels to classes or functions.
        seeds: number of evaluation seeds.
        trials: search trials of every optimizer, a power of two; 0 runs every optimizer as it is given.
        searched: hyperparameters to search, or `("all",)`; the learning rate without any.
        spaces: search spaces by optimizer, see `steepest.study.planning.search`.
        schedule: the learning rate's schedule for every optimizer without its own, such as `"cosine[warmup=100]"`; by
            default cosine with warm-up if there is a search, else constant.
        timing_rounds: how often every optimizer's step is timed, after all training.
        reference: label of the optimizer that the others are compared with; the first without it.
        progress: whether to show a progress line on standard error; by default on a terminal and in a notebook.
        out: the study folder; a new temporary one without it. The same call with the same folder resumes.
        seed_offset: the first evaluation seed.
        search_seed: the number of the search's draw: another one gives other points and other tuning seeds.
        more_seeds: the largest number of seeds of a sequential test, which looks after every `seeds` of them.

    Raises:
        UsageError: the arguments cannot be carried out as given.
    """
    from steepest.study.planning.request import Request

    workload = Workload(
        data=data,
        model=model,
        loss=loss,
        metric=metric,
        batch_size=batch_size,
        horizon=horizon,
        target=target,
        margin=margin,
        seeds=seeds,
        trials=trials,
        title="A comparison from Python",
    )
    request = Request(
        Declared("comparison", lambda: workload, "comparison"),
        optimizers=tuple(_texts(optimizers)),
        searched_wanted=tuple(searched),
        spaces=spaces or {},
        schedule_wanted=schedule,
        reference_wanted=reference,
        timing_rounds=timing_rounds,
        seed_offset=seed_offset,
        search_seed=search_seed,
        more_seeds_wanted=more_seeds,
    )
    return _run(request, data, progress, out)


def _run(request: "Request", data: Source, progress: bool | None, out: Path | str | None) -> Answer:
    """Run a study in this process, or the rest of it, and return its answer."""
    from steepest.study.planning import remarks
    from steepest.study.planning.plan import make_plan
    from steepest.study.running import engine
    from steepest.study.running.store import StudyFolder

    folder = StudyFolder(Path(tempfile.mkdtemp(prefix="steepest-")) if out is None else Path(out))
    plan = make_plan(request, adapt.load(data), f"steepest.study.compare in {Path(sys.argv[0]).name or 'python'}")
    with _watching(plan, folder, progress) as callback:
        summary = engine.run(plan, folder, callback)
    if summary.signal is not None:
        raise KeyboardInterrupt if summary.signal == signal.SIGINT else SystemExit(signals.exit_code(summary.signal))
    return _answer(folder.path, summary.ended, (*remarks.remarks(request), *summary.notes))


def _answer(folder: Path, statuses: Mapping[str, int], notes: tuple[str, ...]) -> Answer:
    """Read the study, write its report, and return the answer."""
    from steepest.study import report
    from steepest.study.report.findings.findings import findings
    from steepest.study.report.stored.reader import read_study
    from steepest.study.report.text.answer import answer, caution
    from steepest.study.report.text.outcome import outcome

    results = findings(read_study(folder))
    return Answer(
        sentence=answer(results.study, results.verdicts, results.summaries),
        comparisons=results.verdicts.comparisons,
        folder=folder,
        report=report.write_report(folder),
        statuses=dict(statuses),
        rows=outcome(results),
        cautions=caution(results.study, results.verdicts, results.searches),
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
