"""An implementation is let in only if its step does a step's work, and leaves the others' gradients alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from steepest import registry
from steepest.bench import lane as lanes
from steepest.bench.implementations import Implementation, implementations
from steepest.bench.lane import UnavailableError, prepare

from .support import TINY, Clock, implementation

ELEMENTS = 6 + 5


def of(does: Any = None, seconds: float = 1.0) -> tuple[Clock, Implementation]:
    clock = Clock()
    return clock, implementation("torch", "loop", clock, seconds, does)


def take_gradients_away(params: list[torch.nn.Parameter]) -> None:
    for p in params:
        p.grad = None


def halve_gradients(params: list[torch.nn.Parameter]) -> None:
    for p in params:
        assert p.grad is not None
        p.grad.mul_(0.5)


def raise_two_lines(params: list[torch.nn.Parameter]) -> None:
    raise ZeroDivisionError("first line\nsecond line")


@pytest.mark.parametrize(
    ("recipe", "bytes_per_element"),
    [("sgd", 12), ("sgd[momentum=0.9]", 20), ("adam", 28), ("adam[amsgrad=true]", 36), ("adadelta", 28)],
)
def test_the_bytes_are_those_of_the_real_state(recipe: str, bytes_per_element: int) -> None:
    # p and each state of its size are read and written, the gradient is read: 4 bytes each time.
    (loop, *_) = implementations(registry.parse(recipe), ["loop"], peers=False)
    ready = prepare(loop, TINY.parameters("cpu"), lanes.Timer())
    counters = ready.moved_bytes - ELEMENTS * bytes_per_element
    assert counters in (0, 2 * 2 * 4)  # two parameters' step counts, read and written
    assert ready.executor == "reference"


def test_the_bytes_follow_the_dtype() -> None:
    params = [torch.nn.Parameter(torch.ones(10, dtype=torch.float64))]
    params[0].grad = torch.ones(10, dtype=torch.float64)
    (loop, *_) = implementations(registry.parse("sgd[momentum=0.9]"), ["loop"], peers=False)
    assert prepare(loop, params, lanes.Timer()).moved_bytes == 10 * 8 * 5


def test_tensors_are_found_however_deep_and_counted_once() -> None:
    x = torch.ones(3)
    held = {"p": {0: {"a": x, "b": {"again": x}}, "list": [torch.ones(2)], "flag": True}}
    assert lanes.nbytes(lanes.tensors(held)) == 4 * (3 + 2)


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (take_gradients_away, "its step takes the gradients away"),
        (raise_two_lines, "ZeroDivisionError: first line$"),
    ],
)
def test_a_step_that_does_no_work_is_no_contestant(does: Any, reason: str) -> None:
    clock, slow = of(does)
    params = TINY.parameters("cpu")
    gradients = [p.grad for p in params]
    with pytest.raises(UnavailableError, match=reason):
        prepare(slow, params, clock.timer)
    assert all(p.grad is g for p, g in zip(params, gradients, strict=True))


def test_a_step_that_changes_nothing_is_no_contestant() -> None:
    still = Implementation("torch", "loop", lambda params: torch.optim.SGD(params, lr=0.0))
    with pytest.raises(UnavailableError, match="its step leaves the parameters as they are, 8 times"):
        prepare(still, TINY.parameters("cpu"), lanes.Timer())


@pytest.mark.parametrize(("waits", "admitted"), [(lanes.PATIENCE - 1, True), (lanes.PATIENCE, False)])
def test_a_rule_may_wait_for_a_few_steps(waits: int, admitted: bool) -> None:
    class Late(torch.optim.SGD):
        taken = 0

        def step(self, closure: Any = None) -> None:
            self.taken += 1
            if self.taken > waits:
                super().step()

    late = Implementation("torch", "loop", Late)
    if admitted:
        assert prepare(late, TINY.parameters("cpu"), lanes.Timer()).steps >= 1
    else:
        with pytest.raises(UnavailableError):
            prepare(late, TINY.parameters("cpu"), lanes.Timer())


def test_without_memory_nobody_more_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slow = of()
    needed = lanes.ROOM * ELEMENTS * 4
    monkeypatch.setattr(lanes, "available_bytes", lambda device: needed)
    prepare(slow, TINY.parameters("cpu"), clock.timer)
    monkeypatch.setattr(lanes, "available_bytes", lambda device: needed - 1)
    with pytest.raises(UnavailableError, match="GiB of memory are left"):
        prepare(slow, TINY.parameters("cpu"), clock.timer)


def test_whoever_changes_gradients_gets_copies() -> None:
    clock, slow = of(halve_gradients)
    params = TINY.parameters("cpu")
    expected = [p.grad.clone() for p in params if p.grad is not None]
    ready = prepare(slow, params, clock.timer)
    assert ready.writes_gradients
    assert ready.sample(clock.timer) == 1.0
    assert all(torch.equal(p.grad, g) for p, g in zip(params, expected, strict=True))  # type: ignore[arg-type]
    polite = prepare(of()[1], params, lanes.Timer())
    assert not polite.writes_gradients


def test_a_sample_is_seconds_per_step() -> None:
    clock, slow = of(seconds=2.6e-3)
    ready = prepare(slow, TINY.parameters("cpu"), clock.timer)
    assert ready.steps == 4
    assert ready.sample(clock.timer) == pytest.approx(2.6e-3)


def test_on_a_device_the_in_place_add_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    add = torch._foreach_add_
    monkeypatch.setattr(
        torch, "_foreach_add_", lambda tensors, number: (calls.append(len(tensors)), add(tensors, number))
    )
    params = [torch.nn.Parameter(torch.zeros(4, device="meta")) for _ in range(3)]
    lane = lanes.in_place_add(params, lanes.Timer())
    calls.clear()
    lane.step()
    assert calls == [3]
    assert lane.moved_bytes == 3 * 2 * 4 * 4


def test_the_in_place_add_comes_back_to_where_it_began() -> None:
    params = [torch.nn.Parameter(torch.zeros(4))]
    add = lanes.in_place_add(params, lanes.Timer())
    assert add.moved_bytes == 2 * 4 * 4
    before = params[0].sum().item()
    add.step()
    assert abs(params[0].sum().item() - before) == 4
    add.step()
    assert params[0].sum().item() == before
