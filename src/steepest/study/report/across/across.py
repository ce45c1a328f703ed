"""Several studies side by side: performance profiles, ranks, and whether the ranking survives other conditions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.measures import goal
from steepest.study.report.findings.time_to_target import Target
from steepest.study.report.stored.study import Trial
from steepest.study.report.wording import plural
from steepest.study.statistics.profiles import Band, profile_bands
from steepest.study.statistics.robustness import (
    Agreement,
    Ranking,
    Scores,
    leave_one_out,
    overall,
    rankings,
    under_other_conditions,
)
from steepest.study.statistics.targets import median_with_censoring

CostKind = Literal["steps to target", "result"]
TAUS: Final = 200
WORKLOAD_LESS: Final = "One workload less"
MIDDLE: Final = "middle target"
FULL_SEARCH: Final = "the whole search"
DEFAULTS_ALONE: Final = "no search: the library's defaults"


@dataclass(frozen=True)
class Change:
    """A group of changed conditions, and how far the ranking under each agrees with the ranking before."""

    name: str
    before: str
    agreements: tuple[Agreement, ...]


@dataclass(frozen=True)
class Across:
    """The joint findings of several studies on the optimizers that took part in all of them.

    Attributes:
        found: the findings of every study, by its name here.
        labels: the optimizers with a result on a common seed of every study, in the first study's order.
        absent: the others, with the studies in which they have none.
        cost: what the profiles' costs are.
        unprofiled: studies whose errors are not all positive, so that they have no ratios and no part in the profiles.
        costs: by optimizer, by profiled study, by seed: positive, infinite for a failure.
        bands: the profiles with their bootstrap bands.
        ranks: by study, then by optimizer: the rank of the median result, 1 the best.
        mean_ranks: their means over the studies.
        changes: whether the ranking survives.
    """

    found: Mapping[str, Findings]
    labels: tuple[str, ...]
    absent: Mapping[str, tuple[str, ...]]
    cost: CostKind
    unprofiled: tuple[str, ...] = ()
    costs: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    bands: tuple[Band, ...] = ()
    ranks: Mapping[str, Ranking] = field(default_factory=dict)
    mean_ranks: Ranking = field(default_factory=dict)
    changes: tuple[Change, ...] = ()

    @property
    def comparable(self) -> bool:
        """True if at least two optimizers can be compared."""
        return len(self.labels) > 1

    @property
    def sources(self) -> Mapping[str, str]:
        """The source of every optimizer, by label, as the first study has it."""
        study = next(iter(self.found.values())).study
        return {label: study.sources[label] for label in self.labels}


def across(found: Mapping[str, Findings]) -> Across:
    """Compare the optimizers that all studies have in common."""
    present = {name: _present(one) for name, one in found.items()}
    everyone = list(dict.fromkeys(label for labels in present.values() for label in labels))
    absent = {label: tuple(name for name, its in present.items() if label not in its) for label in everyone}
    labels = tuple(label for label in everyone if not absent[label])
    cost: CostKind = "steps to target" if all(one.targets for one in found.values()) else "result"
    nothing = Across(found, labels, {label: names for label, names in absent.items() if names}, cost)
    return _filled(nothing) if nothing.comparable else nothing


def _filled(empty: Across) -> Across:
    results = {name: _results(one, empty.labels) for name, one in empty.found.items()}
    profiled = [one for name, one in empty.found.items() if name not in _unprofiled(empty)]
    costs = {label: tuple(_costs(one, label, empty) for one in profiled) for label in empty.labels}
    changes = (_left_out(results), _other_targets(empty), _other_budgets(empty))
    return replace(
        empty,
        unprofiled=_unprofiled(empty),
        costs=costs,
        bands=profile_bands(costs, _taus(costs)) if profiled else (),
        ranks=rankings(results),
        mean_ranks=overall(results),
        changes=tuple(change for change in changes if change is not None and change.agreements),
    )


def _unprofiled(empty: Across) -> tuple[str, ...]:
    if empty.cost == "steps to target":
        return ()
    return tuple(name for name, one in empty.found.items() if not _has_ratios(one, empty.labels))


def _present(findings: Findings) -> list[str]:
    """Return the optimizers with a result on some seed."""
    study = findings.study
    return [label for label in study.labels if any(trial.counts for trial in study.trials_of(label))]


def _common_seeds(findings: Findings, labels: Sequence[str]) -> list[int]:
    """Return the seeds on which all of these have a result."""
    seeds = [{trial.seed for trial in findings.study.trials_of(label) if trial.counts} for label in labels]
    return sorted(set.intersection(*seeds))


def _results(findings: Findings, labels: Sequence[str]) -> dict[str, float]:
    """Return the median result of every optimizer, larger is better; minus infinity where half diverged."""
    return {label: -median_with_censoring(_losses(findings, label)) for label in labels}


def _losses(findings: Findings, label: str) -> list[float]:
    """Return the result of every trial that has one, smaller is better, infinite for a diverged trial."""
    measure = goal(findings.study)
    return [
        _loss(trial, measure.of(trial), measure.better) for trial in findings.study.trials_of(label) if trial.counts
    ]


def _loss(trial: Trial, value: float | None, better: int) -> float:
    return -better * value if trial.finished and value is not None and math.isfinite(value) else math.inf


def _costs(findings: Findings, label: str, empty: Across) -> tuple[float, ...]:
    """Return results by common seed; where no seed is common to all, the median stands for them, as one."""
    by_seed = _steps(findings, label) if empty.cost == "steps to target" else _errors(findings, label)
    seeds = _common_seeds(findings, empty.labels)
    return tuple(by_seed[seed] for seed in seeds) or (median_with_censoring(list(by_seed.values())),)


def _steps(findings: Findings, label: str) -> dict[int, float]:
    """Return steps to the middle target; at least one, for a target that the untrained model meets."""
    row = next(row for row in middle(findings.targets).rows if row.label == label)
    return {seed: max(time, 1.0) for seed, time in row.times["steps"]}


def middle(targets: Sequence[Target]) -> Target:
    """Return the middle one of the targets, the easier of two."""
    return targets[(len(targets) - 1) // 2]


def _errors(findings: Findings, label: str) -> dict[int, float]:
    """Return a figure of every trial that shrinks as the result gets better: `figure_of_error` says which."""
    measure = goal(findings.study)
    trials = [trial for trial in findings.study.trials_of(label) if trial.counts]
    return {trial.seed: _error(trial, measure.of(trial), findings) for trial in trials}


def _error(trial: Trial, value: float | None, findings: Findings) -> float:
    if not trial.finished or value is None or not math.isfinite(value):
        return math.inf
    if is_share(findings):
        return max(1.0 - value, _least(findings))
    loss = trial.final.get("test_loss", math.inf) if findings.study.maximize else value
    return loss if math.isfinite(loss) else math.inf


def figure_of_error(findings: Findings) -> str:
    """Name the error that is the cost where no target was frozen."""
    measure = goal(findings.study)
    if is_share(findings):
        return f"1 − {measure.title.lower()}"
    return "test loss" if findings.study.maximize else measure.title.lower()


def _has_ratios(findings: Findings, labels: Sequence[str]) -> bool:
    """Return whether all errors are positive: others have no ratio."""
    return all(error > 0.0 for label in labels for error in _errors(findings, label).values())


def is_share(findings: Findings) -> bool:
    """Return whether one minus the metric is an error: it is maximised, and every result lies in [0, 1]."""
    measure = goal(findings.study)
    values = [value for trial in findings.study.trials if (value := measure.of(trial)) is not None]
    return findings.study.maximize and all(0.0 <= value <= 1.0 for value in values)


def _least(findings: Findings) -> float:
    """Return half an example of the test set: what no error among so many examples shows as."""
    data = findings.study.document.data
    return 0.5 / data.test if data and data.test > 0 else 1e-12


def _taus(costs: Mapping[str, tuple[tuple[float, ...], ...]]) -> list[float]:
    """Return factors from 1 to a little beyond the largest that is finite, evenly spread on a log axis."""
    medians = np.array([[median_with_censoring(seeds) for seeds in problems] for problems in costs.values()])
    best = medians.min(axis=0)
    finite = np.isfinite(medians)
    factors = (medians / np.where(np.isfinite(best), best, 1.0))[finite]
    widest = max(float(factors.max(initial=1.0)) * 1.1, 2.0)
    return [float(tau) for tau in np.geomspace(1.0, widest, TAUS)]


def _left_out(results: Scores) -> Change:
    return Change(WORKLOAD_LESS, "all workloads", leave_one_out(results))


def _other_targets(empty: Across) -> Change | None:
    """Return rankings by steps to the easiest and to the hardest target, against the middle one."""
    if empty.cost != "steps to target":
        return None
    targets = {name: (one.targets[0], middle(one.targets), one.targets[-1]) for name, one in empty.found.items()}
    scores = {
        condition: {name: _target_scores(picked[place], empty.labels) for name, picked in targets.items()}
        for place, condition in enumerate(("easiest target", MIDDLE, "hardest target"))
    }
    return Change("Another target, in steps", f"the {MIDDLE}", under_other_conditions(scores, MIDDLE))


def _target_scores(target: Target, labels: Sequence[str]) -> dict[str, float]:
    medians = {row.label: row.median("steps") for row in target.rows}
    return {label: math.nan if (median := medians[label]) is None else -median for label in labels}


def _other_budgets(empty: Across) -> Change | None:
    """Return rankings by the expected best validation score of a smaller search, against the whole one."""
    found = empty.found.values()
    searched = [{search.label for search in its.searches if search.expected} for its in found]
    labels = [label for label in empty.labels if all(label in its for its in searched)]
    most = min((search.expected[-1][0] for its in found for search in its.searches if search.expected), default=0)
    if len(labels) < 2 or most < 1:
        return None
    scores = {
        name: {study: _expected_scores(search, labels, k) for study, search in empty.found.items()}
        for name, k in _search_sizes(most).items()
    }
    return Change("A smaller search, by validation score", FULL_SEARCH, under_other_conditions(scores, FULL_SEARCH))


def _search_sizes(most: int) -> dict[str, int]:
    """Return the sizes of smaller searches: no trial, powers of two, and all."""
    powers = [2**power for power in range(most.bit_length()) if 2**power < most]
    return {DEFAULTS_ALONE: 0} | {f"{plural(k, 'point')} of the search": k for k in powers} | {FULL_SEARCH: most}


def _expected_scores(findings: Findings, labels: Sequence[str], k: int) -> dict[str, float]:
    curves = {search.label: dict(search.expected) for search in findings.searches}
    sign = 1.0 if findings.study.maximize else -1.0
    return {label: sign * curves[label].get(k, math.nan) for label in labels}
