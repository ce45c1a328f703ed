"""Robustness of a ranking of optimizers to one workload less, another target, or another budget.

Scores are oriented by the caller, larger is better (a time to target is negated); one that is not finite (a diverged
trial, a missed target) ranks last.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy

from steepest.study.errors import UsageError

Scores = Mapping[str, Mapping[str, float]]
"""By workload, then by optimizer."""
Ranking = dict[str, float]
"""Mean rank by optimizer, 1 the best; equals share their average."""


@dataclass(frozen=True)
class Agreement:
    """The agreement of a ranking under changed conditions with the study's ranking.

    Attributes:
        change: the workload that was left out, or the other target or budget.
        tau: Kendall's tau-b between the two, 1 for the same order; None where either ranks all alike.
        first: the first optimizers after the change (several if they are equal).
        first_stays: whether the first optimizers are those from before the change.
    """

    change: str
    tau: float | None
    first: tuple[str, ...]
    first_stays: bool


def rankings(scores: Scores) -> dict[str, Ranking]:
    """Return every workload's ranking of the optimizers that have a score on all of them.

    An optimizer that could not run on some workload (it needs matrices, or a closure) is left out, because a mean rank
    over fewer workloads is not comparable.

    Raises:
        UsageError: no workload, or no optimizer has a score on all.

    >>> rankings({"digits": {"adam": 0.9, "sgd": 0.8}, "text": {"adam": 0.4, "sgd": float("nan"), "muon": 0.5}})
    {'digits': {'adam': 1.0, 'sgd': 2.0}, 'text': {'adam': 1.0, 'sgd': 2.0}}
    """
    if not scores:
        raise UsageError("No workload to rank optimizers on; give the scores of at least one.")
    common = [name for name in next(iter(scores.values())) if all(name in row for row in scores.values())]
    if not common:
        raise UsageError(
            f"No optimizer has a score on all of {', '.join(scores)}; leave out the workload they cannot run."
        )
    return {workload: _ranking({name: row[name] for name in common}) for workload, row in scores.items()}


def overall(scores: Scores) -> Ranking:
    """Return the mean rank over the workloads, all with equal weight.

    Raises:
        UsageError: as `rankings`.
    """
    return _mean_ranks(rankings(scores))


def leave_one_out(scores: Scores) -> tuple[Agreement, ...]:
    """Return the agreement of the overall ranking without each workload in turn; empty for a single workload.

    Raises:
        UsageError: as `rankings`.
    """
    ranks = rankings(scores)
    if len(ranks) == 1:
        return ()
    return tuple(
        agreement(left_out, _mean_ranks(ranks), _mean_ranks({k: v for k, v in ranks.items() if k != left_out}))
        for left_out in ranks
    )


def under_other_conditions(scores: Mapping[str, Scores], base: str) -> tuple[Agreement, ...]:
    """Return the agreement of the overall ranking at ``base`` with those under other targets or budgets.

    Args:
        scores: by condition, then by workload, then by optimizer.
        base: the condition of the study's own ranking.

    Raises:
        UsageError: as `rankings`, a base without scores, or conditions that rank different optimizers.
    """
    if base not in scores:
        raise UsageError(f"There are no scores for {base!r}; there are for {', '.join(scores)}.")
    ranks = {condition: overall(table) for condition, table in scores.items()}
    return tuple(agreement(condition, ranks[base], ranks[condition]) for condition in scores if condition != base)


def agreement(change: str, before: Ranking, after: Ranking) -> Agreement:
    """Return the agreement of two rankings of the same optimizers.

    Raises:
        UsageError: they rank different ones.
    """
    if before.keys() != after.keys():
        raise UsageError(f"{change}: one ranking is of {', '.join(before)}, the other of {', '.join(after)}.")
    first = _first(after)
    return Agreement(change, _tau(before, after), first, set(first) == set(_first(before)))


def _ranking(scores: Mapping[str, float]) -> Ranking:
    costs = [-score if math.isfinite(score) else math.inf for score in scores.values()]
    return {name: float(rank) for name, rank in zip(scores, scipy.stats.rankdata(costs), strict=True)}


def _mean_ranks(ranks: Mapping[str, Ranking]) -> Ranking:
    names = next(iter(ranks.values()))
    return {name: float(np.mean([ranking[name] for ranking in ranks.values()])) for name in names}


def _first(ranking: Ranking) -> tuple[str, ...]:
    best = min(ranking.values())
    return tuple(name for name, rank in ranking.items() if rank == best)


def _tau(before: Ranking, after: Ranking) -> float | None:
    if len(set(before.values())) == 1 or len(set(after.values())) == 1:
        return None
    return float(scipy.stats.kendalltau(list(before.values()), [after[name] for name in before]).statistic)
