"""Numbers and switches that change between steps: by an edit of the group, as a tensor, or turned on late."""

from __future__ import annotations

import copy
import inspect
import re
from typing import Any

import pytest
import torch

import steepest
from cases import (
    BRANCHING,
    PLANNED,
    SWITCHES,
    Options,
    alternatives,
    every_executor,
    every_planned_class,
    every_pointwise_executor,
    hyperparameters,
    is_valid,
    kept_numbers,
    same,
    snapshot,
    train,
)
from shell import (
    assert_equal,
    makes_state,
    moved,
    reshapes_state,
    tensors,
)
from steepest import Optimizer


@pytest.mark.thin("kind", "executor")
@every_planned_class
@every_executor
def test_every_number_edited_in_the_group_acts_on_the_next_step(cls: type[Optimizer], executor: str) -> None:
    """After the edit the step is the one of an optimizer that has that value and the same state."""
    for name, field in hyperparameters(cls).items():
        for value in alternatives(field):
            is_left_out = makes_state(cls, name, value) or reshapes_state(cls, name, value)
            if is_valid(cls, {name: value}) and not is_left_out:
                check_edit(cls, name, value, executor)


def check_edit(cls: type[Optimizer], name: str, value: Any, executor: str) -> None:
    optimizer = cls(tensors(), **SWITCHES[executor])
    train(optimizer, 3)
    other = cls([torch.nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]], **{name: value})
    other.param_groups[0].update(SWITCHES[executor])
    settled = {n for n, f in cls.fields.items() if f.default_from} - {name}  # by the lr that the group was made with
    other.param_groups[0].update({n: optimizer.param_groups[0][n] for n in settled})
    other.param_groups[0].update(kept_numbers(optimizer)[0])
    for p, q in zip(optimizer.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        if p in optimizer.state:
            other.state[q] = copy.deepcopy(optimizer.state[p])
    optimizer.param_groups[0][name] = value
    assert_equal(moved(optimizer, 3), moved(other, 3))


def switchable() -> list[Any]:
    """Options that bring state of their own, and can be turned on after training has begun."""
    return [
        pytest.param(cls, name, value, id=f"{cls.__name__}-{name}")
        for cls in PLANNED.values()
        for name, field in hyperparameters(cls).items()
        for value in alternatives(field)
        if is_valid(cls, {name: value}) and makes_state(cls, name, value)
    ]


@every_executor
@pytest.mark.parametrize(("cls", "name", "value"), switchable())
def test_options_turned_on_later_make_their_state_then(
    cls: type[Optimizer], name: str, value: Any, executor: str
) -> None:
    """torch raises a KeyError for most of them. What was there before goes on as it was."""
    optimizer, plain = (cls(tensors(), **SWITCHES[executor]) for _ in range(2))
    train(optimizer, 2)
    train(plain, 2)
    optimizer.param_groups[0][name] = value
    train(optimizer, 1)
    train(plain, 1)
    group = optimizer.param_groups[0]
    for (p, held), (_, before) in zip(snapshot(optimizer), snapshot(plain), strict=True):
        wanted = [s.name for s in cls.rule_for(group, p).state if s.when(group)]
        assert set(wanted) == set(wanted) & set(held)
        is_apart = cls not in BRANCHING.values()  # kl of SOAP changes what is averaged
        assert not is_apart or all(same(held[k], before[k]) for k in before if k in wanted)
    optimizer.param_groups[0][name] = cls.fields[name].default
    train(optimizer, 1)


@pytest.mark.thin("structure", "executor")
@every_planned_class
@every_executor
@pytest.mark.parametrize("options", ["defaults", "everything"])
def test_averaging_turned_on_later_leaves_the_rule_alone(cls: type[Optimizer], executor: str, options: str) -> None:
    given: Options = {}
    for name, field in hyperparameters(cls).items():
        if options == "everything" and name != "ema_decay" and is_valid(cls, {**given, name: alternatives(field)[0]}):
            given[name] = alternatives(field)[0]
    averaging, plain = (cls(tensors(), **given, **SWITCHES[executor]) for _ in range(2))
    for optimizer in (averaging, plain):
        train(optimizer, 2)
    averaging.param_groups[0]["ema_decay"] = 0.5
    assert_equal(moved(averaging, 3), moved(plain, 3))
    for (_, held), (_, other) in zip(snapshot(averaging), snapshot(plain), strict=True):
        assert held.pop("ema") is not None
        assert all(same(held[k], other[k]) for k in other)


@pytest.mark.thin("structure", "executor")
@every_planned_class
@every_executor
def test_a_tensor_learning_rate(cls: type[Optimizer], executor: str) -> None:
    """It acts as its number does, also after it was filled with another; where torch's class refuses it, so do we."""
    rate = torch.tensor(0.05, dtype=torch.float64)
    switch = SWITCHES[executor]
    if (message := torchs_refusal(cls, lr=rate, **{k: v for k, v in switch.items() if k != "fused"})) is not None:
        with pytest.raises(ValueError, match=re.escape(message)):
            cls(tensors(), lr=rate, **switch)
        return
    optimizer, plain = cls(tensors(), lr=rate, **switch), cls(tensors(), lr=0.05, **switch)
    assert_equal(moved(optimizer, 2), moved(plain, 2))
    rate.fill_(0.125)
    plain.param_groups[0]["lr"] = 0.125
    assert_equal(moved(optimizer, 2), moved(plain, 2))
    assert rate.item() == 0.125


def torchs_refusal(cls: type[Optimizer], **options: Any) -> str | None:
    """The words in which torch's class of the same name refuses the options at construction."""
    twin = getattr(torch.optim, cls.__name__, None)
    if twin is None:
        return None
    known = inspect.signature(twin).parameters
    try:
        twin([torch.ones(2, 2)], **{name: value for name, value in options.items() if name in known})
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("cls", [steepest.Adam, steepest.AdamW], ids=["Adam", "AdamW"])
@pytest.mark.parametrize("second", [0.99, torch.tensor(0.99)], ids=["one", "both"])
def test_tensor_betas_are_refused_as_torch_refuses_them(cls: type[Optimizer], second: Any) -> None:
    betas = torch.tensor(0.9), second
    message = torchs_refusal(cls, betas=betas, foreach=True)
    assert message is not None
    with pytest.raises(ValueError, match=re.escape(message)):
        cls(tensors(), betas=betas, foreach=True)


@every_pointwise_executor
def test_tensor_betas_act_as_numbers(executor: str) -> None:
    tensor_betas = torch.tensor(0.8, dtype=torch.float64), torch.tensor([0.9], dtype=torch.float64)
    switch = {} if executor == "foreach" else SWITCHES[executor]
    optimizer, plain = (steepest.Adam(tensors(), betas=betas, **switch) for betas in (tensor_betas, (0.8, 0.9)))
    assert_equal(moved(optimizer, 2), moved(plain, 2))


@every_pointwise_executor
def test_a_list_that_is_written_in_place_acts_on_the_next_step(executor: str) -> None:
    edited, plain = (steepest.Adam(tensors(), **SWITCHES[executor]) for _ in range(2))
    edited.param_groups[0]["betas"] = betas = [0.9, 0.999]
    assert_equal(moved(edited, 3), moved(plain, 3))
    edited.param_groups[0]["betas"] = betas
    for optimizer in (edited, plain):
        train(optimizer, 2)
    betas[0] = 0.5
    plain.param_groups[0]["betas"] = (0.5, 0.999)
    assert_equal(moved(edited, 2), moved(plain, 2))


@every_pointwise_executor
def test_an_edit_that_a_step_refused_is_refused_again_and_can_be_taken_back(executor: str) -> None:
    edited, plain = (steepest.Adam(tensors(), **SWITCHES[executor]) for _ in range(2))
    for optimizer in (edited, plain):
        train(optimizer, 3)
    edited.param_groups[0]["parameter_rounding"] = "kahan"
    for _ in range(2):
        with pytest.raises(ValueError, match="float32"):
            train(edited, 1)
    edited.param_groups[0]["parameter_rounding"] = None
    assert_equal(moved(edited, 2), moved(plain, 2))


@every_planned_class
def test_keys_that_are_no_fields_do_nothing(cls: type[Optimizer]) -> None:
    """A recipe that puts weight_decay into every group may meet a class that has none; torch's ignores it."""
    foreign = {name: 0.5 for name in ("weight_decay", "maximize") if name not in cls.fields}
    optimizer, plain = (cls([{"params": tensors(), **extra}]) for extra in (foreign, {}))
    assert_equal(moved(optimizer, 2), moved(plain, 2))
    assert foreign.items() <= optimizer.param_groups[0].items()
