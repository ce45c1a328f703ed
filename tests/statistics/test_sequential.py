"""Sequential tests beside another implementation of them, beside the fixed test, and over simulated studies."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from simulated import SYMMETRIC, Law, in_band

from steepest.study.errors import UsageError
from steepest.study.statistics.permutation import sign_flip_p_value
from steepest.study.statistics.sequential import Looks, attainable, planned_looks, sequential_p_value, shares
from steepest.study.statistics.sequential import _flips as flips
from steepest.study.statistics.vectors import Vector
from steepest.study.statistics.verdicts import Comparison, Verdict, compare

INF = math.inf


def rejected_by_hand(differences: list[int], counts: list[int], spent: list[Fraction], level: Fraction) -> bool:
    """Walk through all sign patterns of whole differences, with whole sums and fractions, one look after another."""
    n = counts[-1]
    patterns = list(itertools.product((1, -1), repeat=n))
    gone: set[tuple[int, ...]] = set()
    for count, share in zip(counts, spent, strict=True):
        sums = {p: abs(sum(s * d for s, d in zip(p[:count], differences, strict=False))) for p in patterns}
        for size in sorted({sums[p] for p in patterns if p not in gone}, reverse=True):
            group = [p for p in patterns if p not in gone and sums[p] == size]
            if len(gone) + len(group) > level * share * len(patterns):
                break
            gone.update(group)
    return (1,) * n in gone


@pytest.mark.parametrize("number", range(8))
def test_it_is_the_test_by_hand(number: int) -> None:
    differences = [int(value) for value in np.random.default_rng(number).integers(-1, 9, size=7)]
    counts = [[7], [4, 7], [3, 5, 7], [5, 6, 7]][number % 4]
    spent = [Fraction(count * count, 49) for count in counts]
    grid = [2.0 ** (-step / 8) for step in range(64)]
    refused = (
        place for place, one in enumerate(grid) if not rejected_by_hand(differences, counts, spent, Fraction(one))
    )
    looks = Looks(tuple(counts), tuple(map(float, spent)))
    assert sequential_p_value([float(d) for d in differences], looks) == grid[max(next(refused) - 1, 0)]


@pytest.mark.parametrize("n", [6, 10, 16])
def test_with_one_look_it_is_the_fixed_test(n: int) -> None:
    for row in np.random.default_rng(n).normal(0.6, size=(8, n)):
        fixed, looks = sign_flip_p_value(row.tolist()), Looks((n,), (1.0,))
        assert sequential_p_value(row.tolist(), looks, [fixed * (1 + 1e-9)]) == pytest.approx(fixed)
        below = [fixed * (1 - 1e-6)]
        assert sequential_p_value(row.tolist(), looks, below) > below[0]


def test_above_sixteen_pairs_with_one_look_it_is_near_the_fixed_test() -> None:
    row = np.random.default_rng(3).normal(0.35, size=40).tolist()
    found = sequential_p_value(row, Looks((40,), (1.0,)))
    assert sign_flip_p_value(row) == pytest.approx(found, rel=0.15)


@pytest.mark.parametrize("n", [3, 16, 40])
def test_the_patterns_are_a_group_of_balanced_signs(n: int) -> None:
    rows = flips(n)
    assert rows.shape == (2 ** min(n, 16), n)
    assert (rows[0] == 1).all()
    assert (rows == -1).all(axis=1).sum() == 1
    random = np.random.default_rng(0)
    known = {row.tobytes() for row in rows}
    assert len(known) == len(rows)
    for one, other in random.integers(0, len(rows), size=(50, 2)):
        assert (rows[one] * rows[other]).tobytes() in known
    products = rows.astype(np.float64).T @ rows
    assert (products == len(rows) * np.eye(n)).all()  # any two signs are independent


def test_what_was_rejected_stays_rejected() -> None:
    looks = planned_looks(6, 18)
    spent = shares(looks)
    strong, weak = [1.0, 1.2, 0.8, 1.1, 0.9, 1.3], [-0.5, 0.4] * 6
    first = sequential_p_value(strong, Looks(looks[:1], spent[:1]))
    assert first < 1.0
    later = [sequential_p_value([*strong, *weak][:n], Looks(looks[:k], spent[:k])) for k, n in ((2, 12), (3, 18))]
    assert max(later) <= first


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_neither_scale_nor_sign_changes_it(scale: float) -> None:
    row = np.random.default_rng(1).normal(0.8, size=12)
    looks = Looks((6, 12), shares((6, 12)))
    p = sequential_p_value(row.tolist(), looks)
    assert sequential_p_value((scale * row).tolist(), looks) == p
    assert sequential_p_value((-row).tolist(), looks) == p


def test_infinite_differences_are_ranked() -> None:
    looks = Looks((7, 14), shares((7, 14)))
    better = [INF, *np.linspace(0.1, 1.3, 13)]
    assert sequential_p_value(better, looks) < 0.001
    assert sequential_p_value([INF, -INF] * 7, looks) == 1.0


def test_ties_and_nothing_are_never_rejected() -> None:
    assert sequential_p_value([0.0] * 12, Looks((6, 12), shares((6, 12)))) == 1.0
    assert sequential_p_value([5.0], Looks((), ())) == 1.0
    assert sequential_p_value([5.0] * 8, Looks((0, 8), (0.5, 1.0))) == 2.0**-7


def test_a_look_that_can_decide_does() -> None:
    for n, share in itertools.product(range(4, 14), (0.1, 0.3, 1.0)):
        p = sequential_p_value([1.0 + 0.1 * i for i in range(n)], Looks((n,), (share,)), [0.05])
        assert (p <= 0.05) == attainable(n, share, 0.05)


def test_the_plan_of_looks() -> None:
    assert planned_looks(10, 30) == (10, 20, 30)
    assert planned_looks(10, 31) == (10, 20, 30, 31)
    assert shares((10, 20, 30))[-1] == 1.0
    assert Looks((10, 20), (0.25, 0.75)).last_share == 0.5
    assert (Looks((10,), (0.25,)).last_share, Looks((), ()).last_share) == (0.25, 0.0)


@pytest.mark.parametrize("most", [10, 3])
def test_a_maximum_that_adds_nothing_is_refused(most: int) -> None:
    with pytest.raises(UsageError, match=rf"{most} seeds at most leave nothing to add to the first 10"):
        planned_looks(10, most)


@pytest.mark.parametrize("counts", [(3, 9), (6, 4)])
def test_looks_that_make_no_sense_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"looks at .* of 8 pairs"):
        sequential_p_value([1.0] * 8, Looks(counts, (0.5, 1.0)))


def error(law: Law, looks: tuple[int, ...], studies: int, level: float) -> int:
    """Return how many studies of equal optimizers reject at some look."""
    rows = law(np.random.default_rng(looks[-1]), (studies, looks[-1]))
    made = Looks(looks, shares(looks))
    return sum(sequential_p_value(row.tolist(), made, [level]) <= level for row in rows)


@pytest.mark.parametrize("law", SYMMETRIC)
def test_the_error_over_all_looks_is_the_planned_one(law: str) -> None:
    """Of 2^12 patterns at most one tie group is left out, so the test spends nearly all of its level."""
    assert in_band(error(SYMMETRIC[law], (4, 8, 12), 600, 0.05), 600, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("law", SYMMETRIC)
@pytest.mark.parametrize("looks", [(10, 20, 30), (8, 16, 24, 32)])
def test_the_error_with_more_pairs_is_the_planned_one(law: str, looks: tuple[int, ...]) -> None:
    assert in_band(error(SYMMETRIC[law], looks, 4000, 0.05), 4000, 0.05)


def test_looking_at_the_fixed_test_again_and_again_is_what_it_mends() -> None:
    """The fixed test at 6, 8, 10 and 12 pairs finds differences of equal optimizers twice as often as it claims."""
    rows = np.random.default_rng(5).normal(size=(700, 12))
    naive = sum(any(sign_flip_p_value(row[:n].tolist()) <= 0.05 for n in (6, 8, 10, 12)) for row in rows)
    looks = Looks((6, 8, 10, 12), shares((6, 8, 10, 12)))
    planned = sum(sequential_p_value(row.tolist(), looks, [0.05]) <= 0.05 for row in rows)
    assert naive > 1.6 * 0.05 * 700
    assert in_band(planned, 700, 0.05)


def looks_at(counts: tuple[int, ...], plan: tuple[int, ...]) -> Looks:
    return Looks(counts, shares(plan)[: len(counts)])


def test_a_verdict_of_the_first_look_has_an_interval_of_what_that_look_may_spend() -> None:
    differences = [1.0, 1.2, 0.8, 1.1, 0.9, 1.3, 0.7, 1.05, 0.95, 1.15]
    (fixed,) = compare({"one": differences}, "reference", 0.0)
    (first,) = compare({"one": differences}, "reference", 0.0, looks={"one": looks_at((10,), (10, 20))})
    (last,) = compare({"one": differences}, "reference", 0.0, looks={"one": looks_at((10,), (10,))})
    assert (fixed.interval, fixed.verdict) == (last.interval, last.verdict)
    assert first.verdict is Verdict.BETTER
    assert first.interval.level == pytest.approx(1 - 0.05 / 4)
    assert first.interval.low < fixed.interval.low
    assert first.p_value >= 4 * fixed.p_value


def test_a_look_that_cannot_decide_has_not_enough_seeds() -> None:
    differences = {str(i): [1.0 + 0.1 * i] * 10 for i in range(8)}
    looks = {label: looks_at((10,), (10, 20, 30)) for label in differences}
    assert {one.verdict for one in compare(differences, "reference", 0.0, looks=looks)} == {Verdict.NOT_ENOUGH_SEEDS}
    assert {one.verdict for one in compare(differences, "reference", 0.0)} == {Verdict.BETTER}


def test_comparisons_may_have_stopped_at_different_looks() -> None:
    plan = (9, 18)
    table = {"early": [1.0 + 0.01 * i for i in range(9)], "late": [(-1.0) ** i for i in range(18)]}
    looks = {"early": looks_at((9,), plan), "late": looks_at((9, 18), plan)}
    early, late = compare(table, "reference", 0.0, looks=looks)
    assert (early.verdict, early.n) == (Verdict.BETTER, 9)
    assert (late.verdict, late.n) == (Verdict.UNDECIDED, 18)
    assert late.interval.level == pytest.approx(1 - 0.025 * 0.75)


def study(scores: Vector, plan: tuple[int, ...]) -> tuple[Comparison, ...]:
    """Run a whole sequential study of optimizers, rows of scores, against the first row: what is decided stops."""
    differences = {str(number): row - scores[0] for number, row in enumerate(scores[1:])}
    made = dict.fromkeys(differences, 1)
    for look in range(1, len(plan) + 1):
        seen = {label: row[: plan[made[label] - 1]].tolist() for label, row in differences.items()}
        looks = {label: looks_at(plan[: made[label]], plan) for label in made}
        found = compare(seen, "reference", 0.0, looks=looks)
        waiting = [one.label for one in found if one.verdict.is_open]
        if not waiting or look == len(plan):
            break
        made |= dict.fromkeys(waiting, look + 1)
    return found


def false_verdicts(optimizers: int, plan: tuple[int, ...], law: Law, studies: int) -> int:
    random = np.random.default_rng(11)
    tables = (law(random, (optimizers, plan[-1])) for _ in range(studies))
    return sum(any(one.verdict in (Verdict.BETTER, Verdict.WORSE) for one in study(table, plan)) for table in tables)


def test_some_false_verdict_comes_in_at_most_five_of_a_hundred_studies() -> None:
    found = false_verdicts(4, (7, 14), SYMMETRIC["normal"], 150)
    assert found <= 0.05 * 150 + 3.3 * math.sqrt(150 * 0.05 * 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("optimizers", [2, 9])
@pytest.mark.parametrize("law", [SYMMETRIC["normal"], lambda random, shape: random.exponential(size=shape)])
def test_some_false_verdict_comes_in_at_most_five_of_a_hundred_studies_with_more_of_all(
    optimizers: int, law: Law
) -> None:
    studies = 1000 if optimizers == 2 else 250
    found = false_verdicts(optimizers, (10, 20, 30), law, studies)
    assert found <= 0.05 * studies + 3.3 * math.sqrt(studies * 0.05 * 0.95)
