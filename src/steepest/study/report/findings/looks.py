"""The looks of a sequential study that have been made, and the pairs that they saw."""

from collections.abc import Iterator, Sequence

from steepest.study.records.format import INTERRUPTED, UNSTARTED
from steepest.study.report.stored.study import Study
from steepest.study.statistics.permutation import per_comparison
from steepest.study.statistics.sequential import EXPONENT, Looks, attainable, shares

Pairs = tuple[tuple[int, float], ...]
"""Seeds and differences."""


def looks_made(study: Study, label: str) -> int:
    """Return the number of looks at an optimizer: it and the reference had ended all trials up to there."""
    ended = _ended(study, label) & _ended(study, str(study.reference))
    return next((place for place, seeds in enumerate(look_seeds(study)) if not seeds <= ended), len(_planned(study)))


def looked_at(study: Study, label: str, pairs: Pairs) -> Pairs:
    """Return the pairs that the last look at an optimizer saw."""
    made = looks_made(study, label)
    seen = list(look_seeds(study))[made - 1] if made else frozenset()
    return tuple(pair for pair in pairs if pair[0] in seen)


def looks_of(study: Study, label: str, pairs: Pairs) -> Looks:
    """Return the looks at an optimizer so far, with the number of pairs at each."""
    made, spending = looks_made(study, label), study.protocol.spending or EXPONENT
    counts = [sum(seed in seeds for seed, _ in pairs) for seeds in look_seeds(study)]
    return Looks(tuple(counts[:made]), shares(_planned(study), spending)[:made])


def look_seeds(study: Study) -> Iterator[frozenset[int]]:
    """Yield the evaluation seeds up to each planned look."""
    first = study.protocol.seed_offset
    for look in _planned(study):
        yield frozenset(range(first, first + look))


def first_decisive_look(looks: Sequence[int], comparisons: int, alpha: float) -> int | None:
    """Return the first look that can give a verdict; None if not even the last one can.

    >>> first_decisive_look((10, 20, 30), 8, 0.05), first_decisive_look((3, 5), 1, 0.05)
    (20, None)
    """
    level = per_comparison(comparisons, alpha)
    able = (look for look, share in zip(looks, shares(looks), strict=True) if attainable(look, share, level))
    return next(able, None)


def _planned(study: Study) -> tuple[int, ...]:
    return study.protocol.looks


def _ended(study: Study, label: str) -> frozenset[int]:
    return frozenset(trial.seed for trial in study.trials_of(label) if trial.status not in (INTERRUPTED, UNSTARTED))
