"""Samples last long enough and are taken in turn."""

from __future__ import annotations

import gc

import pytest
import torch

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


def test_a_device_is_timed_by_events_in_its_queue() -> None:
    """A device that takes two seconds for each step, three of which the host has queued in no time."""
    queue, log = [], []

    class Event:
        def record(self) -> None:
            self.place = len(queue)
            log.append("event")

        def synchronize(self) -> None:
            log.append("wait for event")

        def elapsed_time(self, end: Event) -> float:
            return 2000.0 * (end.place - self.place)

    timer = timing.EventTimer(clock=pytest.fail, synchronize=lambda: log.append("wait"), event=Event)
    queue.append("of somebody else")
    assert timer.seconds(lambda: queue.append("step"), 3) == 6.0
    assert log == ["wait", "event", "event", "wait for event"]


def test_each_device_has_its_timer() -> None:
    assert type(timing.Timer.of("cpu")) is timing.Timer
    assert type(timing.Timer.of("cuda")) is timing.EventTimer
    assert timing.Timer.of("cuda").synchronize is torch.cuda.synchronize


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
