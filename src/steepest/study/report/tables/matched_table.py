"""The table of verdicts at equal steps, training seconds and gradient evaluations."""

from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.matching import Matched
from steepest.study.report.findings.measures import MISSING
from steepest.study.report.tables.answer_tables import VERDICT_TAGS
from steepest.study.report.tables.tables import Cell, Column, Formatted, Table, Text
from steepest.study.report.wording import COSTS, percent, signed


def matched_table(findings: Findings) -> Table:
    """Return a table with one row per optimizer; without rows where all costs are equal, or none is known."""
    known = [one for one in findings.matches if one.is_known]
    is_compared = bool(findings.matches[0].verdicts.comparisons)
    labels = findings.study.labels if is_compared and not all(one.equal for one in known) else ()
    return Table(
        key="matched",
        caption="Verdicts at equal cost, with the difference from the reference. Equal steps: the test set at the "
        "end of training. Others: the validation set, at the share of its steps that an optimizer has taken by then.",
        columns=(
            Column("Optimizer"),
            *(
                column
                for one in known
                for column in (
                    Column(f"Equal {COSTS[one.match]}"),
                    Column("Difference", numeric=True),
                    *(() if one.equal else (Column("Steps taken", numeric=True),)),
                )
            ),
        ),
        rows=tuple((Text(label), *(cell for one in known for cell in _cells(one, label))) for label in labels),
    )


def _cells(found: Matched, label: str) -> tuple[Cell, ...]:
    share = found.reads.get(label)
    taken = () if found.equal else (Formatted(share, MISSING if share is None else percent(share)),)
    nothing = Formatted(None, MISSING)
    if label == found.verdicts.reference:
        return Text("reference"), nothing, *taken
    comparison = next((one for one in found.verdicts.comparisons if one.label == label), None)
    if comparison is None:
        return Text(MISSING), nothing, *taken
    verdict = Text(comparison.verdict.value, tag=VERDICT_TAGS[comparison.verdict])
    return verdict, Formatted(comparison.estimate, signed(comparison.estimate)), *taken
