"""A group's figures follow from its samples."""

from __future__ import annotations

import pytest

from steepest.bench import lane as lanes
from steepest.bench.group import MEMORY, Entry, Group, run_group
from steepest.bench.implementations import Implementation
from steepest.bench.timing import Timer

from .support import TINY, Clock, implementation


def entry(source: str, mode: str, *samples: float, moved: int = 100) -> Entry:
    return Entry(source, mode, samples=samples, moved_bytes=moved)


GROUP = Group(
    "tiny",
    "SGD",
    3,
    (
        entry("steepest", "default", 1.0, 2.0, 3.0, moved=100),
        entry("torch", "loop", 8.0, 8.0, 80.0),
        entry("torch", "fused", 3.0, 6.0, 6.0),
        entry(MEMORY, "in-place add", 1.0, 1.0, 1.0, moved=80),
        Entry("steepest", "fused", unavailable="RuntimeError: none"),
    ),
)


def test_the_ratio_is_to_torchs_best_median() -> None:
    ours, loop, fused, add, absent = GROUP.entries
    assert GROUP.torchs_best is fused
    assert [GROUP.ratio(e) for e in (ours, loop, fused, add)] == [3.0, 0.75, 1.0, None]
    assert absent not in GROUP.measured


def test_the_bandwidth_is_compared_with_the_in_place_adds() -> None:
    assert GROUP.entries[0].bytes_per_second == 50
    assert GROUP.of_add(GROUP.entries[0]) == 50 / 80


def test_quartiles() -> None:
    assert entry("torch", "loop", 1.0, 2.0, 3.0, 4.0, 5.0).quartiles == (2.0, 3.0, 4.0)
    assert entry("torch", "loop", 7.0).quartiles == (7.0, 7.0, 7.0)


def test_without_torch_there_is_no_ratio() -> None:
    group = Group("tiny", "NAG", 1, tuple(e for e in GROUP.entries if e.source != "torch"))
    assert group.ratio(group.entries[0]) is None
    assert group.has_own
    assert not Group("tiny", "NAG", 1, (GROUP.entries[-1],)).has_own


def test_a_group_holds_everyone_who_could_run_and_everyone_who_could_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def broken(params: object) -> None:
        raise RuntimeError("no such kernel")

    taking_part = [
        implementation("steepest", "default", clock, 0.5),
        Implementation("steepest", "fused", broken),  # type: ignore[arg-type]
        implementation("torch", "loop", clock, 2.0),
    ]
    # By this clock the in-place add takes no time at all, so that no speed could be told: let a step of it take some.
    add = lanes.in_place_add
    monkeypatch.setattr(lanes, "in_place_add", lambda params, timer: slowed(add(params, Timer()), clock))
    group = run_group(TINY, "SGD", taking_part, 3, clock.timer, "cpu")
    assert [e.name for e in group.measured] == ["steepest default", "torch loop", "in-place add"]
    assert [e.samples for e in group.measured[:2]] == [(0.5,) * 3, (2.0,) * 3]
    assert group.ratio(group.measured[0]) == 4.0
    assert [(e.name, e.unavailable) for e in group.entries if e.unavailable] == [
        ("steepest fused", "RuntimeError: no such kernel")
    ]


def slowed(add: lanes.Lane, clock: Clock) -> lanes.Lane:
    add.step, add.steps = clock.takes(0.25), 1
    return add
