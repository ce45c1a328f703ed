"""Explanations of the page's figures, where they depend on the study."""

from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.verdicts import Verdicts
from steepest.study.report.stored.study import Study
from steepest.study.report.wording import joined, percent, plural


def verdict_words(verdicts: Verdicts) -> list[tuple[str, str]]:
    """Return every verdict and column of the verdicts' table, and its meaning here."""
    alpha = percent(verdicts.alpha)
    needed = verdicts.seeds_needed
    few = f" Here that takes {needed} paired seeds." if needed else ""
    return [
        (
            "Better, worse",
            f"The paired sign-flip test rejects, after Holm's correction over all comparisons of this table. Of an "
            f"optimizer that equals {verdicts.reference} this is said with probability at most {alpha}, over the whole "
            f"table{_over_looks(verdicts)}.",
        ),
        ("Equivalent", _equivalent(verdicts)),
        ("Undecided", "Neither of the two was shown. It is no sign of equality."),
        ("Both diverged", f"On no paired seed has either the optimizer or {verdicts.reference} a finite result."),
        ("Not enough seeds", f"No outcome whatever could have been called better or worse.{few}"),
        (
            "Difference, interval",
            "The mean over paired seeds, and all mean differences that the test does not reject. Where a trial "
            "has no finite result there is no mean: the median then, and its interval between two order statistics.",
        ),
        ("P(better)", "The share of paired seeds on which the optimizer was better, ties counted half."),
        ("Effect size", "The mean difference over the standard deviation of the differences."),
    ]


def _over_looks(verdicts: Verdicts) -> str:
    return f" and all planned looks (at {joined(list(map(str, verdicts.looks)))} seeds)" if verdicts.looks else ""


def target_words(findings: Findings) -> str:
    """Say how times to target were taken."""
    if not findings.targets:
        return ""
    seconds = (
        "Seconds are steps times the median step time of the timing pass."
        if findings.costs
        else "There are no seconds, because no timing pass was made: times of parallel trials do not compare."
    )
    metric = findings.study.metric.replace("_", " ")
    return (
        f"When the validation {metric} first met the target, at an evaluation whose successor met it too; the targets "
        f"were fixed before anything ran. A miss is longer than any time: it ranks last, and a median of mostly misses "
        f"is a miss (in the charts a × in the grey stripe). {seconds}"
    )


def basin_words(study: Study) -> str:
    """Say what the tuning table's basin is."""
    seeds = plural(len(study.protocol.tuning_seeds), "tuning seed")
    if not study.protocol.margin:
        return (
            "The width of the basin is not given: it is that of the rates within the margin of practical equivalence, "
            f"and this workload declares none. Scores are those of {seeds}."
        )
    return (
        f"The basin holds the learning rates that score within {study.protocol.margin:g} of the best; its width is in "
        f"powers of ten, interpolated, and at least so much (≥) where it reaches the end of what was tried. Scores are "
        f"those of {seeds}."
    )


def _equivalent(verdicts: Verdicts) -> str:
    if not verdicts.margin:
        return "Never said here: this workload declares no margin within which a difference has no practical meaning."
    return f"The whole interval lies within ±{verdicts.margin:g}, where a difference has no practical meaning."
