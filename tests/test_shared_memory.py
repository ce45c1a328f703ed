"""Parameters, gradients and state that share memory: what torch's loop over parameters does, in every executor."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cases import CLASSES, SWITCHES, TWINS, executors_of
from steepest.executors.memory import Memory, waves

NAMES = ["sgd", "adam", "adamw", "rmsprop", "adagrad", "nadam", "adadelta"]
every_pair = pytest.mark.parametrize("name", NAMES)
every_way = pytest.mark.parametrize("executor", ["default", "reference", "foreach", "native"])

Params = list[torch.nn.Parameter]


def tied_by_data(x: torch.Tensor) -> Params:
    params = [torch.nn.Parameter(x), torch.nn.Parameter(torch.zeros_like(x))]
    params[1].data = params[0].data
    return params


def overlapping_views(x: torch.Tensor) -> Params:
    return [torch.nn.Parameter(x[:3000]), torch.nn.Parameter(x[1000:]), torch.nn.Parameter(torch.ones(3))]


def interleaved_views(x: torch.Tensor) -> Params:
    return [torch.nn.Parameter(x[::2]), torch.nn.Parameter(x[1::2])]


def apart(x: torch.Tensor) -> Params:
    return [torch.nn.Parameter(x), torch.nn.Parameter(torch.ones(300))]


def trained(cls: Any, make: Any, spoil: Any = None, **options: Any) -> tuple[Any, Params]:
    params = make(torch.randn(5000, generator=torch.Generator().manual_seed(0)))
    optimizer = cls(params, lr=0.1, **options)
    for step in range(4):
        source = torch.Generator().manual_seed(step + 1)
        for p in params:
            p.grad = torch.randn(p.shape, generator=source)
        if spoil is not None:
            spoil(params, step)
        optimizer.step()
    return optimizer, params


def agree(name: str, executor: str, make: Any, spoil: Any = None) -> None:
    ours, params = trained(CLASSES[name], make, spoil, **SWITCHES.get(executor, {}))
    _, others = trained(TWINS[name][1], make, spoil, foreach=False)
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=3e-6, atol=3e-6)
    assert ours.executor == ("native" if executor == "default" else executor)


@pytest.mark.thin("name", "executor")
@every_pair
@every_way
@pytest.mark.parametrize("make", [tied_by_data, overlapping_views, interleaved_views])
def test_parameters_that_share_memory_are_stepped_one_after_the_other(name: str, executor: str, make: Any) -> None:
    agree(name, executor, make)


def tie_late(params: Params, step: int) -> None:
    if step == 2:
        params[1].data = params[0].data[:300]


@every_pair
@every_way
def test_memory_that_is_shared_from_a_later_step_on(name: str, executor: str) -> None:
    agree(name, executor, apart, tie_late)


def own_values(params: Params, step: int) -> None:
    params[0].grad = params[0].detach()


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "adagrad", "adadelta"])
@every_way
def test_a_gradient_that_is_the_parameter(name: str, executor: str) -> None:
    agree(name, executor, apart, own_values)


@every_way
def test_a_gradient_in_another_parameters_memory_is_read_as_it_was_before_the_step(executor: str) -> None:
    def borrowed(params: Params, step: int) -> None:
        params[1].grad = params[0].detach()[:300]

    def copied(params: Params, step: int) -> None:
        params[1].grad = params[0].detach()[:300].clone()

    options = SWITCHES.get(executor, {})
    _, params = trained(CLASSES["adamw"], apart, borrowed, **options)
    _, others = trained(CLASSES["adamw"], apart, copied, **options)
    assert all(map(torch.equal, params, others))


@every_way
@pytest.mark.parametrize("name", ["sgd", "adamw", "nadam"])
def test_a_parameter_twice_in_a_group_steps_twice(name: str, executor: str) -> None:
    results = []
    for cls, options in ((CLASSES[name], SWITCHES.get(executor, {})), (TWINS[name][1], {"foreach": False})):
        p = torch.nn.Parameter(torch.ones(50))
        with pytest.warns(UserWarning, match="duplicate parameters"):
            optimizer = cls([p, p], lr=0.1, **options)
        for step in range(3):
            p.grad = torch.full_like(p, 0.5 + step)
            optimizer.step()
        results.append((p.detach(), optimizer.state[p].get("step", torch.zeros(()))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=3e-6, atol=3e-6)


def test_every_element_is_updated_twice_on_many_threads() -> None:
    """The first element of a block lost updates where two threads met; see `list_written` in launch.c."""
    x = torch.zeros(140_000)
    params = [torch.nn.Parameter(x), torch.nn.Parameter(x)]
    optimizer = CLASSES["sgd"](params, lr=1.0, fused=True)
    for _ in range(3):
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
    assert (x == -6).all()


def test_waves_keep_the_order_of_what_meets() -> None:
    x = torch.zeros(100)
    a, b, c, d = x[:50], x[40:70], x[60:], torch.zeros(3)
    assert waves([[a], [b], [c], [d]]) == [[0, 3], [1], [2]]
    assert waves([[c], [a], [d]]) == [[0, 1, 2]]
    assert waves([]) == []
    assert waves([[torch.zeros(0)], [torch.empty(3, device="meta")], [1, None]]) == [[0, 1, 2]]


def test_memory_knows_what_lies_in_it() -> None:
    x = torch.zeros(100)
    memory = Memory([x[10:20], x[15:30], x[50:60]])
    inside = [memory.holds(x[i : i + 1]) for i in range(100)]
    assert [i for i, held in enumerate(inside) if held] == [*range(10, 30), *range(50, 60)]
    assert memory.holds(x[25:55])
    assert not memory.holds(torch.zeros(100))
    assert not memory.holds(x[12:12])


assert all({"reference", "foreach", "native"} <= set(executors_of(CLASSES[name])) for name in NAMES)


def columns_of_a_square(x: torch.Tensor) -> Params:
    return [torch.nn.Parameter(y) for y in (x[:3000], x[1000:4000:2], x.view(50, 100)[:, 3], x[2000:])]


@every_pair
@every_way
def test_parameters_with_gaps_that_lie_in_other_parameters(name: str, executor: str) -> None:
    """They are copied for a kernel: when their turn has come, not before those that they share memory with."""
    agree(name, executor, columns_of_a_square)


@pytest.mark.parametrize("fused", [None, True])
def test_a_parameter_that_becomes_a_conjugate_view(fused: bool | None) -> None:
    """It lies where it lay, so its address does not tell."""
    w = torch.nn.Parameter(torch.randn(4, dtype=torch.complex64))
    optimizer = CLASSES["sgd"]([w], lr=0.1, fused=fused)
    w.grad = torch.ones_like(w)
    optimizer.step()
    w.data = w.data.conj()
    w.grad = torch.full_like(w, 1j)
    before = w.detach().clone()
    with pytest.raises(RuntimeError, match="conjugate"):
        optimizer.step()
    assert torch.equal(w.detach(), before)
