"""Extension of a search whose best learning rate lies on the edge of its range, equal for all optimizers.

An extension doubles the number of points of every optimizer. One whose best rate is the outermost gets its new points
in the decade beyond that edge. The others get theirs in their own range, where the sequence continues.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from steepest.study.planning.search import Range, Space, points
from steepest.study.statistics.tuning import sensitivity

Extension = Mapping[str, Mapping[str, float]]
"""The ends `low` and `high` of the new range of every optimizer that is extended beyond an edge, by label."""

RATE: Final = "lr"
DECADE: Final = 10.0


def extended_points(
    space: Space, label: str, trials: int, sampler: str, extensions: Sequence[Extension], seed: int = 0
) -> list[dict[str, Any]]:
    """Return all points of an optimizer: those of the first search, then of every extension.

    `seed` is the number of the draw.
    """
    drawn = points(space, trials, sampler, seed=seed)
    inside = dict(space)  # the range that has been searched so far
    for extension in extensions:
        count = len(drawn)
        if label in extension:
            part = extension[label]
            drawn += points(_with_rate(inside, **part), count, sampler, seed=seed)
            inside = _with_rate(inside, **_joined(inside, part))
        else:
            drawn += points(inside, count, sampler, start=count, seed=seed)
    return drawn


def extension_of(
    spaces: Mapping[str, Space],
    scores: Mapping[str, Sequence[tuple[Mapping[str, Any], float]]],
    extensions: Sequence[Extension],
    maximize: bool,
) -> dict[str, dict[str, float]]:
    """Return the new range of every optimizer whose best rate lies on an edge: a decade beyond that edge.

    `scores` holds (point, score) of every point tried, NaN where a trial did not finish. Optimizers whose
    best rate is enclosed are left out.
    """
    ranges = {}
    for label, tried in scores.items():
        rates = [float(point[RATE]) for point, _ in tried if RATE in point]
        if not rates or not isinstance(spaces[label].get(RATE), Range):
            continue
        curve = sensitivity(rates, [score for point, score in tried if RATE in point], maximize=maximize, margin=0.0)
        if curve is not None and curve.at_edge is not None:
            ranges[label] = _beyond(_searched(spaces[label], label, extensions), curve.at_edge)
    return ranges


def _beyond(ends: Mapping[str, float], edge: str) -> dict[str, float]:
    if edge == "low":
        return {"low": ends["low"] / DECADE, "high": ends["low"]}
    return {"low": ends["high"], "high": ends["high"] * DECADE}


def _searched(space: Space, label: str, extensions: Sequence[Extension]) -> dict[str, float]:
    """Return the ends of the range of rates that all searches together have covered."""
    inside = dict(space)
    for extension in extensions:
        if label in extension:
            inside = _with_rate(inside, **_joined(inside, extension[label]))
    return _ends(inside)


def _joined(space: Space, part: Mapping[str, float]) -> dict[str, float]:
    ends = _ends(space)
    return {"low": min(ends["low"], part["low"]), "high": max(ends["high"], part["high"])}


def _ends(space: Space) -> dict[str, float]:
    rate = space[RATE]
    assert isinstance(rate, Range)  # only a range has an edge to be extended
    return {"low": rate.search.low, "high": rate.search.high}


def _with_rate(space: Space, low: float, high: float) -> dict[str, Any]:
    rate = space[RATE]
    assert isinstance(rate, Range)
    return {**space, RATE: rate.between(low, high)}
