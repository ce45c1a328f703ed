"""Words on verdicts at equal cost: for the page, the methods, the checks and the cautions."""

from steepest.study.records.format import EVALUATIONS, SECONDS, STEPS
from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.matching import TOLERANCE, Matched
from steepest.study.report.findings.verdicts import Condition
from steepest.study.report.wording import COSTS, amount, at_words, joined, percent
from steepest.study.statistics.verdicts import Verdict

DECIDED = (Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT)
WHOLE = 1.0 - 1e-9


def matched_words(findings: Findings) -> str:
    """Say how optimizers of unequal cost compare, in one line where the costs are equal."""
    if not findings.matches[0].verdicts.comparisons:
        return ""
    if all(one.equal for one in findings.matches):
        return (
            f"Costs are equal within {percent(TOLERANCE)}: equal steps are equal training seconds and equal gradient "
            "evaluations here, so that all three give the same verdicts."
        )
    sentences = (_budgets(findings), _equal(findings), _unknown(findings), _which(findings))
    return " ".join(sentence for sentence in sentences if sentence)


def differing(findings: Findings) -> tuple[str, ...]:
    """Return a caution for every other kind of equal cost that gives an optimizer another verdict."""
    planned = {comparison.label: comparison.verdict for comparison in findings.verdicts.comparisons}
    others = [one for one in findings.matches if one.match != findings.study.protocol.match]
    sentences = []
    for one in others:
        changed = [
            f"{comparison.label} {comparison.verdict.value}"
            for comparison in one.verdicts.comparisons
            if _matters(comparison.verdict, planned.get(comparison.label, comparison.verdict))
        ]
        if changed:
            sentences.append(f"At equal {COSTS[one.match]} some verdicts are other ones: {joined(changed)}.")
    return tuple(sentences)


def matched_methods(findings: Findings) -> str:
    """Return the sentence of the methods paragraph; empty where steps are compared."""
    condition = findings.verdicts.condition
    if condition.match == STEPS or condition.is_waiting:
        return ""
    if not condition.is_early:
        return f"Optimizers were compared {at_words(condition)}."
    how = {
        SECONDS: "; seconds are steps times the median step time of the timing pass",
        EVALUATIONS: "; evaluations of closures count",
    }
    return (
        f"Every trial that ended within {percent(TOLERANCE)} of {amount(condition)} of {COSTS[condition.match]} was "
        "compared at its end, any other at its last evaluation within that budget, on the validation set and without "
        f"interpolation{how[condition.match]}. The test set was read at the end of training and decides nothing here."
    )


def matched_checks(findings: Findings) -> tuple[str, str]:
    """Return a sentence on what equal cost controls, and one on what it does not."""
    condition = findings.verdicts.condition
    if condition.match == STEPS:
        others = [COSTS[one.match] for one in _unequal(findings)]
        return "", f"Equal steps are not equal {joined(others)} here: see the table of equal cost." if others else ""
    if condition.is_waiting:
        return "", ""
    controlled = f"Equal cost of the kind that the plan names: optimizers are compared {at_words(condition)}."
    if not condition.is_early:
        return controlled, ""
    tuned = ", whose examples also chose the settings, on other seeds" if findings.study.tuned else ""
    return controlled, f"Verdicts use the validation set{tuned}. {_early(condition)}".strip()


def _budgets(findings: Findings) -> str:
    unequal = _unequal(findings)
    if not unequal:
        return ""
    budgets = joined([f"{amount(one.verdicts.condition)} of {COSTS[one.match]}" for one in unequal])
    return (
        f"The common budget is the smallest total that a finished trial has, {budgets}. A trial that ends within "
        f"{percent(TOLERANCE)} of it is read at its end, any other at its last evaluation on the validation set within "
        "it; nothing is interpolated."
    )


def _equal(findings: Findings) -> str:
    equal = [COSTS[one.match] for one in findings.matches if one.equal and one.match != STEPS]
    return f"Equal steps are equal {joined(equal)} here, within {percent(TOLERANCE)}." if equal else ""


def _unknown(findings: Findings) -> str:
    unknown = [f"{COSTS[one.match]} of {joined(list(one.unknown))}" for one in findings.matches if one.unknown]
    return f"Not known: {'; '.join(unknown)}." if unknown else ""


def _which(findings: Findings) -> str:
    return (
        f"The plan named {COSTS[findings.study.protocol.match]} before anything ran; verdicts of other columns are "
        "corrected within their column only."
    )


def _early(condition: Condition) -> str:
    """Name the optimizers that were read before the end of their schedule; empty without any."""
    early = [f"{label} at {percent(share)}" for label, share in condition.reads.items() if share < WHOLE]
    if not early:
        return ""
    return (
        f"Read before the end of their learning-rate schedules: {joined(early)} of the steps. A shorter schedule may "
        "do better there."
    )


def _matters(verdict: Verdict, planned: Verdict) -> bool:
    return verdict is not planned and (verdict in DECIDED or planned in DECIDED)


def _unequal(findings: Findings) -> list[Matched]:
    return [one for one in findings.matches if one.is_known and not one.equal]
