"""Traces: fair rates, ties, what is skipped, mistakes, and the figures of the table."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from steepest.landscapes import Traced, rates, sources, trace, tracing
from steepest.landscapes.paths import Walk
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import parse_config


def tried(text: str, surface: str = "bowl", points: int = 4, **others: Any) -> rates.Choice:
    found = sources.find(surface)
    given = {"budget": 6, "seed": 0, "lr": None, **others}
    return rates.choose(found, parse_config(text, {}), found.starts[:1], points=points, **given)[1]


def test_rates_are_tried_on_the_same_places_of_every_range() -> None:
    units = [(place + 0.5) / 4 for place in range(4)]
    for name in ("sgd", "adam", "lion"):
        search = parse_config(name, {}).origin.ranges["lr"]
        default = parse_config(name, {}).origin.resolved({})["lr"]
        choice = tried(name)
        assert set(choice.rates) - {default} == {
            float(f"{search.low * (search.high / search.low) ** unit:.3e}") for unit in units
        } - {default}
        assert default in choice.rates
        assert list(choice.rates) == sorted(choice.rates)


def test_the_best_rate_is_that_of_the_lowest_end() -> None:
    choice = tried("sgd", "ravine", points=8, budget=20)
    ends = {rate: float(trace("ravine", f"sgd[lr={rate!r}]", budget=20).paths[0].values[-1]) for rate in choice.rates}
    assert choice.rate == min(ends, key=lambda rate: ends[rate])
    assert choice.how == "tuned"
    assert choice.ties == 1
    lost = [rate for rate, score in zip(choice.rates, choice.scores, strict=True) if score == math.inf]
    assert lost
    assert min(lost) > choice.rate


def test_a_score_is_the_mean_logarithm_above_the_minimum() -> None:
    found = sources.find("saddle")  # its lowest value is -1

    assert rates.score(found, [-0.9, -0.999]) == pytest.approx(-2)
    assert rates.score(found, [-1.0, -1 + 1e-14]) == math.log10(rates.RESOLUTION)
    assert rates.score(found, [-1.0, math.inf]) == math.inf


def test_of_equal_scores_the_smallest_rate_is_taken_and_the_tie_is_said() -> None:
    choice = tried("sgd", points=8, budget=60)
    best = [rate for rate, score in zip(choice.rates, choice.scores, strict=True) if score == min(choice.scores)]
    assert len(best) > 1
    assert (choice.rate, choice.ties) == (min(best), len(best))
    traced = trace("bowl", ["sgd", "signum[lr=0.1]", "nag[lr=1.0,momentum=0]"], budget=60, rates=8)
    assert f"tuned, {choice.ties} tie" in [row["chosen"] for row in traced.rows]
    assert "SGD, NAG[lr=1,momentum=0] end equally low, as far as values are told apart" in traced.remarks


def test_given_rates_are_not_searched() -> None:
    assert tried("adam[lr=0.3]", lr=0.1) == rates.Choice(0.3, "given")
    assert tried("adam", lr=0.1) == rates.Choice(0.1, "given")
    assert tried("prodigy") == rates.Choice(None, "own")


def test_noise_of_the_search_is_not_that_of_the_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: dict[str, set[int]] = {"search": set(), "path": set()}
    walk, ends_apart = tracing.walk, rates.ends_apart

    def noted(kind: str) -> Any:
        def call(*args: Any, seed: int, **others: Any) -> Walk:
            seeds[kind].add(seed)
            return walk(*args, seed=seed, **others)

        return call

    def noted_runs(surface: Any, config: Any, runs: Any, budget: int) -> list[float]:
        seeds["search"].update(run.seed for run in runs)
        return ends_apart(surface, config, runs, budget)

    monkeypatch.setattr(rates, "ends_apart", noted_runs)
    monkeypatch.setattr(tracing, "walk", noted("path"))
    trace("noisy-ravine", ["sgd", "adam"], budget=4, rates=2, seed=5)
    assert seeds["path"] == {5}
    assert len(seeds["search"]) == rates.TUNING_SEEDS
    assert not seeds["search"] & seeds["path"]


def test_all_optimizers_have_one_budget_and_the_same_starts() -> None:
    traced = trace("himmelblau", ["sgd", "adam", "sam[base=sgd]"], budget=10, starts=2, rates=2)
    assert [(path.label, path.start) for path in traced.paths] == [
        (label, start) for label in ("SGD", "Adam", "SAM(SGD)") for start in (0, 1)
    ]
    for path in traced.paths:
        assert path.positions[0].tolist() == list(traced.starts[path.start])
        assert path.evaluations[-1] == 10
        assert path.plane is not path.positions
        assert path.plane.tolist() == path.positions.tolist()


def test_starts_are_the_surfaces_own_then_drawn_ones_then_given_ones() -> None:
    found = sources.find("beale")
    five = tracing.starts_on(found, 5, 0)
    assert five[:3] == found.starts
    assert len(set(five)) == 5
    assert five == tracing.starts_on(found, 5, 0) != tracing.starts_on(found, 5, 1)
    assert tracing.starts_on(found, [(1, 2), torch.tensor([0.5, 0.25])], 0) == ((1.0, 2.0), (0.5, 0.25))


def test_what_is_skipped_has_a_reason() -> None:
    traced = trace("rosenbrock", ["sgd[lr=0.002]", "muon", "sparseadam", "sophia"], budget=3)
    assert traced.labels == ("SGD[lr=0.002]",)
    reasons = dict(traced.skipped)
    assert "Muon only supports 2D parameters" in reasons["Muon"]
    assert "SparseAdam does not support dense gradients" in reasons["SparseAdam"]
    assert "estimates of the curvature" in reasons["Sophia"]
    assert trace("least-squares", "muon[lr=0.02]", budget=3).skipped == ()
    assert trace("rosenbrock", "muon", budget=3).paths == ()


def test_classes_and_functions_are_optimizers_too() -> None:
    def mine(params: Any, lr: float = 0.1) -> Any:
        return torch.optim.SGD(params, lr=lr)

    several = trace("bowl", [torch.optim.Adam, mine], budget=4, rates=2)
    assert several.labels == ("Adam", "mine")
    named = trace("bowl", {"half": lambda params, lr=0.1: torch.optim.SGD(params, lr=lr / 2)}, budget=4, lr=0.5)
    assert named.labels == ("half",)
    assert named.paths[0].effective_rates == pytest.approx([0.25] * 4)


def test_the_row_of_a_path() -> None:
    traced = trace("bowl", "sgd[lr=0.5]", budget=20)
    (row,) = traced.rows
    assert row["value"] == pytest.approx((1.6**2 + 1.1**2) / 2 * 0.25**20)
    assert row["to threshold"] == 5  # 0.25**5 is the first power below a thousandth
    assert row["distance"] == pytest.approx(math.hypot(1.6, 1.1) * 0.5**20)
    assert (row["rate"], row["chosen"], row["evaluations"], row["ended"]) == (0.5, "given", 20, "")
    assert traced.to_dataframe().loc[0, "optimizer"] == "SGD[lr=0.5]"
    assert "SGD[lr=0.5]: rate 0.5, given, value" in repr(traced)


def test_nothing_is_said_of_a_minimum_that_nobody_knows() -> None:
    def tilted(p: Tensor) -> Tensor:
        x, y = p
        return x * x + y

    (row,) = trace(tilted, "sgd[lr=0.1]", budget=5).rows
    assert row["to threshold"] is None
    assert row["distance"] is None


def test_lost_runs_say_so() -> None:
    traced = trace("rosenbrock", "sgd[lr=1]", budget=20)
    assert traced.rows[0]["ended"].startswith("beyond 1e+12 at evaluation ")
    choice = rates.Choice(0.1, "tuned", (0.1, 0.2), (math.inf, math.inf))
    assert choice.words == "rate 0.1, tuned, as all rates are lost"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"optimizers": "adan[be=3]"}, "has no option 'be'"),
        ({"optimizers": "admm"}, "unknown optimizer 'admm'; did you mean 'adam'?"),
        ({"optimizers": []}, "no optimizer is given"),
        ({"optimizers": ["sgd", "SGD"]}, "SGD is given twice"),
        ({"optimizers": "adam[schedule=cosine]"}, "paths on a surface have constant rates; leave the schedule out"),
        ({"optimizers": torch.optim.SGD([torch.zeros(2)], lr=1.0)}, "this SGD is built already"),
        ({"optimizers": [3.5]}, "has no name of its own"),
        ({"budget": 0}, "budget must be a whole number of at least 1, not 0"),
        ({"budget": 2.5}, "budget must be a whole number"),
        ({"rates": 0}, "rates must be a whole number"),
        ({"starts": 0}, "starts must be a whole number"),
        ({"starts": []}, "no start is given"),
        ({"starts": [(1, 2, 3)]}, "a start on rosenbrock has 2 numbers, and (1.0, 2.0, 3.0) has 3"),
        ({"starts": [(math.nan, 1)]}, "the start (nan, 1) is not finite"),
        ({"starts": [(math.inf, 1)]}, "the start (inf, 1) is not finite"),
        ({"surface": "reddi", "starts": [(1.5,)]}, "the start (1.5) is outside of reddi; its numbers are -1 to 1"),
        ({"surface": lambda p: p.log().sum(), "starts": [(-1, 1)]}, "is outside of the domain of <lambda>"),
        ({"surface": "reddi", "starts": 5}, "reddi has 2 starts and no window to draw others from"),
        ({"window": ((0, 0), (1, 2))}, "a window is"),
        ({"lr": -1.0}, "cannot run with lr=-1"),
    ],
)
def test_mistakes(arguments: dict[str, Any], words: str) -> None:
    given = {"surface": "rosenbrock", "optimizers": "sgd", "budget": 3, "rates": 1, **arguments}
    with pytest.raises(UsageError) as raised:
        trace(given.pop("surface"), given.pop("optimizers"), **given)
    assert words in str(raised.value)


def test_a_function_outside_of_its_domain_at_the_usual_start_says_what_to_give() -> None:
    def positive(p: Tensor) -> Tensor:
        return p.log().sum()

    with pytest.raises(UsageError, match="give a start where the value is finite"):
        trace(positive, "sgd", budget=3)
    assert isinstance(trace(positive, "sgd", starts=[(2, 2)], budget=3, rates=1), Traced)
