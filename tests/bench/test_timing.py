"""Samples last long enough and are taken in turn."""

from __future__ import annotations

import gc

import pytest

from steepest.bench import timing
from steepest.collector import collector_paused

from .support import Clock


class Named:
    """A lane that writes down when it was sampled."""

    def __init__(self, clock: Clock, name: str, seconds: float) -> None:
        self._step = clock.takes(seconds, name)

    def sample(self, timer: timing.Timer) -> float:
        return timer.seconds(self._step, 2) / 2


@pytest.mark.parametrize(
    ("seconds", "steps"), [(1.0, 1), (10e-3, 1), (9.9e-3, 2), (0.5e-3, 32), (1e-12, timing.MOST_STEPS)]
)
def test_a_sample_has_as_many_steps_as_make_ten_milliseconds(seconds: float, steps: int) -> None:
    assert timing.steps_per_sample(lambda count: count * seconds) == steps


def test_a_slow_first_step_does_not_shorten_a_sample() -> None:
    taken = iter([1.0])
    assert timing.steps_per_sample(lambda count: next(taken, count * 5e-3)) == 2


def test_samples_are_seconds_per_step_in_an_order_drawn_for_each_round() -> None:
    clock = Clock()
    lanes = [Named(clock, "a", 1.0), Named(clock, "b", 2.0), Named(clock, "c", 4.0)]
    assert timing.interleaved(lanes, 20, clock.timer) == [[1.0] * 20, [2.0] * 20, [4.0] * 20]
    order = "".join(clock.order[::2])
    rounds = [order[i : i + 3] for i in range(0, 60, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) == 6


def test_the_device_is_waited_for_before_each_reading_of_the_clock() -> None:
    events: list[str] = []

    def clock() -> float:
        events.append("clock")
        return 0.0

    timing.Timer(clock, lambda: events.append("wait")).seconds(lambda: events.append("step"), 2)
    assert events == ["wait", "clock", "step", "step", "wait", "clock"]


def fail_while_paused() -> None:
    with collector_paused():
        assert not gc.isenabled()
        raise ZeroDivisionError


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_paused_and_left_as_it_was(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ZeroDivisionError):
            fail_while_paused()
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
