"""The content of the comparison across workloads: tables, charts and careful words."""

import math
from collections.abc import Sequence

from steepest.study.records.format import STEPS
from steepest.study.report.across.across import WORKLOAD_LESS, Across, figure_of_error, middle
from steepest.study.report.across.held import held
from steepest.study.report.charts.chart import Axis, Chart, Series
from steepest.study.report.charts.palette import Styles
from steepest.study.report.charts.rows import Estimate, Row, rows
from steepest.study.report.findings.findings import Findings
from steepest.study.report.tables.answer_tables import VERDICT_TAGS
from steepest.study.report.tables.tables import Cell, Column, Formatted, Number, Table, Text
from steepest.study.report.wording import COSTS, joined, percent, plural


def tables(found: Across) -> dict[str, Table]:
    """Return the tables that have rows, by key."""
    made = (_ranks_table(found), _verdicts_table(found), _changes_table(found), _absent_table(found))
    return {table.key: table for table in made if table.rows}


def charts(found: Across, styles: Styles) -> tuple[Chart, ...]:
    """Return the profiles and the ranks."""
    return (_profile_chart(found, styles), _rank_chart(found, styles))


def answer(found: Across) -> str:
    """Say which optimizer has the best mean rank, and whether that stays."""
    if not found.comparable:
        return "No two optimizers have results in all of these studies, so there is nothing to compare across them."
    best = min(found.mean_ranks.values())
    first = [label for label, rank in found.mean_ranks.items() if rank == best]
    have = "has" if len(first) == 1 else "share"
    return (
        f"Over {plural(len(found.found), 'workload')}, {joined(first)} {have} the best mean rank, {best:.3g} of "
        f"{len(found.labels)}. {_survival(found)} {held(found)}".rstrip()
    )


def cautions(found: Across) -> list[str]:
    """Return what a reader must know before repeating the answer."""
    sentences = [
        "A rank is that of a median over seeds and carries no test; each workload's verdicts stand in the table.",
        f"{plural(len(found.found), 'workload')} are not a sample of all: another one may reorder the optimizers."
        if len(found.found) > 1
        else "One workload shows nothing about others.",
    ]
    unequal = [COSTS[one.study.protocol.match] for one in found.found.values() if one.study.protocol.match != STEPS]
    if unequal:
        sentences.append(
            f"Verdicts are those at equal {joined(list(dict.fromkeys(unequal)))}, where the plan names that; ranks and "
            "profiles are those of equal steps."
        )
    if found.absent:
        sentences.append(f"Without a result in some study, and so left out: {joined(list(found.absent))}.")
    return sentences


def profile_words(found: Across) -> str:
    """Say what the profiles' costs are, and why."""
    what, why = _steps_words(found) if found.cost == "steps to target" else _error_words(found)
    unprofiled = f" Not profiled, as not all errors there are positive: {joined(list(found.unprofiled))}."
    return (
        f"The cost of an optimizer on a workload is {what}. The curve is the share of workloads on which its cost is "
        f"at most so many times the best one's: at 1 it counts wins; {why}. Bands resample seeds and workloads "
        f"({_level(found)}, pointwise); with few workloads they are wide. Two curves may change order when a third "
        f"optimizer joins.{unprofiled if found.unprofiled else ''}"
    )


def _steps_words(found: Across) -> tuple[str, str]:
    values = [f"{middle(one.targets).value:g} in {name}" for name, one in found.found.items()]
    return (
        f"the median steps to the middle one of the targets that each plan froze ({'; '.join(values)})",
        "a median that misses never enters the curve, so its end shows how often an optimizer arrives at all",
    )


def _error_words(found: Across) -> tuple[str, str]:
    profiled = {name: one for name, one in found.found.items() if name not in found.unprofiled}
    errors = [f"{figure_of_error(one)} in {name}" for name, one in profiled.items()]
    return (
        f"the median error after the last step ({'; '.join(errors)}), as not every plan froze targets",
        "an optimizer that diverged on half of its seeds never enters the curve",
    )


def _level(found: Across) -> str:
    return percent(found.bands[0].level) if found.bands else percent(0.95)


def _survival(found: Across) -> str:
    """Say whether one workload less changes the first place, then how often other conditions do."""
    groups = {change.name: change.agreements for change in found.changes}
    moved = [f"without {one.change}" for one in groups.get(WORKLOAD_LESS, ()) if not one.first_stays]
    others = [one for name, ones in groups.items() if name != WORKLOAD_LESS for one in ones]
    sentences = [
        f"First place changes {joined(moved)}." if moved else "First place stays whichever workload is left out."
    ] * bool(groups.get(WORKLOAD_LESS))
    if others:
        stays = sum(one.first_stays for one in others)
        sentences.append(f"Other targets or smaller searches keep their first place in {stays} of {len(others)} cases.")
    return " ".join(sentences) or "There was no other condition to try that on."


def _ranks_table(found: Across) -> Table:
    names = list(found.ranks)
    order = sorted(found.mean_ranks, key=lambda label: found.mean_ranks[label])
    return Table(
        key="ranks",
        caption="Rank of the median test result on every workload, 1 the best; equals share their average.",
        columns=(
            Column("Optimizer"),
            Column("Mean rank", numeric=True),
            *(Column(name, numeric=True) for name in names),
        ),
        rows=tuple(
            (Text(label), Number(found.mean_ranks[label], 2), *(_rank(found.ranks[name][label]) for name in names))
            for label in order
        ),
    )


def _rank(value: float) -> Cell:
    return Formatted(value, f"{value:g}")


def _verdicts_table(found: Across) -> Table:
    labels = list(dict.fromkeys(label for one in found.found.values() for label in one.study.labels))
    rows = tuple((Text(label), *(_verdict(found, name, label) for name in found.found)) for label in labels)
    return Table(
        key="verdicts",
        caption="The verdict of every study against its own reference, corrected within the study.",
        columns=(Column("Optimizer"), *(Column(name) for name in found.found)),
        rows=rows if any(one.verdicts.comparisons for one in found.found.values()) else (),
    )


def _verdict(found: Across, name: str, label: str) -> Cell:
    verdicts = found.found[name].verdicts
    if label == verdicts.reference:
        return Text("reference")
    comparison = next((comparison for comparison in verdicts.comparisons if comparison.label == label), None)
    return Text("–") if comparison is None else Text(comparison.verdict.value, tag=VERDICT_TAGS[comparison.verdict])


def _changes_table(found: Across) -> Table:
    return Table(
        key="robustness",
        caption="Whether the ranking survives: Kendall's tau with the ranking before, 1 for the same order.",
        columns=(
            Column("Changed"),
            Column("To"),
            Column("Compared with"),
            Column("Tau", numeric=True),
            Column("First"),
            Column("First stays"),
        ),
        rows=tuple(
            (
                Text(change.name),
                Text(f"without {agreement.change}" if change.name == WORKLOAD_LESS else agreement.change),
                Text(change.before),
                Number(agreement.tau, 2),
                Text(joined(list(agreement.first))),
                Text(
                    "yes" if agreement.first_stays else "no",
                    tag="verdict good" if agreement.first_stays else "verdict bad",
                ),
            )
            for change in found.changes
            for agreement in change.agreements
        ),
    )


def _absent_table(found: Across) -> Table:
    return Table(
        key="absent",
        caption="Left out of profiles and ranks, which need a result on every workload.",
        columns=(Column("Optimizer"), Column("No result in"), Column("Reason")),
        rows=tuple(
            (Text(label), Text(joined(list(names))), Text(_why(found, label, names), tag="words"))
            for label, names in found.absent.items()
        ),
    )


def _why(found: Across, label: str, names: Sequence[str]) -> str:
    return "; ".join(f"{name}: {_reason(found.found[name], label)}" for name in names)


def _reason(findings: Findings, label: str) -> str:
    settings = {entry.label: entry for entry in findings.study.optimizers}
    if label not in settings:
        return "not asked for"
    return settings[label].skipped or "no trial with a result"


def _profile_chart(found: Across, styles: Styles) -> Chart:
    series = tuple(
        Series(
            band.profile.solver,
            styles[band.profile.solver],
            "line",
            band.profile.taus,
            band.profile.shares,
            band=(band.low, band.high),
            notes=("share of workloads",) * len(band.profile.taus),
        )
        for band in found.bands
    )
    wins = [f"{one.label} {one.y[0]:.2g}" for one in series]
    return Chart(
        section="profiles",
        key="performance-profiles",
        title="Performance profiles",
        x=Axis(f"Times the best optimizer's {found.cost if found.cost != 'result' else 'error'} (log scale)", log=True),
        y=Axis("Share of workloads", bounds=(-0.03, 1.03)),
        series=series,
        note="",
        alt=f"Line chart: performance profiles. Shares at 1: {'; '.join(wins)}.",
    )


def _rank_chart(found: Across, styles: Styles) -> Chart:
    order = sorted(found.mean_ranks, key=lambda label: found.mean_ranks[label])
    axis, series = rows([_rank_row(found, label) for label in order], styles)
    return Chart(
        section="ranks",
        key="ranks",
        title="Rank on every workload",
        x=Axis("Rank of the median test result, 1 is the best", integer=True, bounds=(0.7, len(order) + 0.3)),
        y=axis,
        series=series,
        note="Every mark is one workload; the upright stroke is the mean.",
        alt=f"Dot chart: ranks. Means: {'; '.join(f'{label} {found.mean_ranks[label]:.3g}' for label in order)}.",
    )


def _rank_row(found: Across, label: str) -> Row:
    mean = found.mean_ranks[label]
    dots = [(ranks[label], name) for name, ranks in found.ranks.items()]
    return Row(
        label, label, dots, estimate=Estimate("tick", mean, f"mean rank {mean:.3g}") if math.isfinite(mean) else None
    )
