"""What an optimizer keeps, and for how long; what others do to parameters and state between steps."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import NATIVE, assert_same, buckets_of, every_native_class, snapshot
from steepest import SGD, AdamW, NovoGrad, Optimizer

from .support import drawn, parameters, ran_native, stepped

SHAPES = [(3, 4), (5,), ()]


# -- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strided", [False, True], ids=["as-they-lie", "copied"])
@pytest.mark.parametrize("cls", [AdamW, NovoGrad], ids=lambda cls: cls.__name__)
def test_gradients_are_let_go_after_the_step(cls: type[Optimizer], strided: bool) -> None:
    p = torch.nn.Parameter(torch.ones(4, 6)[:, ::2] if strided else torch.ones(4, 3))
    optimizer = cls([p], fused=True)
    for _ in range(3):
        p.grad = torch.ones(4, 3)
        held = weakref.ref(p.grad)
        with ran_native(optimizer):
            optimizer.step()
        optimizer.zero_grad()
        assert held() is None


def test_gradients_are_let_go_by_a_step_that_refuses() -> None:
    (p,) = parameters([(3,)])
    optimizer = AdamW([p], fused=True)
    stepped(optimizer, 2)
    optimizer.state[p]["exp_avg"] = torch.zeros(4)
    held = weakref.ref(p.grad)
    with pytest.raises(RuntimeError):
        optimizer.step()
    p.grad = None
    assert held() is None


def test_an_optimizer_and_its_state_go_with_its_last_reference() -> None:
    """Without waiting for the collector of cycles: state is twice the size of the model."""
    params = parameters(SHAPES)
    optimizer = AdamW(params, fused=True)
    stepped(optimizer, 3)
    held = [weakref.ref(x) for state in optimizer.state.values() for x in state.values()]
    buckets = weakref.ref(buckets_of(optimizer)[0])
    gc.disable()
    try:
        del optimizer
        assert buckets() is None
        assert [ref() for ref in held] == [None] * len(held)
    finally:
        gc.enable()
    models = [weakref.ref(p) for p in params]
    del params
    assert [ref() for ref in models] == [None] * len(models)


def test_old_state_goes_when_new_state_is_put_in_place() -> None:
    optimizer = AdamW(parameters([(3,)]), fused=True)
    stepped(optimizer, 3)
    (held,) = optimizer.state.values()
    old = weakref.ref(held["exp_avg"])
    held["exp_avg"] = torch.zeros(3)
    optimizer.step()
    assert old() is None


def resident() -> int:
    """Pages of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc/self/statm")
@pytest.mark.parametrize("strided", [False, True], ids=["as-they-lie", "copied"])
def test_two_thousand_steps_need_no_more_memory(strided: bool) -> None:
    """A leak of one gradient (80 KB) or one Python object per tensor (over 1.6 MB) and step would show."""
    params = parameters([(200, 100)] + [(3,)] * 20)
    if strided:
        params[0] = torch.nn.Parameter(torch.ones(200, 200)[:, ::2])
    optimizer = AdamW(params, fused=True)

    def train(steps: int) -> None:
        for _ in range(steps):
            for p in params:
                p.grad = torch.ones(p.shape)
            optimizer.step()

    train(200)
    before = resident()
    train(2000)
    assert (resident() - before) * 4096 < 1_000_000


# -- versions -------------------------------------------------------------------------------------------------------


@every_native_class
def test_versions_grow_where_a_step_writes_and_nowhere_else(cls: type[Optimizer]) -> None:
    optimizer = cls(params := parameters(SHAPES), fused=True)
    stepped(optimizer, 2)
    state = [x for held in optimizer.state.values() for x in held.values()]
    grads = [p.grad for p in params]
    before = [x._version for x in (*params, *state)]
    pinned = [g._version for g in grads]
    with ran_native(optimizer):
        optimizer.step()
    assert [x._version > version for x, version in zip((*params, *state), before, strict=True)] == [True] * len(before)
    assert [g._version for g in grads] == pinned


def saved_by_product(p: Tensor) -> Tensor:
    return (p * p).sum()


def saved_by_view(p: Tensor) -> Tensor:
    return (p[1:] ** 3).sum()


@pytest.mark.parametrize("loss", [saved_by_product, saved_by_view])
@pytest.mark.parametrize("strided", [False, True], ids=["as-they-lie", "copied"])
def test_a_backward_through_what_a_step_has_overwritten_raises(loss: Callable[[Tensor], Tensor], strided: bool) -> None:
    p = torch.nn.Parameter(torch.ones(4, 6)[:, ::2] if strided else torch.ones(4, 3))
    optimizer = AdamW([p], fused=True)
    for _ in range(3):
        late = loss(p)
        p.grad = torch.ones(4, 3)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            late.backward()


def test_a_backward_through_old_state_raises() -> None:
    (p,) = parameters([(3,)])
    optimizer = AdamW([p], fused=True)
    stepped(optimizer, 2)
    x = torch.ones(3, requires_grad=True)
    late = (x * optimizer.state[p]["exp_avg"]).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        late.backward()


def test_new_state_grows_its_version_too() -> None:
    """What was remembered is not what is there."""
    (p,) = parameters([(3,)])
    optimizer = AdamW([p], fused=True)
    stepped(optimizer, 3)
    optimizer.state[p]["exp_avg"] = new = torch.zeros(3)
    before = new._version
    optimizer.step()
    assert new._version > before
    assert new.any()


def test_state_shares_a_version_counter_and_nothing_else() -> None:
    params = parameters(SHAPES)
    optimizer = AdamW(params, fused=True)
    stepped(optimizer, 2)
    state = [x for held in optimizer.state.values() for x in held.values()]
    versions, versions_of_params = ([x._version for x in tensors] for tensors in (state, params))
    state[0].add_(1)
    assert [x._version for x in state] == [version + 1 for version in versions]
    assert [x._version for x in params] == versions_of_params
    assert len({x.untyped_storage().data_ptr() for x in state}) == len(state)
    assert all(x._base is None and x.is_leaf for x in state)


def test_loaded_state_has_counters_of_its_own_which_grow_too() -> None:
    optimizer = AdamW(params := parameters(SHAPES), fused=True)
    stepped(optimizer, 2)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p in params:
        x = torch.ones(p.shape, requires_grad=True)
        late = (x * optimizer.state[p]["exp_avg"]).sum()
        with ran_native(optimizer):
            optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            late.backward()


def test_state_of_differentiable_steps_shares_nothing() -> None:
    """One step's graph saves state that another parameter's step must not seem to overwrite."""
    params = [torch.ones(size, requires_grad=True).clone() for size in (3, 2)]
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer = AdamW(params, differentiable=True)
    optimizer.step()
    first, second = (optimizer.state[p]["exp_avg"] for p in params)
    before = second._version
    with torch.no_grad():
        first.add_(1)
    assert second._version == before


# -- what others do -------------------------------------------------------------------------------------------------


def fresh_twin(cls: type[Optimizer], params: list[Tensor], optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """A new native optimizer with copies of all that the other has."""
    copies = [torch.nn.Parameter(p.detach().clone()) for p in params]
    for q, p in zip(copies, params, strict=True):
        q.grad = p.grad
    twin = cls(copies, fused=True)
    for q, p in zip(copies, params, strict=True):
        if p in optimizer.state:
            twin.state[q] = {name: value.clone() for name, value in optimizer.state[p].items()}
    return twin


def moved(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    for p in params:
        p.data = p.data.clone() + 1


def resized_and_back(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    old, params[1].data = params[1].data, torch.empty(0)
    params[1].data = old


def swapped_memory(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    params[0].data, params[3].data = params[3].data, params[0].data


def other_layout(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    params[0].data = params[0].data.t().contiguous().t()


def emptied(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    optimizer.state.clear()


def one_emptied(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    optimizer.state[params[1]].clear()


def one_entry_taken(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    del optimizer.state[params[0]]["exp_avg"]


def state_replaced(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    for held in optimizer.state.values():
        held.update({name: value.clone() for name, value in held.items()})


def state_moved(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    for held in optimizer.state.values():
        for value in held.values():
            value.data = value.data.clone()


def state_loaded(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def gradients_moved(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    for p in params:
        p.grad = p.grad * 2


def gradients_of_another_layout(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    params[0].grad = params[0].grad.t().contiguous().t()


CHANGES = [
    moved,
    resized_and_back,
    swapped_memory,
    other_layout,
    emptied,
    one_emptied,
    one_entry_taken,
    state_replaced,
    state_moved,
    state_loaded,
    gradients_moved,
    gradients_of_another_layout,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("cls", [AdamW, NovoGrad], ids=lambda cls: cls.__name__)
def test_the_next_step_is_that_of_a_new_optimizer(cls: type[Optimizer], change: Callable[..., None]) -> None:
    """Whatever is remembered of addresses and layouts, it never outlives what it describes."""
    params = parameters([*SHAPES, (3, 4)])
    optimizer = cls(params, fused=True)
    stepped(optimizer, 3)
    change(optimizer, params)
    twin = fresh_twin(cls, params, optimizer)
    with ran_native(optimizer):
        stepped(optimizer, 2)
    stepped(twin, 2)
    assert_same(snapshot(optimizer), snapshot(twin))


def test_memory_that_was_given_back_is_not_written_to() -> None:
    (p,) = parameters([(1000,)])
    optimizer = AdamW([p], fused=True)
    stepped(optimizer, 2)
    old = p.data
    kept = old.clone()
    p.data = torch.zeros(1000)
    stepped(optimizer)
    assert torch.equal(old, kept)
    assert p.data.any()


def test_a_model_that_changes_its_dtype_keeps_its_state() -> None:
    """As torch does: the state stays float32 until the user casts it."""
    model = torch.nn.Linear(3, 2)
    optimizer = AdamW(model.parameters(), lr=0.1, fused=True)  # a step that bfloat16 does not round away
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float32):
        model.to(dtype)
        optimizer.zero_grad()
        model(torch.ones(1, 3, dtype=dtype)).square().sum().backward()
        before = [p.detach().clone() for p in model.parameters()]
        with ran_native(optimizer):
            stepped(optimizer)
        assert not any(map(torch.equal, before, model.parameters()))
        assert {p.dtype for p in model.parameters()} == {dtype}
        assert {held["exp_avg"].dtype for held in optimizer.state.values()} == {torch.float32}
    assert {held["step"].item() for held in optimizer.state.values()} == {4.0}


def test_float64_parameters_over_float32_state_compute_in_float64() -> None:
    """To 1e-14, where float32 would leave 1e-8; only the state is rounded to its own dtype."""
    optimizers = [AdamW(parameters([(50,)]), lr=0.1, **switch) for switch in ({"fused": True}, {"foreach": False})]
    for optimizer in optimizers:
        stepped(optimizer)
        ((p, held),) = optimizer.state.items()
        held["exp_avg"], held["exp_avg_sq"] = drawn((50,), 4), drawn((50,), 5).abs()
        p.grad, p.data = None, drawn((50,), 6, torch.float64)
        p.grad = drawn((50,), 7, torch.float64)
    (ours,), (theirs,) = map(stepped, optimizers)
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-14)
    ((_, held),), ((_, other),) = map(snapshot, optimizers)
    assert torch.equal(held["exp_avg"], other["exp_avg"])
    assert held["exp_avg_sq"].dtype == torch.float32


def test_frozen_and_thawed_parameters_rest_in_between() -> None:
    params, alone = parameters(SHAPES), parameters(SHAPES)
    optimizer, singles = AdamW(params, fused=True), [AdamW([p], fused=True) for p in alone]
    grads = [p.grad for p in params]
    for active in [(0, 1, 2), (0,), (0,), (1, 2), (), (0, 1, 2), (0, 1, 2), (2,), (0, 1, 2)]:
        for index, g in enumerate(grads):
            params[index].grad = alone[index].grad = g if index in active else None
        optimizer.step()
        for single in singles:
            single.step()
    assert all(map(torch.equal, params, alone))
    assert [optimizer.state[p]["step"].item() for p in params] == [6.0, 5.0, 6.0]


def test_a_group_that_is_added_late_counts_its_own_steps() -> None:
    first, second = parameters([(3,)]), parameters([(3,)])
    optimizer = AdamW(first, lr=0.1, fused=True)
    start = second[0].detach().clone()
    stepped(optimizer, 5)
    optimizer.add_param_group({"params": second, "lr": 0.1})
    stepped(optimizer)
    (alone,) = stepped(AdamW([torch.nn.Parameter(start)], lr=0.1, fused=True), 0)
    fresh = parameters([(3,)])
    assert torch.equal(alone, start)
    stepped(AdamW(fresh, lr=0.1, fused=True))
    assert torch.equal(second[0], fresh[0])
    assert [optimizer.state[p]["step"].item() for p in (*first, *second)] == [6.0, 1.0]


# -- copies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NATIVE)
def test_deep_copies_and_pickles_go_on_bit_by_bit_and_share_nothing(name: str) -> None:
    optimizer = NATIVE[name](parameters(SHAPES), fused=True)
    stepped(optimizer, 3)
    copies: list[Any] = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    grads = [p.grad for p in optimizer.param_groups[0]["params"]]
    before = snapshot(optimizer)
    for other in copies:
        for p, g in zip(other.param_groups[0]["params"], grads, strict=True):
            p.grad = g.clone()
        with ran_native(other):
            stepped(other, 2)
        assert_same(snapshot(optimizer), before)
    stepped(optimizer, 2)
    for other in copies:
        assert_same(snapshot(other), snapshot(optimizer))


def test_a_copy_of_model_and_optimizer_together_stays_together() -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = AdamW(model.parameters(), fused=True)
    model(torch.ones(1, 2)).sum().backward()
    stepped(optimizer, 2)
    other_model, other = copy.deepcopy((model, optimizer))
    other_model.zero_grad()
    other_model(torch.ones(1, 2)).sum().backward()
    kept = model.weight.detach().clone()
    before = other_model.weight.detach().clone()
    stepped(other)
    assert torch.equal(model.weight, kept)
    assert not torch.equal(other_model.weight, before)


def test_steps_under_inference_mode() -> None:
    """State that is made there has no version counter to grow."""
    optimizer, plain = (SGD(parameters([(3,)]), momentum=0.9, fused=True) for _ in range(2))
    with torch.inference_mode():
        stepped(optimizer, 2)
    stepped(plain, 2)
    assert_same(snapshot(optimizer), snapshot(plain))
