"""What a plan promises before it runs: its numbers are those of the test that will be made."""

import pytest

from steepest.study.planning import estimate, subject
from steepest.study.planning.estimate import detectable_effect
from steepest.study.trials import timing

from .support import PlanMaker


@pytest.mark.parametrize(("optimizers", "needed"), [(2, 6), (3, 7), (9, 9), (17, 10)])
def test_the_seeds_that_any_verdict_needs(optimizers: int, needed: int) -> None:
    """2 / 2^n must not exceed 0.05 / m."""
    comparisons = optimizers - 1
    assert 2 / 2**needed <= 0.05 / comparisons < 2 / 2 ** (needed - 1)
    found = detectable_effect(optimizers, needed)
    assert found is not None
    assert (found.seeds_needed, found.enough) == (needed, True)
    assert found.detectable is not None
    too_few = detectable_effect(optimizers, needed - 1)
    assert too_few is not None
    assert (too_few.enough, too_few.detectable) == (False, None)


def test_one_optimizer_is_compared_with_nothing() -> None:
    assert detectable_effect(1, 10) is None


def test_more_seeds_find_less() -> None:
    found = [detectable_effect(5, seeds) for seeds in (8, 12, 16)]
    detectable = [one.detectable for one in found if one and one.detectable]
    assert detectable == sorted(detectable, reverse=True)
    assert len(detectable) == 3


def test_cost_grows_with_the_plan(plan: PlanMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock of a second per step and two per evaluation the sum can be made by hand."""
    monkeypatch.setattr(timing, "SECONDS", 5.0)
    monkeypatch.setattr(estimate, "_step_seconds", lambda *_: 1.0)
    monkeypatch.setattr(subject, "_evaluation_seconds", lambda *_: 2.0)
    made = plan("sgd", "adam", trials_wanted=2, seeds=3, epochs_wanted=2, timing_rounds=0)
    trials = 2 * (3 + 3)  # defaults and two points, three evaluations
    steps, looks = made.subject.steps, 2 + 2  # before training and at the test as well
    found = estimate.cost(made)
    assert found.seconds == trials * (steps * 1.0 + looks * 2.0)
    timed = estimate.cost(plan("sgd", "adam", trials_wanted=2, seeds=3, epochs_wanted=2, timing_rounds=3))
    assert timed.seconds_with(1) == found.seconds + 2 * 3 * 5.0
    assert timed.seconds_with(4) == found.seconds / 4 + 2 * 3 * 5.0


def test_the_disk_estimate_is_near_the_records(plan: PlanMaker, tmp_path, silent) -> None:
    from steepest.study.running.engine import run
    from steepest.study.running.store import StudyFolder

    made = plan("sgd", workload="single-example", seeds=2)
    run(made, StudyFolder(tmp_path), silent)
    written = sum(path.stat().st_size for kind in ("trials", "times") for path in (tmp_path / kind).iterdir())
    assert estimate.cost(made).disk_bytes == pytest.approx(written, rel=0.4)  # the specification's line is not counted
