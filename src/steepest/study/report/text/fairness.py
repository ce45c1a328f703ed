"""Sentences on what this study controlled and what it did not, each sentence found in the stored plan and records.

A sentence about a check is written only where the check was made here and held; where it did not hold, the other list
says so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steepest.study.records.format import FINISHED, SEARCH
from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.settings import by_schedule
from steepest.study.report.findings.tuning import Search, SearchPoint, edges
from steepest.study.report.stored.study import Study, Trial
from steepest.study.report.text.matching import matched_checks
from steepest.study.report.wording import joined, numbers_in_words, percent, plural

SKEWED_COVERAGE = 0.905
"""Of 95 % intervals, n = 10, exponential differences: measured in `tests/statistics/test_interval_coverage.py`."""


@dataclass(frozen=True)
class Fairness:
    """Sentences, most important first."""

    controlled: tuple[str, ...]
    uncontrolled: tuple[str, ...]


def fairness(findings: Findings) -> Fairness:
    """Go through the checks."""
    study = findings.study
    checks = [
        _seeds(study),
        _streams(study),
        _test_set(study),
        *(_searching(findings) if study.tuned else [("", "No hyperparameter was tuned: settings are compared.")]),
        _schedules(study),
        _horizon(study),
        matched_checks(findings),
        _threads(study),
        _timing(findings),
        ("", _intervals(findings)),
        ("", _skewness(findings)),
        ("", _samples(study)),
        ("", _restarted(study)),
        ("", _workload(study)),
    ]
    return Fairness(
        tuple(sentence for sentence, _ in checks if sentence), tuple(sentence for _, sentence in checks if sentence)
    )


Check = tuple[str, str]
"""A sentence for what was controlled, one for what was not; either may be empty."""


def _seeds(study: Study) -> Check:
    """Say whether every optimizer was evaluated on the same seeds."""
    planned = {label: frozenset(trial.seed for trial in study.trials_of(label)) for label in study.labels}
    known = {label: seeds for label, seeds in planned.items() if seeds}
    if len(known) < 2:
        return "", ""
    seeds = sorted(frozenset.union(*known.values()))
    if study.protocol.looks:
        looks = joined(list(map(str, study.protocol.looks)))
        until = "each optimizer until its verdict"
        return f"Paired seeds, {_counted(seeds)} at most: planned looks at {looks} seeds, {until}.", ""
    if len(set(known.values())) == 1:
        return f"Paired seeds: all {len(known)} optimizers ran on the same {_counted(seeds)}.", ""
    few = [label for label, its in known.items() if len(its) < len(seeds)]
    return "", f"Not all optimizers were planned on the same seeds: {joined(few)} lack some of {_counted(seeds)}."


def _counted(seeds: Sequence[int]) -> str:
    return f"{plural(len(seeds), 'seed')} ({numbers_in_words(seeds)})"


def _streams(study: Study) -> Check:
    purposes = joined(list(study.document.seed_purposes))
    return f"A stream of random numbers for each purpose, none of them the optimizer's: {purposes}.", ""


def _test_set(study: Study) -> Check:
    """Say whether the test set was read anywhere but at the end of evaluation trials."""
    early = [trial.id for trial in (*study.search_trials, *study.trials) if _tested_early(trial)]
    if early:
        return "", f"The test set was read before the end, or in a search, by {plural(len(early), 'trial')}."
    if not any(trial.finished for trial in study.trials):
        return "", ""
    search = ", and by no trial of the search" if study.search_trials else ""
    return f"The test set was read once by every reported trial, after its last step{search}.", ""


def _tested_early(trial: Trial) -> bool:
    values = [key for epoch in trial.epochs for key in epoch.values]
    if trial.phase == SEARCH:
        values += list(trial.final)
    return any(key.startswith("test_") for key in values)


def _searching(findings: Findings) -> list[Check]:
    study = findings.study
    return [
        _equal_trials(study, findings.searches),
        _disjoint(study),
        _selection(study, findings.searches),
        _no_pruning(study, findings.searches),
        ("", _one_draw(study)),
        ("", _extended(study)),
        ("", _dimensions(findings.searches)),
        ("", _ranges(findings.searches)),
    ]


def _equal_trials(study: Study, searches: Sequence[Search]) -> Check:
    counts = {search.label: search.drawn for search in searches}
    none = [label for label in study.labels if label not in counts]
    unequal = f"Searched nothing, and ran as given: {joined(none)}." if none else ""
    if len(set(counts.values())) == 1:
        points = plural(next(iter(counts.values())), "point")
        seeds = plural(len(study.protocol.tuning_seeds), "tuning seed")
        return f"Equal tuning: every searched optimizer tried {points} and its library defaults, on {seeds}.", unequal
    sizes = joined([f"{label} {count}" for label, count in counts.items()])
    return "", f"The searches differ in size: {sizes}. {unequal}".strip()


def _disjoint(study: Study) -> Check:
    evaluated = {trial.seed for trial in study.trials}
    shared = sorted(evaluated.intersection(trial.seed for trial in study.search_trials))
    if shared:
        return "", f"Seeds were used for tuning and for evaluation: {numbers_in_words(shared)}."
    if not evaluated or not study.search_trials:
        return "", ""
    return "No seed of the search is among those that are reported.", ""


def _selection(study: Study, searches: Sequence[Search]) -> Check:
    """Say whether every chosen point has the best mean validation score of its search."""
    chosen = [one for one in searches if one.best is not None]
    other = [one.label for one in chosen if not _is_best(study, one)]
    if other:
        return "", f"The chosen point is not the one with the best validation score for {joined(other)}."
    if not chosen:
        return "", ""
    return "Choices were made on the validation set: every chosen point has the best mean score of its search.", ""


def _is_best(study: Study, search: Search) -> bool:
    sign = 1 if study.maximize else -1
    scores = [sign * tried.score for tried in search.tried if math.isfinite(tried.score)]
    return search.best is not None and sign * search.best.score >= max(scores, default=0.0)


def _no_pruning(study: Study, searches: Sequence[Search]) -> Check:
    """Say whether every search trial that finished has taken as many steps as every other."""
    finished = [trial for trial in study.search_trials if trial.status == FINISHED]
    if not finished:
        return "", ""
    lost = [tried for search in searches for tried in search.tried if tried.status != FINISHED]
    if len({trial.step for trial in finished}) > 1:
        return "", "Search trials ended after different numbers of steps."
    words = f"; {_lost(lost)}" if lost else ""
    return f"No trial was stopped for its score: all that finished took {plural(finished[0].step, 'step')}{words}.", ""


def _lost(lost: Sequence[SearchPoint]) -> str:
    statuses = dict.fromkeys(tried.status for tried in lost)
    counts = [f"{sum(tried.status == status for tried in lost)} {status}" for status in statuses]
    return f"of the points, {joined(counts)}"


def _one_draw(study: Study) -> str:
    seeds = plural(len(study.protocol.tuning_seeds), "tuning seed")
    return f"The search was drawn once, and its points were scored on {seeds}: another draw may choose other settings."


def _extended(study: Study) -> str:
    """Say what happened to the ranges after scores were seen."""
    times = len(study.protocol.extensions)
    if not times:
        return ""
    beyond = joined(list(dict.fromkeys(label for extension in study.protocol.extensions for label in extension)))
    return (
        f"The search was extended {'once' if times == 1 else f'{times} times'} after its scores were seen: every "
        f"optimizer got as many further points, {beyond} beyond the edge on which its best rate lay."
    )


def _dimensions(searches: Sequence[Search]) -> str:
    """Say that equal trials over unequal numbers of dimensions are not equal densities."""
    counts = {search.label: len(search.setting.space) for search in searches}
    if len(set(counts.values())) < 2:
        return ""
    words = joined([f"{label} {count}" for label, count in counts.items()])
    return f"The same number of points was spread over different numbers of hyperparameters: {words}."


def _ranges(searches: Sequence[Search]) -> str:
    found = edges(tuple(searches))
    names = dict.fromkeys(name for search in searches for name in search.setting.space)
    were = "was" if len(names) == 1 else "were"
    held = f"Only {joined(list(names))} {were} searched, within the ranges listed below."
    if not found:
        return held
    return f"{held} The best rate lies at the edge of what was tried for {joined([label for label, *_ in found])}."


def _schedules(study: Study) -> Check:
    groups = by_schedule(study)
    if not groups:
        return "", ""
    if len(groups) == 1:
        return f"One learning-rate schedule for all: {next(iter(groups))}.", ""
    words = "; ".join(f"{name} for {joined(labels)}" for name, labels in groups.items())
    drawn = [label for label in study.labels if label in study.chosen and study.chosen[label].schedule]
    return "", f"Learning-rate schedules differ{_chosen_for(drawn)}: {words}."


def _chosen_for(drawn: Sequence[str]) -> str:
    return f" (the search chose {'it' if len(drawn) == 1 else 'them'} for {joined(drawn)})" if drawn else ""


def _horizon(study: Study) -> Check:
    steps = {trial.step for trial in study.trials if trial.finished}
    if not steps:
        return "", ""
    if len(steps) > 1:
        return "", f"Reported trials took different numbers of steps, {min(steps):,} to {max(steps):,}."
    size = study.document.config.batch_size
    batch = f" of {plural(size, 'example')}" if size else ""
    return f"Equal horizon: every finished trial took {plural(steps.pop(), 'step')}{batch}.", ""


def _threads(study: Study) -> Check:
    cpu = study.document.machine.cpu
    where = f" on one machine ({cpu})" if cpu else ""
    return f"Every trial computed with {plural(study.document.threads, 'thread')}{where}.", ""


def _timing(findings: Findings) -> Check:
    if not findings.costs:
        return "", "No timing pass was made, so no seconds are compared; those shown were taken during the trials."
    rounds = {len(cost.rounds) for cost in findings.costs}
    times = f"{plural(min(rounds), 'round')}" if len(rounds) == 1 else f"{min(rounds)} to {max(rounds)} rounds"
    untimed = [label for label in findings.study.labels if label not in {cost.label for cost in findings.costs}]
    missing = f"Not timed: {joined(untimed)}." if untimed else ""
    return f"Seconds come from a timing pass of {times}, one trial at a time, the optimizers in turn.", missing


def _intervals(findings: Findings) -> str:
    data = findings.study.document.data
    examples = f" (the {data.test:,} test examples)" if data else ""
    search = " nor a new draw of the search" if findings.study.tuned else ""
    return f"Intervals and p values cover new seeds. They do not cover a new test sample{examples}{search}."


def _skewness(findings: Findings) -> str:
    if not any(comparison.interval.is_finite for comparison in findings.verdicts.comparisons):
        return ""
    return (
        "Intervals of a mean are exact for differences that lie symmetrically about their centre. Of strongly skewed "
        f"ones (exponential, 10 seeds, simulated) {percent(SKEWED_COVERAGE)} covered the truth where 95% was claimed."
    )


def _samples(study: Study) -> str:
    missing = [trial for trial in study.trials if not trial.counts]
    if not missing:
        return ""
    count = plural(len(missing), "trial")
    return f"{count} without a result (failed, interrupted or not started) left gaps in the pairs."


def _restarted(study: Study) -> str:
    restarted = [trial for trial in (*study.search_trials, *study.trials) if trial.restarts]
    if not restarted:
        return ""
    labels = joined(list(dict.fromkeys(trial.optimizer for trial in restarted)))
    return f"{plural(len(restarted), 'trial')} of {labels} began again from the start after an interruption."


def _workload(study: Study) -> str:
    config = study.document.config
    length = plural(config.epochs, config.unit.removesuffix("s"))
    return f"One workload, one horizon of {length}, one machine: the order may differ on others."
