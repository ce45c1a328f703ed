"""Long curves -> what a screen can show. Two ways, each with its own promise."""

import numpy as np
from numpy.typing import NDArray

from steepest.study.report.stored.study import Array

Indices = NDArray[np.int64]

SCREEN_POINTS = 400
SMOOTH_POINTS = 200


def thin(y: Array, limit: int = SCREEN_POINTS) -> Indices:
    """Return indices of at most ``limit`` points of a curve that keep its shape.

    The curve is cut into equal buckets, and the lowest and highest finite point of each is kept. So no point is
    invented, and the first point, the last point and the curve's extremes stay. A curve of at most ``limit`` points
    stays as it is.
    """
    if len(y) <= limit:
        return np.arange(len(y))
    inner = np.array_split(np.arange(1, len(y) - 1), max((limit - 2) // 2, 1))
    kept = [index for bucket in inner for index in _extremes(y, bucket)]
    return np.unique(np.array([0, *kept, len(y) - 1]))


def bucket_means(x: Array, y: Array, limit: int = SMOOTH_POINTS) -> tuple[Array, Array]:
    """Return means of x and y over runs of equally many neighbouring points, at most ``limit`` of them.

    This smooths: single spikes are averaged away, by design. Every finite value counts exactly once; a bucket without
    any is NaN. Buckets hold ``ceil(n / limit)`` points each (the last one may hold fewer), so with at most ``limit``
    points nothing is changed.
    """
    width = max(-(-len(x) // limit), 1)
    starts = np.arange(0, len(x), width)
    if not len(starts):
        return x, y
    finite = np.isfinite(y)
    counts = np.add.reduceat(finite.astype(np.float64), starts)
    sums = np.add.reduceat(np.where(finite, y, 0.0), starts)
    sizes = np.diff(np.append(starts, len(x)))
    means = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    return np.add.reduceat(x, starts) / sizes, means


def _extremes(y: Array, bucket: Indices) -> list[int]:
    finite = bucket[np.isfinite(y[bucket])]
    if not len(finite):
        return []
    return [int(finite[np.argmin(y[finite])]), int(finite[np.argmax(y[finite])])]
