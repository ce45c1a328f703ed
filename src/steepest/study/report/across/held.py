"""Verdicts that held on every workload, and verdicts of different workloads that are opposite."""

from collections.abc import Mapping

from steepest.study.report.across.across import Across
from steepest.study.report.wording import joined, plural
from steepest.study.statistics.verdicts import Verdict

WORDS: Mapping[Verdict, str] = {
    Verdict.BETTER: "better",
    Verdict.WORSE: "worse",
    Verdict.EQUIVALENT: "equivalent",
}


def held(found: Across) -> str:
    """Say which optimizers have the same verdict against one reference on every workload, and which opposite ones.

    Empty for a single study, and where studies have different references.
    """
    references = {one.verdicts.reference for one in found.found.values()}
    by_label = _verdicts(found)
    if len(references) != 1 or len(found.found) < 2 or not by_label:
        return ""
    alike = {
        word: [label for label, its in by_label.items() if its == [verdict] * len(found.found)]
        for verdict, word in WORDS.items()
    }
    opposite = [label for label, its in by_label.items() if {Verdict.BETTER, Verdict.WORSE} <= set(its)]
    parts = [f"{joined(labels)} {_be(labels)} {word}" for word, labels in alike.items() if labels]
    every = f"on all {plural(len(found.found), 'workload')}"
    against = f"Against {references.pop()}"
    none = "no optimizer is better, worse or equivalent"
    sentences = [f"{against}, {'; '.join(parts) or none} {every}."]
    if opposite:
        sentences.append(f"{joined(opposite)} {_be(opposite)} better on some and worse on others.")
    return " ".join(sentences)


def _verdicts(found: Across) -> dict[str, list[Verdict]]:
    """Return the verdicts of every optimizer that is compared with the reference, study by study."""
    verdicts: dict[str, list[Verdict]] = {}
    for one in found.found.values():
        for comparison in one.verdicts.comparisons:
            verdicts.setdefault(comparison.label, []).append(comparison.verdict)
    return verdicts


def _be(labels: list[str]) -> str:
    return "is" if len(labels) == 1 else "are"
