"""A replication in words and as plain data: for every comparison both verdicts, and whether they agree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.replication import Agreement, ReplicatedRow, replicated
from steepest.study.report.findings.settings import ran_with
from steepest.study.report.stored.study import Study
from steepest.study.report.wording import between, joined, numbers_in_words, plural, signed
from steepest.study.statistics.verdicts import Comparison

Pair = tuple[Findings, Findings]
"""A study and its replication."""

_MEANINGS = {
    Agreement.SAME: "{} the same",
    Agreement.WEAKER: "{} weaker (decided, then open)",
    Agreement.STRONGER: "{} stronger (open, then decided)",
    Agreement.COMPATIBLE: "{} different and compatible (both may be true)",
    Agreement.CONTRADICTS: "{} contradicting",
    None: "{} missing in one of the two",
}


def replication_lines(first: Findings, second: Findings) -> list[str]:
    """Return a sentence on all comparisons together, then a line for each."""
    rows = replicated(first.verdicts, second.verdicts)
    return [_summary(first, second, rows), *(_line(row, first, second) for row in rows)]


def replication_document(first: Findings, second: Findings) -> dict[str, Any]:
    """Return both verdicts of every comparison with their figures."""
    rows = replicated(first.verdicts, second.verdicts)
    return {
        "schema": 1,
        "first": _described(first.study),
        "second": _described(second.study),
        "reference": first.verdicts.reference,
        "measure": first.verdicts.measure.key,
        "margin": first.verdicts.margin,
        "alpha": first.verdicts.alpha,
        "comparisons": [
            {
                "optimizer": row.label,
                "agreement": row.agreement,
                "first": _figures(row.first),
                "second": _figures(row.second),
            }
            for row in rows
        ],
    }


def replications_line(folder: str, pairs: Sequence[Pair]) -> str:
    """Return a sentence on the comparisons of all studies of a suite together."""
    rows = _rows(pairs)
    studies = plural(len(pairs), "workload")
    if not rows:
        return f"Replication of {folder}: there is no verdict to repeat on {studies}."
    return f"Replication of {folder}: of {plural(len(rows), 'verdict')} on {studies}, {_counted(rows)}."


def replications_document(folder: str, pairs: Mapping[str, Pair]) -> dict[str, Any]:
    """Return how often the verdicts of a suite agree, and the replication of each of its studies by its folder."""
    counts = Counter(row.agreement for row in _rows(list(pairs.values())))
    return {
        "schema": 1,
        "first": {"folder": folder},
        "agreements": {kind or "missing": counts[kind] for kind in _MEANINGS},
        "studies": {name: replication_document(*both) for name, both in pairs.items()},
    }


def _rows(pairs: Sequence[Pair]) -> list[ReplicatedRow]:
    return [row for first, second in pairs for row in replicated(first.verdicts, second.verdicts)]


def _counted(rows: Sequence[ReplicatedRow]) -> str:
    """Say how many verdicts agree in which way."""
    counts = Counter(row.agreement for row in rows)
    return joined([_MEANINGS[kind].format(counts[kind]) for kind in _MEANINGS if counts[kind]])


def _summary(first: Findings, second: Findings, rows: tuple[ReplicatedRow, ...]) -> str:
    search = " and another draw of the search" if second.study.tuned else ""
    where = f"Replication of {first.study.folder} on seeds {numbers_in_words(_seeds(second.study))}{search}"
    if not rows:
        return f"{where}: there is one optimizer, and no verdict to repeat."
    return f"{where}: of {plural(len(rows), 'verdict')} against {first.verdicts.reference}, {_counted(rows)}."


def _line(row: ReplicatedRow, first: Findings, second: Findings) -> str:
    words = [
        _side(row.first, ran_with(first.study).get(row.label, "")),
        _side(row.second, ran_with(second.study).get(row.label, "")),
    ]
    return f"{row.label}: {words[0]}; then {words[1]}: {row.agreement or 'not comparable'}"


def _side(comparison: Comparison | None, setting: str) -> str:
    if comparison is None:
        return "without a paired seed"
    interval = comparison.interval
    figures = f"{signed(comparison.estimate)}, {between(interval.low, interval.high)}"
    ran = f" with {setting}" if setting else ""
    return f"{comparison.verdict} ({figures}){ran}"


def _described(study: Study) -> dict[str, Any]:
    document = study.document
    return {
        "folder": study.folder,
        "created": document.created,
        "seeds": _seeds(study),
        "tuning_seeds": list(document.protocol.tuning_seeds),
        "chosen": {label: dict(choice.options) for label, choice in study.chosen.items()},
    }


def _figures(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    interval = comparison.interval
    return {
        "verdict": str(comparison.verdict),
        "pairs": comparison.n,
        "better_by": comparison.estimate,
        "interval": {"low": interval.low, "high": interval.high, "level": interval.level},
        "p_value": comparison.p_value,
        "adjusted_p_value": comparison.adjusted_p_value,
    }


def _seeds(study: Study) -> list[int]:
    return sorted({trial.seed for trial in study.trials})
