"""The tables of results, trials and settings."""

from collections.abc import Sequence
from typing import Final

from steepest.study.records.format import FINISHED, INTERRUPTED, UNSTARTED, OptimizerEntry, Published
from steepest.study.report.findings.measures import Measure, table_measures, trial_measures
from steepest.study.report.findings.settings import acting, run_with, schedule_of, spelled
from steepest.study.report.findings.summary import Summary
from steepest.study.report.stored.study import Study, Trial
from steepest.study.report.tables.tables import Cell, Column, Formatted, MeanSd, Number, Table, Text

PAPER_PRESET = "full"
MOST_ROWS: Final = 1000
"""The most trials on a page: a browser is slow with more. The files of the table have all."""
_STATUS_TAGS = {FINISHED: "good", INTERRUPTED: "open", UNSTARTED: "open"}


def results_table(study: Study, summaries: Sequence[Summary]) -> Table:
    """Return a table of mean and spread of every figure by optimizer, with published ones where those apply."""
    measures = table_measures(study)
    beside = comparable(study)
    return Table(
        key="results",
        caption=_results_caption(study, beside),
        columns=(Column("Optimizer"), Column("Seeds"), *_result_columns(measures, beside)),
        rows=tuple(_result_row(summary, measures, beside) for summary in summaries),
    )


def trials_table(study: Study) -> Table:
    """Return a table with one row per trial, whatever became of it."""
    return _trials_table(study, study.trials, "")


def shown_trials_table(study: Study) -> Table:
    """Return the trials that a page shows: all that did not finish, and the first others, up to `MOST_ROWS`."""
    ordered = sorted(study.trials, key=lambda trial: trial.finished)  # stable: in the study's order
    kept = {trial.id for trial in ordered[:MOST_ROWS]}
    if len(kept) == len(study.trials):
        return trials_table(study)
    note = (
        f" These are {len(kept):,} of {len(study.trials):,}, those that did not finish before all others; "
        "tables/trials.csv has all."
    )
    return _trials_table(study, [trial for trial in study.trials if trial.id in kept], note)


def _trials_table(study: Study, trials: Sequence[Trial], note: str) -> Table:
    measures = trial_measures(study)
    figures = tuple(Column(measure.title, numeric=True) for measure in measures)
    return Table(
        key="trials",
        caption=f"Every trial. Training and validation figures are those of its last recorded epoch.{note}",
        columns=(
            Column("Optimizer"),
            Column("Seed", numeric=True),
            Column("Status"),
            Column("Remark"),
            Column("Epoch", numeric=True),
            Column("Step", numeric=True),
            *figures,
            Column("Seconds", numeric=True),
            Column("Run it again"),
        ),
        rows=tuple(_trial_row(study, trial, measures) for trial in trials),
    )


def settings_table(study: Study) -> Table:
    """Return a table with one row per optimizer: the options that act; those that are off are left out here."""
    return Table(
        key="settings",
        caption="What every optimizer was evaluated with: the hyperparameters that act. Those that are off "
        "are listed below.",
        columns=(
            Column("Optimizer"),
            Column("Rule"),
            Column("Hyperparameters"),
            Column("Schedule"),
            Column("Executor"),
        ),
        rows=tuple(_settings_row(study, setting) for setting in study.running),
    )


def comparable(study: Study) -> Published | None:
    """Return the published figures if this study repeats their experiment: smaller presets are another experiment."""
    return study.document.published if study.document.preset == PAPER_PRESET else None


def _results_caption(study: Study, beside: Published | None) -> str:
    paper = ", beside the published figures" if beside else ""
    return f"Results of {study.name}: mean over finished seeds ± one standard deviation{paper}."


def _result_columns(measures: Sequence[Measure], beside: Published | None) -> list[Column]:
    if beside is None:
        return [Column(measure.title, numeric=True) for measure in measures]
    pairs = [
        (Column("here", measure.title, numeric=True), Column("paper", measure.title, numeric=True, muted=True))
        for measure in measures
    ]
    return [column for pair in pairs for column in pair]


def _result_row(summary: Summary, measures: Sequence[Measure], beside: Published | None) -> tuple[Cell, ...]:
    cells: list[Cell] = [Text(summary.label), Text(summary.coverage)]
    for measure in measures:
        cells.append(MeanSd(summary.spreads[measure.key], measure))
        if beside is not None:
            cells.append(Number(beside.rows.get(summary.label, {}).get(measure.key), measure.decimals))
    return tuple(cells)


def _trial_row(study: Study, trial: Trial, measures: Sequence[Measure]) -> tuple[Cell, ...]:
    figures = (Number(measure.of(trial), measure.decimals) for measure in measures)
    return (
        Text(trial.optimizer),
        Number(trial.seed),
        Text(trial.status, tag=f"status {_STATUS_TAGS.get(trial.status, 'bad')}"),
        Text(_remark(trial), detail=trial.traceback, tag="words"),
        Formatted(trial.epoch, f"{trial.epoch:g}"),
        Number(trial.step),
        *figures,
        Number(trial.seconds, 1),
        Text(study.rerun(trial), tag="record"),
    )


def _remark(trial: Trial) -> str:
    restarted = f"restarted from its beginning: {trial.restarts}" if trial.restarts else ""
    return "; ".join(part for part in (trial.reason, restarted) if part)


def _settings_row(study: Study, setting: OptimizerEntry) -> tuple[Cell, ...]:
    ran = dict.fromkeys(trial.executor for trial in study.trials_of(setting.label) if trial.executor)
    executor = ", ".join(ran) or setting.executor or ""
    acts = Text(spelled(acting(run_with(study, setting))), tag="code")
    return (Text(setting.label), Text(setting.name), acts, Text(schedule_of(study, setting)), Text(executor))
