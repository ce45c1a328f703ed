"""The comparison across workloads as a short table: mean rank, and the verdict on every workload."""

from steepest.study.report.across.across import Across
from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.measures import MISSING


def outcome(found: Across) -> dict[str, dict[str, str]]:
    """Return by optimizer its mean rank, if it has one, and the verdict and the rank on every workload."""
    labels = [*sorted(found.mean_ranks, key=lambda label: found.mean_ranks[label]), *found.absent]
    return {
        label: {"mean rank": f"{found.mean_ranks[label]:.3g}" if label in found.mean_ranks else MISSING}
        | {name: _on(found, name, label) for name in found.found}
        for label in labels
    }


def _on(found: Across, name: str, label: str) -> str:
    rank = found.ranks.get(name, {}).get(label)
    said = _verdict(found.found[name], label)
    return said if rank is None else f"{said} ({rank:g})"


def _verdict(findings: Findings, label: str) -> str:
    if label == findings.verdicts.reference:
        return "reference"
    entries = {entry.label: entry for entry in findings.study.optimizers}
    comparison = next((one for one in findings.verdicts.comparisons if one.label == label), None)
    if comparison is not None:
        return comparison.verdict.value
    return "skipped" if label in entries and entries[label].skipped else MISSING
