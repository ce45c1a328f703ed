"""The tables of the answer: verdicts, times to target, what was searched and found, cost, and who was left out."""

import math
from collections.abc import Mapping

from steepest.study.records.format import DEFAULTS, FINISHED
from steepest.study.report.findings.cost import Cost
from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.measures import MISSING, goal, number
from steepest.study.report.findings.settings import ran_with, searched, spelled, with_setting
from steepest.study.report.findings.time_to_target import UNITS, Target, TimeToTarget, Unit
from steepest.study.report.findings.tuning import Search, SearchPoint
from steepest.study.report.findings.verdicts import VerdictRow, Verdicts
from steepest.study.report.stored.study import Study
from steepest.study.report.tables.tables import Cell, Column, Formatted, IntervalCell, MeanSd, Number, Table, Text
from steepest.study.report.wording import at_words, between, duration, p_value, percent, signed
from steepest.study.statistics.verdicts import Comparison, Verdict

VERDICT_TAGS: Mapping[Verdict, str] = {
    Verdict.BETTER: "verdict good",
    Verdict.WORSE: "verdict bad",
    Verdict.EQUIVALENT: "verdict",
    Verdict.BOTH_DIVERGED: "verdict bad",
    Verdict.UNDECIDED: "verdict open",
    Verdict.NOT_ENOUGH_SEEDS: "verdict open",
}
MISSED = "missed"


def answer_tables(findings: Findings) -> tuple[Table, ...]:
    """Return the tables that have rows."""
    tables = (
        verdicts_table(findings),
        targets_table(findings),
        tuning_table(findings),
        search_table(findings),
        cost_table(findings),
        skipped_table(findings.study),
    )
    return tuple(table for table in tables if table.rows)


def verdicts_table(findings: Findings) -> Table:
    """Return a table with one row per optimizer that is compared with the reference."""
    verdicts, settings = findings.verdicts, ran_with(findings.study)
    return Table(
        key="verdicts",
        caption=_verdicts_caption(verdicts, settings),
        columns=(
            Column("Optimizer"),
            Column("Verdict"),
            Column("Ran with"),
            Column("Paired seeds"),
            Column("Difference", numeric=True),
            Column(f"{percent(verdicts.level)} interval", numeric=True),
            Column("P(better)", numeric=True),
            Column("Adjusted p", numeric=True),
            Column("Effect size", numeric=True),
        ),
        rows=tuple(_verdict_row(row, settings.get(row.label, "")) for row in verdicts.rows),
    )


def targets_table(findings: Findings) -> Table:
    """Return a table with one row per target and optimizer: medians over seeds, in every unit that was recorded."""
    units = [unit for unit in UNITS if any(unit in row.times for target in findings.targets for row in target.rows)]
    return Table(
        key="targets",
        caption="Time to target: the median over seeds, a miss ranked last. Verdicts are on steps, corrected within "
        "each target and apart from the main ones.",
        columns=(
            Column("Optimizer"),
            Column("Target", numeric=True),
            Column("Reached"),
            *(Column(unit.capitalize(), numeric=True) for unit in units),
            Column("Verdict"),
            Column("Adjusted p", numeric=True),
        ),
        rows=tuple(_target_row(target, row, units) for target in findings.targets for row in target.rows),
    )


def tuning_table(findings: Findings) -> Table:
    """Return a table with one row per optimizer that was searched: where, how often, and what was chosen."""
    return Table(
        key="tuning",
        caption="What was searched and what was chosen. Scores are validation scores of the tuning seeds: those of the "
        "evaluation seeds are the results.",
        columns=(
            Column("Optimizer"),
            Column("Searched"),
            Column("Points"),
            Column("Chosen"),
            Column("Score", numeric=True),
            Column("Score of the defaults", numeric=True),
            Column("Basin, decades", numeric=True),
            Column("Remark"),
        ),
        rows=tuple(_tuning_row(search, findings.study) for search in findings.searches),
    )


def search_table(findings: Findings) -> Table:
    """Return a table with one row per point of every search."""
    return Table(
        key="search",
        caption="Every point that was tried. The score is the mean over the tuning seeds of the last validation score.",
        columns=(
            Column("Optimizer"),
            Column("Point"),
            Column("Options"),
            Column("Score", numeric=True),
            Column("Status"),
            Column("Chosen"),
            Column("Run it again"),
        ),
        rows=tuple(_point_row(findings.study, search, tried) for search in findings.searches for tried in search.tried),
    )


def cost_table(findings: Findings) -> Table:
    """Return a table with one row per optimizer that was timed."""
    measure = goal(findings.study)
    return Table(
        key="cost",
        caption="Cost beside the result: the median time of a step over the rounds of the timing pass, and the bytes "
        "that the optimizer remembers per parameter of the model.",
        columns=(
            Column("Optimizer"),
            Column("Step", numeric=True),
            Column(f"Times {findings.study.reference}'s", numeric=True),
            Column("Rounds"),
            Column("State, bytes per parameter", numeric=True),
            Column(measure.title, numeric=True),
        ),
        rows=tuple(_cost_row(findings, cost) for cost in findings.costs),
    )


def skipped_table(study: Study) -> Table:
    """Return a table with one row per optimizer that took no part."""
    return Table(
        key="skipped",
        caption="Asked for, and left out before anything ran.",
        columns=(Column("Optimizer"), Column("Rule"), Column("Reason")),
        rows=tuple(
            (Text(entry.label), Text(entry.name), Text(entry.skipped, tag="words"))
            for entry in study.optimizers
            if entry.skipped is not None
        ),
    )


def _verdicts_caption(verdicts: Verdicts, settings: Mapping[str, str]) -> str:
    margin = f"; differences within ±{verdicts.margin:g} have no practical meaning" if verdicts.margin else ""
    reference = with_setting(str(verdicts.reference), settings)
    return (
        f"{verdicts.measure.title} {at_words(verdicts.condition)}, against {reference}. Positive differences favour "
        f"the optimizer{margin}."
    )


def _verdict_row(row: VerdictRow, setting: str) -> tuple[Cell, ...]:
    one, ran = row.comparison, Text(setting, tag="code words")
    if one is None:
        nothing = Formatted(None, MISSING)
        why = "no paired seed" if row.planned else "not evaluated: no point of its search finished on every seed"
        return (
            Text(row.label),
            Text(why, tag="words"),
            ran,
            Text(_pairs(row)),
            nothing,
            _no_interval(),
            *(nothing,) * 3,
        )
    return (
        Text(row.label),
        _verdict(one),
        ran,
        Text(_pairs(row)),
        Formatted(None if math.isnan(one.estimate) else one.estimate, signed(one.estimate)),
        IntervalCell(one.interval.low, one.interval.high, between(one.interval.low, one.interval.high)),
        Number(one.probability_better, 2),
        Formatted(one.adjusted_p_value, p_value(one.adjusted_p_value)),
        Formatted(one.effect_size, signed(one.effect_size)),
    )


def _no_interval() -> IntervalCell:
    return IntervalCell(None, None, MISSING)


def _verdict(comparison: Comparison) -> Text:
    return Text(comparison.verdict.value, tag=VERDICT_TAGS[comparison.verdict])


def _arrival(comparison: Comparison) -> Text:
    """Return the verdict on times to a target, where a result that is not finite is a miss."""
    return Text("both missed") if comparison.verdict is Verdict.BOTH_DIVERGED else _verdict(comparison)


def _pairs(row: VerdictRow) -> str:
    """Spell ``8 of 10 (1 failed, 1 interrupted; 2 diverged; 1 with the reference's)``."""
    groups = [", ".join(f"{count} {status}" for status, count in ends.items()) for ends in (row.missing, row.lost)]
    groups.append(f"{row.undefined} with the reference's" if row.undefined else "")
    remarks = "; ".join(part for part in groups if part)
    n = len(row.differences)
    count = str(n) if n == row.planned else f"{n} of {row.planned}"
    return f"{count} ({remarks})" if remarks else count


def _target_row(target: Target, row: TimeToTarget, units: list[Unit]) -> tuple[Cell, ...]:
    comparison = row.comparison
    return (
        Text(row.label),
        Formatted(target.value, f"{target.value:g}"),
        Text(f"{row.hits} of {row.known}" + (f" ({row.planned} planned)" if row.known < row.planned else "")),
        *(Formatted(row.median(unit), _time(row.median(unit), unit)) for unit in units),
        Text("reference" if row.label == target.verdicts.reference else MISSING)
        if comparison is None
        else _arrival(comparison),
        Formatted(None, MISSING)
        if comparison is None
        else Formatted(comparison.adjusted_p_value, p_value(comparison.adjusted_p_value)),
    )


def _time(value: float | None, unit: Unit) -> str:
    if value is None:
        return MISSING
    if math.isinf(value):
        return MISSED
    return duration(value) if unit == "seconds" else f"{value:,.0f}" if unit != "epochs" else f"{value:.3g}"


def _tuning_row(search: Search, study: Study) -> tuple[Cell, ...]:
    best = search.best
    return (
        Text(search.label),
        Text(_ranges(search, study), tag="words"),
        Text(_statuses(search)),
        Text(_chosen(best), tag="code"),
        _score(best),
        _score(search.defaults),
        _basin(search, study.protocol.margin),
        Text(_edge(search), tag="words"),
    )


def _ranges(search: Search, study: Study) -> str:
    further = [ends for extension in study.protocol.extensions if (ends := extension.get(search.label))]
    first = searched(search.setting.space) or "nothing"
    return "; then ".join([first, *(f"{ends['low']:g} to {ends['high']:g}" for ends in further)])


def _statuses(search: Search) -> str:
    lost = ", ".join(f"{count} {status}" for status, count in search.statuses.items() if status != FINISHED)
    return f"{len(search.tried)} ({lost})" if lost else str(len(search.tried))


def _chosen(best: SearchPoint | None) -> str:
    if best is None:
        return "none"
    return "library's defaults" if best.point == DEFAULTS else spelled(best.options)


def _score(tried: SearchPoint | None) -> Cell:
    """Return a score with four decimals: scores decide between points that three would show alike."""
    if tried is None or not tried.trials:
        return Formatted(None, MISSING)
    if math.isnan(tried.score):
        return Formatted(None, tried.status)
    return Formatted(tried.score, number(tried.score, 4))


def _basin(search: Search, margin: float) -> Cell:
    """Return the basin's width; a lower bound where it reaches the end of what was tried, nothing without a margin."""
    if search.curve is None or not margin:
        return Formatted(None, MISSING)
    return Formatted(search.curve.decades, f"{'≥ ' if search.curve.reaches else ''}{search.curve.decades:.2f}")


def _edge(search: Search) -> str:
    if search.curve is None or search.curve.at_edge is None:
        return ""
    end = {"low": "lowest", "high": "highest"}[search.curve.at_edge]
    return f"best rate is the {end} tried: --extend"


def _point_row(study: Study, search: Search, tried: SearchPoint) -> tuple[Cell, ...]:
    tag = "good" if tried.status == FINISHED else "bad" if tried.ended else "open"
    return (
        Text(search.label),
        Text(str(tried.point)),
        Text(spelled(tried.options) or "library's defaults", tag="code"),
        _score(tried),
        Text(tried.status, tag=f"status {tag}"),
        Text("chosen" if tried.point == search.chosen else ""),
        Text(study.rerun(tried.trials[0]) if tried.trials else "", tag="record"),
    )


def _cost_row(findings: Findings, cost: Cost) -> tuple[Cell, ...]:
    measure = goal(findings.study)
    spreads = {summary.label: summary.spreads[measure.key] for summary in findings.summaries}
    low, high = min(cost.rounds), max(cost.rounds)
    return (
        Text(cost.label),
        Formatted(cost.seconds, duration(cost.seconds)),
        Number(cost.ratio, 2),
        Text(f"{len(cost.rounds)}: {duration(low)} to {duration(high)}" if len(cost.rounds) > 1 else "1"),
        Number(cost.state_bytes, 2),
        MeanSd(spreads[cost.label], measure),
    )
