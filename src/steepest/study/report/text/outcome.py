"""A study's outcome in a row for every optimizer, as a terminal, a notebook and `print` show it."""

from collections.abc import Mapping
from typing import Final

from markupsafe import Markup

from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.measures import goal
from steepest.study.report.findings.settings import ran_with
from steepest.study.report.findings.summary import Spread
from steepest.study.report.findings.verdicts import VerdictRow, Verdicts
from steepest.study.report.wording import ACCURACY, COSTS, between, number, score, signed

PERCENT: Final = 100
MILLISECONDS: Final = 1000
LEFT: Final = ("ran with", "verdict", "trials")
"""Headings of words; the others are of figures, which end at the right."""

Cells = Mapping[str, str]
"""Cells by heading."""


def outcome(findings: Findings) -> dict[str, Cells]:
    """Return by optimizer what it ran with, mean and standard deviation over seeds, and its verdict."""
    metric = findings.study.metric
    steps = {cost.label: MILLISECONDS * cost.seconds for cost in findings.costs}  # the timing pass's
    verdicts = {row.label: row for row in findings.verdicts.rows}
    settings = ran_with(findings.study)
    better = _better(findings.verdicts)
    rows: dict[str, Cells] = {}
    for summary in findings.summaries:
        is_reference = summary.label == findings.verdicts.reference
        difference, verdict = _judgement(verdicts.get(summary.label), is_reference, metric)
        rows[summary.label] = {
            "ran with": settings.get(summary.label, ""),
            f"test {metric.replace('_', ' ')}": _score(summary.spreads[goal(findings.study).key], metric),
            better: difference,
            "verdict": verdict,
            "train loss": number(summary.spreads["train_loss"].mean),
            "ms/step": number(steps.get(summary.label)),
            "trials": ", ".join(f"{count} {status}" for status, count in summary.statuses.items()),
        }
    return rows


def _better(verdicts: Verdicts) -> str:
    condition = verdicts.condition
    return f"better by, at equal {COSTS[condition.match]}" if condition.is_early else "better by"


def as_text(rows: Mapping[str, Cells]) -> str:
    """Return the rows in columns of equal width."""
    table = [["optimizer", *_headings(rows)], *([label, *cells.values()] for label, cells in rows.items())]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    places = ["<" if heading in ("optimizer", *LEFT) else ">" for heading in table[0]]
    lines = (
        "  ".join(f"{cell:{place}{width}}" for cell, place, width in zip(row, places, widths, strict=True))
        for row in table
    )
    return "\n".join(line.rstrip() for line in lines)


def as_html(rows: Mapping[str, Cells]) -> str:
    """Return the rows as a table that takes the colours of the page that it is put in; every text is escaped."""
    head = Markup("").join(_cell("th", heading, heading) for heading in ("optimizer", *_headings(rows)))
    body = Markup("").join(
        Markup("<tr>{}{}</tr>").format(
            _cell("th", "optimizer", label), Markup("").join(_cell("td", *item) for item in cells.items())
        )
        for label, cells in rows.items()
    )
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, body)


def _cell(kind: str, heading: str, words: str) -> Markup:
    place = "left" if heading in ("optimizer", *LEFT) else "right"
    return Markup('<{kind} style="text-align: {place}; padding: 0.1em 0.6em">{words}</{kind}>').format(
        kind=Markup(kind), place=place, words=words
    )


def _headings(rows: Mapping[str, Cells]) -> tuple[str, ...]:
    return tuple(next(iter(rows.values()), {}))


def _judgement(row: VerdictRow | None, is_reference: bool, metric: str) -> tuple[str, str]:
    if row is None:
        return "", "reference" if is_reference else ""
    comparison = row.comparison
    if comparison is None:
        return "", "no paired seed" if row.planned else "not evaluated"
    unit = PERCENT if metric == ACCURACY else 1  # as the column of scores has it
    interval = between(unit * comparison.interval.low, unit * comparison.interval.high)
    return f"{signed(unit * comparison.estimate)} ({interval})", str(comparison.verdict)


def _score(found: Spread, metric: str) -> str:
    if found.mean is None or found.deviation is None:
        return score(found.mean, metric)
    if metric == ACCURACY:
        return f"{PERCENT * found.mean:.2f} ± {PERCENT * found.deviation:.2f}%"
    return f"{score(found.mean, metric)} ± {score(found.deviation, metric)}"
