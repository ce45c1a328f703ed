"""The table at the end of a study, from the same findings that the report shows."""

from rich.table import Table
from rich.text import Text

from steepest.cli import text
from steepest.study.declaration import ACCURACY
from steepest.study.report.answer import answer
from steepest.study.report.findings import Findings
from steepest.study.report.judging import Judged
from steepest.study.report.measures import goal
from steepest.study.report.summary import Spread, Summary
from steepest.study.report.wording import between, signed

PERCENT = 100
MILLISECONDS = 1000


def sentence(found: Findings) -> str:
    """Return the study's answer in words."""
    return answer(found.study, found.verdicts, found.summaries)


def table(found: Findings) -> Table:
    """Return one row per optimizer: mean and standard deviation over seeds, and the verdict against the reference."""
    metric = found.study.metric
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("optimizer", overflow="fold")
    for heading in (f"test {text.words(metric)}", "better by", "verdict", "train loss", "ms/step"):
        grid.add_column(heading, justify="left" if heading == "verdict" else "right", no_wrap=True)
    grid.add_column("trials")
    steps = {cost.label: MILLISECONDS * cost.seconds for cost in found.costs}  # the timing pass's
    judged = {row.label: row for row in found.verdicts.rows}
    for summary in found.summaries:
        difference, verdict = _judgement(judged.get(summary.label), summary.label == found.verdicts.reference, metric)
        grid.add_row(
            Text(summary.label),  # as it is: rich would read its brackets as markup
            _score(summary.spreads[goal(found.study).key], metric),
            difference,
            verdict,
            text.number(_mean(summary, "train_loss")),
            text.number(steps.get(summary.label)),
            ", ".join(f"{count} {status}" for status, count in summary.statuses.items()),
        )
    return grid


def _judgement(row: Judged | None, is_reference: bool, metric: str) -> tuple[str, str]:
    if row is None or row.comparison is None:
        return "", "reference" if is_reference else ""
    one = row.comparison
    unit = PERCENT if metric == ACCURACY.name else 1  # as the column of scores has it
    interval = between(unit * one.interval.low, unit * one.interval.high)
    return f"{signed(unit * one.estimate)} ({interval})", str(one.verdict)


def _mean(summary: Summary, key: str) -> float | None:
    return summary.spreads[key].mean


def _score(found: Spread, metric: str) -> str:
    if found.mean is None or found.deviation is None:
        return text.score(found.mean, metric)
    if metric == ACCURACY.name:
        return f"{PERCENT * found.mean:.2f} ± {PERCENT * found.deviation:.2f}%"
    return f"{found.mean:.4f} ± {found.deviation:.4f}"
