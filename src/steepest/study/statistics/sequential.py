"""Sequential sign-flip tests: several planned looks at a growing number of pairs, at one error rate for all looks.

The error rate is spent in parts (Lan and DeMets 1983, Biometrika 70, 659-663). After n of at most N pairs a test of
level a may have spent a * (n / N)^2: the power family of Kim and DeMets (1987, Biometrika 74, 149-154), between
Pocock's even and O'Brien and Fleming's late spending. A boundary is not looked up in a table of normal laws. It is that
of the sign flips themselves: given the sizes of all differences, each pattern of signs tells at which look it would
have been rejected. At look k the patterns with the largest sums, among those not rejected before, are rejected until
the spent share of all patterns is reached. So a test of level a rejects equal optimizers with probability at most a
over all looks together, whatever the law of the differences, as long as d is as likely as -d.

Up to 16 pairs the patterns are all 2^n. Above, they are a subgroup of 2^16: further signs are fixed products of the
first 16, any two of them independent. A test over a subgroup is exact too (Hemerik and Goeman 2018, TEST 27, 811-825).
The same subgroup serves all looks, with the first n signs at look n.

The p value of such a test is the smallest level that rejects at some look so far. It can be taken for an ordinary p
value at any look, so that Holm's correction over several of them holds too, wherever each of them stopped.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from steepest.study.errors import UsageError
from steepest.study.statistics.permutation import EXACT_UP_TO, TIE, flipped_values
from steepest.study.statistics.vectors import Vector, probability, vector

EXPONENT: Final = 2.0
"""The exponent of the spending: 1 is about Pocock's, 3 about O'Brien and Fleming's. Figures are in docs/protocol.md."""
STEPS: Final = 8
"""The number of levels per factor of two for which a p value is told."""
CHUNK: Final = 8192
_ROUNDED: Final = 1e-12  # a level a / m times m must not come out above a


@dataclass(frozen=True)
class Looks:
    """Looks at a sequential test that have been made.

    Attributes:
        counts: the number of pairs at each look.
        shares: the share of the error rate that may be spent up to each look, as `shares` returns them.
    """

    counts: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def last_share(self) -> float:
        """The share that the last look added; 0 before the first look."""
        before = self.shares[-2] if len(self.shares) > 1 else 0.0
        return self.shares[-1] - before if self.shares else 0.0


def planned_looks(first: int, most: int) -> tuple[int, ...]:
    """Return the numbers of seeds at which a study looks: after every ``first``, and at ``most``.

    Raises:
        UsageError: the first look is the last one.

    >>> planned_looks(10, 25)
    (10, 20, 25)
    """
    if not 1 <= first < most:
        raise UsageError(f"{most} seeds at most leave nothing to add to the first {first}; give a larger maximum.")
    return (*range(first, most, first), most)


def shares(looks: Sequence[int], exponent: float = EXPONENT) -> tuple[float, ...]:
    """Return the share of the error rate that may be spent up to each look.

    >>> shares((10, 20, 40))
    (0.0625, 0.25, 1.0)
    """
    return tuple((look / looks[-1]) ** exponent for look in looks)


def sequential_p_value(differences: Sequence[float], looks: Looks, levels: Iterable[float] = ()) -> float:
    """Return the smallest level at which the sequential test rejects at one of the looks; 1 before the first one.

    P values are told on a grid of levels, rounded up. Every level above a told one rejects too.

    Args:
        differences: one per pair in the order of seeds, shape (n,); infinite where only one side missed or diverged.
        looks: the looks so far; the last one is at n pairs.
        levels: further levels of the grid, such as alpha / m for every step of Holm's correction.

    Raises:
        UsageError: no difference, or one is NaN; a look at more pairs than there are, or at fewer than the one before.

    >>> sequential_p_value([1.0] * 6, Looks((6,), (1.0,)), [0.05]) <= 0.05
    True
    >>> sequential_p_value([1.0] * 6, Looks((6,), (0.25,)), [0.05]) > 0.05
    True
    """
    values = vector(differences, "differences")
    _check(looks, len(values))
    sizes = [_sizes(values[:count], len(values)) for count in looks.counts if count]
    spent = [share for count, share in zip(looks.counts, looks.shares, strict=True) if count]
    found = 1.0
    for level in _grid(levels):
        if not _rejects(sizes, spent, level):
            break
        found = level
    return found


def attainable(count: int, share: float, level: float) -> bool:
    """Return whether a first look at so many pairs could reject: the smallest p value is at most what may be spent.

    >>> attainable(10, 1 / 9, 0.05), attainable(10, 1 / 9, 0.05 / 8)
    (True, False)
    """
    return 2.0 ** (1 - min(count, EXACT_UP_TO)) <= probability(level, "level") * share


def _check(looks: Looks, n: int) -> None:
    counts = looks.counts
    if any(later < earlier for earlier, later in pairwise(counts)) or max(counts, default=0) > n:
        raise UsageError(f"looks at {', '.join(map(str, counts))} of {n} pairs; give the pairs at each look, rising.")


def _grid(levels: Iterable[float]) -> Iterator[float]:
    """Return the levels from the largest to the smallest that the patterns resolve."""
    usual = [2.0 ** (-step / STEPS) for step in range(STEPS * EXACT_UP_TO)]
    return iter(sorted({*usual, *(level * (1.0 - _ROUNDED) for level in levels)}, reverse=True))


def _rejects(sizes: Sequence[Vector], spent: Sequence[float], level: float) -> bool:
    """Return whether the observed pattern, which is the first, is rejected at one of the looks."""
    rejected = np.zeros(len(sizes[0]), dtype=bool) if sizes else np.zeros(0, dtype=bool)
    for size, share in zip(sizes, spent, strict=True):
        left = int(level * share * len(rejected) * (1.0 + _ROUNDED)) - int(rejected.sum())
        if left <= 0:
            continue
        waiting = np.where(rejected, -np.inf, size)
        bound = np.partition(waiting, -left - 1)[-left - 1] if left < len(waiting) else -np.inf
        rejected |= waiting > bound + (TIE * size.max() if np.isfinite(bound) else 0.0)
        if rejected[0]:
            return True
    return False


def _sizes(values: Vector, n: int) -> Vector:
    """Return the size of the sum under each pattern of the test with n pairs at most, the observed one first."""
    signed, flips = flipped_values(values.tolist()), _flips(n)
    parts = [flips[start : start + CHUNK, : len(signed)] @ signed for start in range(0, len(flips), CHUNK)]
    return np.abs(np.concatenate(parts))


@lru_cache(maxsize=2)
def _flips(n: int) -> NDArray[np.int8]:
    """Return patterns of n signs as rows of 1 and -1, shape (2^min(n, 16), n), read-only: a group, no flip first.

    >>> _flips(2).tolist()
    [[1, 1], [-1, 1], [1, -1], [-1, -1]]
    """
    bits = min(n, EXACT_UP_TO)
    numbers = np.arange(1 << bits, dtype=np.int64)
    masks = [1 << place for place in range(bits)] + _products(n - bits)
    flips = np.stack([1 - 2 * _parity(numbers & mask) for mask in masks], axis=1).astype(np.int8)
    flips.setflags(write=False)
    return flips


def _products(count: int) -> list[int]:
    """Return which of the first 16 signs each further one is the product of: an odd number, so that all can flip."""
    numbers = np.random.default_rng(0).permutation(1 << EXACT_UP_TO)
    odd = numbers[(_parity(numbers) == 1) & (numbers & (numbers - 1) != 0)]
    return [int(number) for number in odd[:count]]


def _parity(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    folded = numbers.copy()
    for shift in (8, 4, 2, 1):
        folded ^= folded >> shift
    return folded & 1
