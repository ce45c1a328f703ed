"""The study's answer in careful words: the verdicts first, then what was seen, then what a reader must know.

Nothing is said here beyond the verdicts: a mean that is higher is described as higher in these runs, and not as better.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from steepest.study.records.format import DEFAULTS, DIVERGED, FINISHED, INTERRUPTED, SECONDS, TIMED_OUT, UNSTARTED
from steepest.study.report.findings.looks import looks_made
from steepest.study.report.findings.measures import Measure, goal
from steepest.study.report.findings.settings import ran_with, searched, with_setting
from steepest.study.report.findings.summary import Spread, Summary, ranked, statuses
from steepest.study.report.findings.tuning import Search, edges
from steepest.study.report.findings.verdicts import VerdictRow, Verdicts
from steepest.study.report.stored.study import Study
from steepest.study.report.wording import COSTS, at_words, joined, percent, plural, plus_minus
from steepest.study.statistics.power import MOST_SEEDS, seeds_to_detect
from steepest.study.statistics.verdicts import Comparison, Verdict

FEW = 3
"""Up to so many optimizers of one verdict are named with their settings and figures."""
_INFINITE = (
    "Trials without a finite result count as worst in the verdicts and cannot enter a mean; seeds with an infinite "
    "difference: {}."
)
_UNDEFINED = (
    "Seeds on which {reference} has no finite result either: {}. Such a pair counts as a tie without a size, and never "
    "towards equivalence."
)
_LATE = (
    "Trials that took longer than the time limit count as worst, as diverged ones do: {}. Another machine or a longer "
    "limit may change that."
)


def answer(study: Study, found: Verdicts, summaries: Sequence[Summary]) -> str:
    """Return the verdicts in one or two sentences; without any, why there is none."""
    sentences = (_verdict_sentence(study, found, summaries), _not_evaluated(study, found))
    return " ".join(sentence for sentence in sentences if sentence)


def _verdict_sentence(study: Study, found: Verdicts, summaries: Sequence[Summary]) -> str:
    so_far = "So far, " if _unfinished(study) else ""
    if not any(trial.counts for trial in study.trials):
        return "No trial has finished yet, so there is nothing to compare."
    if found.condition.is_waiting:
        return _waiting(found)
    if found.looks and found.rows and not found.comparisons and _unfinished(study):
        return f"No verdict before the first look, which is planned at {plural(found.looks[0], 'seed')}."
    if _is_metric_broken(study, goal(study)):
        return _broken_metric(study, goal(study))
    if not found.comparisons:
        return _starting(so_far, _alone(study, found, ranked(summaries, goal(study))))
    decided = [comparison for comparison in found.comparisons if comparison.verdict is not Verdict.NOT_ENOUGH_SEEDS]
    if not decided:
        return _too_few(found)
    return f"{_starting(so_far, _on(found))}, over {_pairs(decided)}: {_verdicts(study, found)}."


def _waiting(found: Verdicts) -> str:
    match = found.condition.match
    missing = "the timing pass has not run" if match == SECONDS else "no finished trial has a record of them"
    return f"No verdict yet: the plan compares at equal {COSTS[match]}, and {missing}."


def _is_metric_broken(study: Study, measure: Measure) -> bool:
    """Return whether trials finished, with a finite loss, and the metric of none of them is finite."""
    finished = [trial for trial in study.trials if trial.finished]
    return bool(finished) and all(measure.lost(trial) for trial in finished)


def _broken_metric(study: Study, measure: Measure) -> str:
    finished = [trial for trial in study.trials if trial.finished]
    value = measure.of(finished[0])
    return (
        f"No verdict: the metric {study.metric!r} has no finite value on the test set in any of "
        f"{plural(len(finished), 'finished trial')} (it is {'missing' if value is None else value}), although their "
        "losses are finite. That is an error of the metric's function, and says nothing about the optimizers."
    )


def seen(found: Verdicts, summaries: Sequence[Summary]) -> str:
    """Name the optimizer with the best mean in these runs: a description, which decides nothing."""
    measure = found.measure
    if found.condition.is_early or found.condition.is_waiting:  # means at the end are not those that are compared
        return ""
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
    """Return what a reader must know before repeating the answer, one sentence each."""
    sentences = (
        *_lost(found),
        _undecided(found),
        _looked(study, found),
        _grown(study),
        _late(study),
        _ended(study),
        _skipped(study),
        _untuned(study),
        *(_search_words(search) for search in searched),
        _at_a_cliff(study, searched),
        edge_words(searched),
    )
    return tuple(sentence for sentence in sentences if sentence)


def _undecided(found: Verdicts) -> str:
    """Say how many seeds would decide the open comparisons, if the differences seen here were the true ones."""
    sizes = {
        comparison.label: seeds_to_detect(comparison.effect_size, len(found.comparisons), found.alpha)
        for comparison in found.comparisons
        if comparison.verdict is Verdict.UNDECIDED and comparison.effect_size is not None
    }
    if not sizes or found.looks:
        return ""
    words = [f"{label} {f'about {n}' if n else f'more than {MOST_SEEDS}'}" for label, n in sizes.items()]
    return (
        f"Seeds that would decide what is open, if the true differences are those seen here: {', '.join(words)}. The "
        "same command with a larger --seeds keeps what has run, and is told as seeds added by hand; --more-seeds plans "
        "to add some."
    )


def _looked(study: Study, found: Verdicts) -> str:
    """Say that a sequential study has reached its largest number of seeds and leaves something open."""
    undecided = found.labels(Verdict.UNDECIDED) if found.looks else []
    labels = [label for label in undecided if looks_made(study, label) == len(found.looks)]
    if not labels:
        return ""
    return (
        f"The planned maximum of {found.looks[-1]} seeds is reached, and {joined(labels)} "
        f"{'is' if len(labels) == 1 else 'are'} open: to add seeds now would be another study."
    )


def _grown(study: Study) -> str:
    """Say that seeds were added by hand, which the tests do not know of."""
    counts = study.document.seed_counts
    if not counts:
        return ""
    return (
        f"Seeds were added by hand after results could be seen ({', then '.join(map(str, counts))}). If that was done "
        f"until a verdict came, false verdicts are more frequent than {percent(study.protocol.alpha)}; --more-seeds "
        "plans such looks, and holds the rate."
    )


def _unfinished(study: Study) -> bool:
    """Return whether trials are still to run: the answer may change when they have."""
    return any(trial.status in (INTERRUPTED, UNSTARTED) for trial in study.trials)


def _alone(study: Study, found: Verdicts, order: Sequence[Summary]) -> str:
    if not order:
        whys = {goal(study).lost(trial) for trial in study.trials if trial.counts}
        return "Every trial that ended diverged." if whys == {DIVERGED} else "No trial that ended has a finite result."
    if len(study.labels) > 1:
        return f"No optimizer has a result on a seed of {found.reference}, the reference: there is nothing to compare."
    best, measure = order[0], goal(study)
    spread = best.spreads[measure.key]
    kind = f"mean {measure.title.lower()}" if spread.count > 1 else measure.title.lower()
    return f"{best.label} has a {kind} of {_reached(spread, measure)}; there is no other optimizer to compare it with."


def _too_few(found: Verdicts) -> str:
    most, needed = max(comparison.n for comparison in found.comparisons), found.seeds_needed
    comparisons = f"{plural(len(found.comparisons), 'comparison')} with {found.reference}"
    wanted = f"{needed} paired seeds are needed" if needed else "no number of seeds that the test resolves is enough"
    return f"No verdict: for {comparisons}, {wanted}, and there {'is' if most == 1 else 'are'} {most}."


def _on(found: Verdicts) -> str:
    return f"On {found.measure.title.lower()} {at_words(found.condition)}"


def _pairs(decided: Sequence[Comparison]) -> str:
    low, high = min(comparison.n for comparison in decided), max(comparison.n for comparison in decided)
    return plural(high, "paired seed") if low == high else f"{low} to {high} paired seeds"


def _verdicts(study: Study, found: Verdicts) -> str:
    settings = ran_with(study)
    groups = [
        (Verdict.BETTER, "better than"),
        (Verdict.WORSE, "worse than"),
        (Verdict.EQUIVALENT, f"equivalent (within {found.margin:g}) to"),
        (Verdict.UNDECIDED, "undecided against"),
    ]
    present = [(verdict, words) for verdict, words in groups if found.labels(verdict)]
    reference = str(found.reference)
    names = [with_setting(reference, settings), *[reference] * len(present)]  # its setting once
    parts = [
        _group(found, verdict, f"{words} {name}", settings)
        for (verdict, words), name in zip(present, names, strict=False)
    ]
    return "; ".join([*parts, *_without(found)])


def _group(found: Verdicts, verdict: Verdict, words: str, settings: Mapping[str, str]) -> str:
    ones = [comparison for comparison in found.comparisons if comparison.verdict is verdict]
    few = len(ones) <= FEW
    figures = few and verdict in (Verdict.BETTER, Verdict.WORSE)
    names = [_named(comparison, settings.get(comparison.label, "") if few else "", figures) for comparison in ones]
    return f"{joined(names)} {_be(names)} {words}"


def _named(comparison: Comparison, setting: str, figures: bool) -> str:
    """Spell ``AdamW (lr=0.003; by 0.03, interval 0.02 to 0.04)``."""
    words = [part for part in (setting, _figures(comparison) if figures else "") if part]
    return f"{comparison.label} ({'; '.join(words)})" if words else comparison.label


def _without(found: Verdicts) -> list[str]:
    """Return the optimizers without a verdict, by reason."""
    both, few = found.labels(Verdict.BOTH_DIVERGED), found.labels(Verdict.NOT_ENOUGH_SEEDS)
    names = joined([*both, f"{found.reference} (the reference)"]) + (" both" if len(both) == 1 else "")
    did = "diverged" if found.only_diverged(both) else "ended without a finite result"
    return [
        *([f"{names} {did} on every paired seed"] if both else []),
        *([f"{joined(few)} {_be(few)} without a verdict, for too few seeds"] if few else []),
    ]


def _not_evaluated(study: Study, found: Verdicts) -> str:
    """Return the optimizers of which no search trial finished; nothing while they may still be evaluated."""
    labels = [label for label in study.labels if study.trials and not study.trials_of(label)]
    if not labels or _unfinished(study):
        return ""
    return (
        f"{joined(labels)} {'was' if len(labels) == 1 else 'were'} not evaluated: no point of the search, nor the "
        "library's defaults, finished on every tuning seed."
    )


def _be(labels: Sequence[str]) -> str:
    return "is" if len(labels) == 1 else "are"


def _figures(comparison: Comparison) -> str:
    if not comparison.interval.is_finite:
        return ""
    side = 1.0 if comparison.estimate > 0.0 else -1.0  # an end beyond 0 has a sign: Holm's later steps ask for less
    low, high = sorted((side * comparison.interval.low, side * comparison.interval.high))
    return f"by {abs(comparison.estimate):.2g}, interval {low:.2g} to {high:.2g}"


def _starting(so_far: str, sentence: str) -> str:
    """Return the sentence after a beginning; a label keeps its letters, an "On" does not."""
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


def _lost(found: Verdicts) -> list[str]:
    """Say why a mean of finished trials and a verdict may seem to disagree."""
    counts: tuple[tuple[str, Callable[[VerdictRow], int]], ...] = (
        (_INFINITE, lambda row: row.infinite),
        (_UNDEFINED, lambda row: row.undefined),
    )
    named = [(words, [f"{row.label} ({of(row)})" for row in found.rows if of(row)]) for words, of in counts]
    return [words.format(joined(names), reference=found.reference) for words, names in named if names]


def _late(study: Study) -> str:
    late = Counter(trial.optimizer for trial in study.trials if trial.status == TIMED_OUT)
    return _LATE.format(joined([f"{label} ({count})" for label, count in late.items()])) if late else ""


def _search_words(search: Search) -> str:
    """Return a caution about a search of which no drawn point finished; empty for any other."""
    drawn = [point for point in search.tried if point.point != DEFAULTS]
    if not drawn or any(point.status == FINISHED or not point.ended for point in drawn):
        return ""
    ends = joined([f"{count} {status}" for status, count in Counter(point.status for point in drawn).items()])
    ran = (
        "it ran with the library's defaults and was not tuned" if search.chosen == DEFAULTS else "it was not evaluated"
    )
    return (
        f"No point of the search of {search.label} finished ({ends}): {ran}. "
        f"Its range ({searched(search.setting.space)}) may be wrong; give another one with --space."
    )


def _at_a_cliff(study: Study, searched: tuple[Search, ...]) -> str:
    """Name the optimizers whose best point finished on the tuning seeds and diverged on others."""
    diverged = Counter(trial.optimizer for trial in study.trials if trial.status == DIVERGED)
    named = [
        f"{one.label} ({diverged[one.label]})"
        for one in searched
        if one.best is not None and one.best.status == FINISHED and diverged[one.label]
    ]
    if not named:
        return ""
    seeds = plural(len(study.protocol.tuning_seeds), "tuning seed")
    return (
        f"Settings that finished on {seeds} and diverged on fresh ones: {joined(named)}. They lie where training "
        "breaks off; with more --tuning-seeds a point that diverges on one is out."
    )


def _ended(study: Study) -> str:
    others = {status: count for status, count in statuses(study.trials).items() if status != FINISHED}
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
    """Name the optimizers whose best learning rate lies at the edge of what was tried; empty without any."""
    found = edges(searched)
    if not found:
        return ""
    named = joined([f"{label} ({end} end, {rate:g})" for label, end, rate in found])
    return (
        f"The best learning rate lies at the edge of what was tried for {named}: a better one may lie beyond. "
        "Widen the range with --extend."
    )
