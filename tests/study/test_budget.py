"""A time chooses trials and seeds, by prices that a calibration tells; and no trial starts after it."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steepest.study.errors import UsageError
from steepest.study.planning import budget as budgets
from steepest.study.planning import estimate
from steepest.study.planning.budget import Budget, Prices, Sizes, budgeted, choose, continued, prices_of, probing
from steepest.study.planning.plan import Plan
from steepest.study.planning.request import Request
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder
from steepest.study.trials import timing
from steepest.study.workloads import find

from .support import PlanMaker, Silent

HOUR = 3600.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400), ("1h30m", 5400), ("0.5h", 1800)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert Budget.read(text).seconds == seconds
    assert Budget.read(text).room == pytest.approx(0.9 * seconds)


@pytest.mark.parametrize("text", ["", "2", "2x", "h", "0s", "-2h", "2h ", "2 h", "1h30", "inf", "nanh"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no time above zero; give numbers with units: 90s, 30m, 2h, 1d"):
        Budget.read(text)


def chosen(point: float, seed: float, room: float, trials: int | None = None, seeds: int | None = None) -> Sizes:
    smallest = Sizes(4 if trials is None else trials, seeds or 9)
    return choose(Prices(point, seed), room, smallest, trials_free=trials is None, seeds_free=seeds is None)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"room": 100.0}, Sizes(32, 67)),  # 33 points in half of the time, and 67 seeds in the rest
        ({"room": 14.0}, Sizes(4, 9)),  # the smallest search takes 5, more than a third, and all the rest are seeds
        ({"room": 1e6}, Sizes(64, 100)),  # no more than is of use
        ({"room": 100.0, "trials": 0}, Sizes(0, 100)),
        ({"room": 50.0, "trials": 16}, Sizes(16, 33)),
        ({"room": 100.0, "seeds": 20}, Sizes(64, 20)),
        ({"room": 40.0, "seeds": 20}, Sizes(16, 20)),
        ({"room": 40.0, "trials": 8, "seeds": 10}, Sizes(8, 10)),
    ],
)
def test_sizes_that_fit(wanted: dict[str, Any], expected: Sizes) -> None:
    assert chosen(1.0, 1.0, **wanted) == expected


@pytest.mark.parametrize("point", [0.01, 0.3, 1.0, 7.0])
@pytest.mark.parametrize("seed", [0.05, 1.0, 4.0])
def test_the_time_is_kept_and_nearly_used(point: float, seed: float) -> None:
    prices = Prices(point, seed, timing=2.0)
    smallest = Sizes(4, 9)
    for room in (prices.of(smallest), 100.0, 1000.0):
        if prices.of(smallest) <= room:
            found = choose(prices, room, smallest, trials_free=True, seeds_free=True)
            assert prices.of(found) <= room
            assert found.trials & (found.trials - 1) == 0
            assert found.seeds >= 9
            assert found.seeds == 100 or prices.of(replace(found, seeds=found.seeds + 1)) > room


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every trial take a second."""
    monkeypatch.setattr(timing, "SECONDS", 1.0)
    monkeypatch.setattr(estimate, "trial_seconds", lambda plan: {config.label: 1.0 for config in plan.configs})


def made(plan: PlanMaker, *optimizers: str, **wanted: Any) -> tuple[Request, Plan]:
    request = Request(find("digits"), "smoke", optimizers, timing_rounds=0, **wanted)
    probe = probing(request)
    return request, plan(*optimizers, trials_wanted=probe.trials, seeds=wanted.get("seeds_wanted") or 1)


@pytest.mark.usefixtures("second")
def test_prices_are_those_of_the_plan(plan: PlanMaker) -> None:
    probe = plan("sgd", "adam[lr=0.1]", trials_wanted=4, tuning_seeds_wanted=3, timing_rounds=2)
    assert prices_of(probe, 1) == Prices(point=3.0, seed=2.0, timing=2 * 2 * 1.0)
    assert prices_of(probe, 4).point == 3.0 / 4
    sized = replace(probe, seeds=tuple(range(5)))
    assert prices_of(sized, 1).of(Sizes(4, 5)) == pytest.approx(estimate.cost(sized).seconds_with(1))


@pytest.mark.usefixtures("second")
def test_a_request_gets_its_sizes_and_is_told_why(plan: PlanMaker) -> None:
    request, probe = made(plan, "sgd", "adam", "adamw")
    sized, why = budgeted(request, probe, Budget.read("5m"), jobs=1)
    assert (sized.trials, len(sized.seeds)) == (32, 57)
    assert why.startswith("5m, a tenth of it in reserve: 32 search trials of every optimizer and 57 seeds, about 5m (")
    assert "the largest search, a power of two, in half of the time; the rest for seeds" in why
    fixed, why = budgeted(*made(plan, "sgd", "adam", trials_wanted=0), Budget.read("1m"), jobs=2)
    assert (fixed.trials, len(fixed.seeds)) == (0, 54)
    assert "no search and 54 seeds" in why
    both, why = budgeted(*made(plan, "sgd", "adam", trials_wanted=2, seeds_wanted=6), Budget.read("1m"), jobs=1)
    assert (both.trials, len(both.seeds)) == (2, 6)
    assert why.endswith("2 search trials of every optimizer and 6 seeds, about 18s")


@pytest.mark.usefixtures("second")
def test_optimizers_that_search_nothing_need_no_search(plan: PlanMaker) -> None:
    sized, _ = budgeted(*made(plan, "sgd[lr=0.1]", "adam[lr=0.1]"), Budget.read("1m"), jobs=1)
    assert (sized.trials, len(sized.seeds)) == (0, 27)


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({}, "4 search trials of every optimizer and 6 seeds, the fewest that can give a verdict take about 22s"),
        ({}, "give --budget 25s or more, fewer epochs or optimizers, or --trials 0, which takes 14s"),
        ({"trials_wanted": 0}, "no search and 6 seeds, the fewest that can give a verdict take about 12s"),
        ({"seeds_wanted": 20}, "4 search trials of every optimizer and 20 seeds take about 50s"),
        ({"trials_wanted": 64, "seeds_wanted": 20}, "20 seeds take about 3m on this machine"),
    ],
)
def test_a_budget_that_is_too_short_is_refused_with_what_it_takes(
    plan: PlanMaker, wanted: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=r"--budget 10s is too short") as caught:
        budgeted(*made(plan, "sgd", "adam", **wanted), Budget.read("10s"), jobs=1)
    assert told in str(caught.value)


def test_the_least_that_is_asked_for_is_enough(plan: PlanMaker, second: None) -> None:
    sized, _ = budgeted(*made(plan, "sgd", "adam"), Budget.read("25s"), jobs=1)
    assert (sized.trials, len(sized.seeds)) == (4, 6)


def test_a_folder_s_sizes_stay(plan: PlanMaker) -> None:
    document = plan("sgd", trials_wanted=2, seeds=5).document
    request = Request(find("digits"), "smoke", ("sgd",))
    assert (continued(request, document).trials, len(continued(request, document).seeds)) == (2, 5)
    assert len(continued(replace(request, seeds_wanted=7), document).seeds) == 7


def test_planned_looks_choose_their_seeds_themselves() -> None:
    with pytest.raises(UsageError, match="--budget chooses the seeds that fit, and --more-seeds adds some"):
        budgets.check(Request(find("digits"), "smoke", ("sgd",), seeds_wanted=5, more_seeds_wanted=9))


def test_no_trial_starts_when_the_time_is_spent(
    plan: PlanMaker, tmp_path: Path, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that moves by one whenever a trial begins: three begin, and the same command runs the others."""

    class Moving(Silent):
        def trial_started(self, trial: Any) -> None:
            super().trial_started(trial)
            monkeypatch.setattr(engine, "time", Clock(len(self.started)))

    folder, callback = StudyFolder(tmp_path / "study"), Moving()
    monkeypatch.setattr(engine, "time", Clock(0))
    planned = plan("sgd", "adam", workload="mini-batch", trials_wanted=2, seeds=2)
    summary = engine.run(planned, folder, callback, deadline=3)
    assert (len(callback.started), summary.left, dict(summary.ended)) == (3, 3, {"finished": 3})
    assert not summary.interrupted
    monkeypatch.setattr(engine, "time", Clock(3))
    assert engine.run(planned, folder, silent, deadline=3).left == 3
    assert silent.started == []
    rest = engine.run(planned, folder, silent, deadline=4)
    assert (rest.left, len(silent.started), rest.skipped) == (0, 7, 3)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now


def test_the_time_runs_from_the_beginning() -> None:
    budget = Budget.read("1h")
    assert budget.deadline - time.monotonic() == pytest.approx(HOUR, abs=60)
