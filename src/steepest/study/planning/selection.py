"""The winner of a search, by validation scores over the tuning seeds at the end of the schedule."""

import math
from collections.abc import Mapping, Sequence

Scores = Mapping[int | str, Sequence[float]]


def choose(scores: Scores, maximize: bool) -> tuple[int | str, float]:
    """Return the point with the best mean score over seeds, and the mean; the first of equals.

    A trial that diverged or failed scores NaN. A point with a NaN comes after all points without one, because a point
    that works only on some seeds is not a setting to recommend.

    >>> choose({"defaults": [0.7], 0: [math.nan], 1: [0.9]}, maximize=True)
    (1, 0.9)
    """
    sign = 1 if maximize else -1
    means = {point: math.fsum(values) / len(values) for point, values in scores.items()}
    best = max(means, key=lambda point: (not math.isnan(means[point]), _ranked(sign * means[point])))
    return best, means[best]


def _ranked(value: float) -> float:
    return 0.0 if math.isnan(value) else value  # all that are NaN are equal
