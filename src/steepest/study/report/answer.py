"""The study's answer in careful words: the verdicts first, then what was seen, then what a reader must know.

Nothing is said here beyond the verdicts: a mean that is higher is described as higher in these runs, and not as better.
"""

from collections.abc import Sequence

from steepest.study.report.judging import Verdicts
from steepest.study.report.measures import Measure
from steepest.study.report.study import INTERRUPTED, UNSTARTED, Study
from steepest.study.report.summary import Spread, Summary, ranked, statuses
from steepest.study.report.tuning import Search, edges
from steepest.study.report.wording import joined, plural, plus_minus
from steepest.study.statistics.verdicts import Comparison, Verdict

FEW = 3
"""Up to so many optimizers of one verdict are named with their figures."""


def answer(study: Study, found: Verdicts, summaries: Sequence[Summary]) -> str:
    """The verdicts in one or two sentences; without any, why there is none."""
    order = ranked(summaries, found.measure)
    so_far = "So far, " if _unfinished(study) else ""
    if not any(trial.counts for trial in study.trials):
        return "No trial has finished yet, so there is nothing to compare."
    if not found.comparisons:
        return _starting(so_far, _alone(found, order))
    decided = [one for one in found.comparisons if one.verdict is not Verdict.NOT_ENOUGH_SEEDS]
    if not decided:
        return _too_few(found)
    return f"{_starting(so_far, _on(found.measure))}, over {_pairs(decided)}: {_verdicts(found)}."


def seen(found: Verdicts, summaries: Sequence[Summary]) -> str:
    """Whose mean was highest (or lowest) in these runs: a description, that decides nothing."""
    measure = found.measure
    order = ranked(summaries, measure)
    if len(order) < 2:
        return ""
    best = order[0].spreads[measure.key]
    word = "highest" if measure.better > 0 else "lowest"
    what = f"{word} mean {measure.title.lower()}" if best.count > 1 else f"{word} {measure.title.lower()}"
    return (
        f"In these runs {order[0].label} had the {what}: {_reached(best, measure)}, "
        f"{_lead(measure, best, order[1])}. That describes these runs; the verdict says what it is worth."
    )


def caution(study: Study, found: Verdicts, searched: tuple[Search, ...]) -> tuple[str, ...]:
    """What a reader must know before repeating the answer, one sentence each."""
    sentences = (_lost(found), _ended(study), _skipped(study), _untuned(study), edge_words(searched))
    return tuple(sentence for sentence in sentences if sentence)


def _unfinished(study: Study) -> bool:
    """Whether trials are still to run: the answer may change when they have."""
    return any(trial.status in (INTERRUPTED, UNSTARTED) for trial in study.trials)


def _alone(found: Verdicts, order: Sequence[Summary]) -> str:
    if not order:
        return "Every trial that ended diverged."
    best, measure = order[0], found.measure
    spread = best.spreads[measure.key]
    kind = f"mean {measure.title.lower()}" if spread.count > 1 else measure.title.lower()
    return f"{best.label} has a {kind} of {_reached(spread, measure)}; there is no other optimizer to compare it with."


def _too_few(found: Verdicts) -> str:
    most, needed = max(one.n for one in found.comparisons), found.seeds_needed
    comparisons = f"{plural(len(found.comparisons), 'comparison')} with {found.reference}"
    wanted = f"{needed} paired seeds are needed" if needed else "no number of seeds that the test resolves is enough"
    return f"No verdict: for {comparisons}, {wanted}, and there {'is' if most == 1 else 'are'} {most}."


def _on(measure: Measure) -> str:
    return f"On {measure.title.lower()} at the end of training"


def _pairs(decided: Sequence[Comparison]) -> str:
    low, high = min(one.n for one in decided), max(one.n for one in decided)
    return plural(high, "paired seed") if low == high else f"{low} to {high} paired seeds"


def _verdicts(found: Verdicts) -> str:
    groups = [
        (Verdict.BETTER, f"better than {found.reference}"),
        (Verdict.WORSE, f"worse than {found.reference}"),
        (Verdict.EQUIVALENT, f"equivalent to {found.reference} (within {found.margin:g})"),
        (Verdict.UNDECIDED, f"undecided against {found.reference}"),
    ]
    parts = [_group(found, verdict, words) for verdict, words in groups if found.labels(verdict)]
    few = found.labels(Verdict.NOT_ENOUGH_SEEDS)
    return "; ".join([*parts, *([f"{joined(few)} {_be(few)} without a verdict, for too few seeds"] if few else [])])


def _group(found: Verdicts, verdict: Verdict, words: str) -> str:
    ones = [one for one in found.comparisons if one.verdict is verdict]
    labels = [one.label for one in ones]
    figures = verdict in (Verdict.BETTER, Verdict.WORSE) and len(ones) <= FEW
    return f"{joined([_with_figures(one) if figures else one.label for one in ones])} {_be(labels)} {words}"


def _be(labels: Sequence[str]) -> str:
    return "is" if len(labels) == 1 else "are"


def _with_figures(one: Comparison) -> str:
    if not one.interval.is_finite:
        return one.label
    low, high = sorted((abs(one.interval.low), abs(one.interval.high)))  # better or worse: both ends have one sign
    return f"{one.label} (by {abs(one.estimate):.2g}; interval {low:.2g} to {high:.2g})"


def _starting(so_far: str, sentence: str) -> str:
    """The sentence after a beginning; a label keeps its letters, an "On" does not."""
    return f"{so_far}on{sentence[2:]}" if so_far and sentence.startswith("On ") else so_far + sentence


def _reached(spread: Spread, measure: Measure) -> str:
    if spread.count == 1:
        return f"{measure.text(spread.mean)} with its one seed"
    return f"{plus_minus(spread, measure)} over {spread.count} seeds"


def _lead(measure: Measure, one: Spread, second: Summary) -> str:
    two = second.spreads[measure.key]
    high, low = one.mean or 0.0, two.mean or 0.0
    shown = abs(round(high, measure.decimals) - round(low, measure.decimals))  # as a reader subtracts what is printed
    where = "above" if measure.better > 0 else "below"
    ahead = f"{measure.text(shown)} {where}" if shown else "level with"
    return f"{ahead} {second.label} ({plus_minus(two, measure)})"


def _lost(found: Verdicts) -> str:
    """Why a mean of finished trials and a verdict may seem to disagree."""
    diverged = [row.label for row in found.rows if row.infinite]
    if not diverged:
        return ""
    return (
        f"Diverged trials count as worst in the verdicts ({joined(diverged)}: an infinite difference on some seed) "
        "and cannot enter a mean."
    )


def _ended(study: Study) -> str:
    others = {status: count for status, count in statuses(study.trials).items() if status != "finished"}
    if not others:
        return ""
    counts = joined([f"{count} {status}" for status, count in others.items()])
    means = "every mean says how many seeds it covers"
    return f"Of {plural(len(study.trials), 'trial')}, {counts}; {means}."


def _skipped(study: Study) -> str:
    labels = [setting.label for setting in study.optimizers if setting.skipped is not None]
    if not labels:
        return ""
    return f"{joined(labels)} could not take part; the section on fairness says why."


def _untuned(study: Study) -> str:
    if study.tuned or len(study.labels) < 2:
        return ""
    return (
        "Nothing was tuned: every optimizer ran with one fixed setting. This compares settings, "
        "and another learning rate may reorder them."
    )


def edge_words(searched: tuple[Search, ...]) -> str:
    """Whose best learning rate lies at the edge of what was tried; nothing where none does."""
    found = edges(searched)
    if not found:
        return ""
    named = joined([f"{label} ({end} end, {rate:g})" for label, end, rate in found])
    return (
        f"The best learning rate lies at the edge of what was tried for {named}: a better one may lie beyond. "
        "Widen the range with --extend."
    )
