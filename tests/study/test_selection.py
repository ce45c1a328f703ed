"""The winner of a search."""

import math

import pytest
from steepest.study.planning.selection import choose

NAN = math.nan


@pytest.mark.parametrize(
    ("scores", "maximize", "winner", "mean"),
    [
        ({"defaults": [0.7], 0: [0.8], 1: [0.9]}, True, 1, 0.9),
        ({"defaults": [0.7], 0: [0.8], 1: [0.9]}, False, "defaults", 0.7),
        ({0: [0.5, 0.9], 1: [0.8, 0.8], 2: [1.0, 0.0]}, True, 1, 0.8),  # the mean counts, not the best seed
        ({0: [0.5, 0.9], 1: [0.8, 0.8], 2: [1.0, 0.0]}, False, 2, 0.5),
        ({0: [NAN], 1: [0.1]}, True, 1, 0.1),  # diverged, or failed
        ({0: [NAN], 1: [9.9]}, False, 1, 9.9),
        ({0: [1.0, NAN], 1: [0.2, 0.1]}, True, 1, 0.15),  # works on one seed only
        ({0: [0.0, NAN], 1: [0.2, 0.1]}, False, 1, 0.15),
        ({"defaults": [0.9], 0: [0.9], 1: [0.9]}, True, "defaults", 0.9),  # the first of equal ones
        ({3: [0.2], 1: [0.2]}, False, 3, 0.2),
        ({0: [-3.0], 1: [-2.0]}, True, 1, -2.0),
        ({0: [0.1] * 10, 1: [0.1] * 9 + [0.1]}, True, 0, 0.1),  # rounding breaks no tie
    ],
)
def test_the_best_mean_wins(
    scores: dict[int | str, list[float]], maximize: bool, winner: int | str, mean: float
) -> None:
    point, score = choose(scores, maximize)
    assert point == winner
    assert score == pytest.approx(mean)


@pytest.mark.parametrize("maximize", [True, False])
def test_nothing_that_works_is_no_winner(maximize: bool) -> None:
    point, score = choose({"defaults": [NAN], 0: [0.1, NAN], 1: [NAN, NAN]}, maximize)
    assert point == "defaults"
    assert math.isnan(score)


@pytest.mark.parametrize("maximize", [True, False])
def test_an_infinitely_bad_score_is_worse_than_any_and_better_than_none(maximize: bool) -> None:
    worst = -math.inf if maximize else math.inf
    assert choose({0: [worst], 1: [0.5]}, maximize)[0] == 1
    assert choose({0: [NAN], 1: [worst]}, maximize)[0] == 1  # finished, however badly
