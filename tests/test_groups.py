"""Parameter groups, and parameters without a gradient."""

from __future__ import annotations

import pytest
import torch

from cases import (
    SEPARATE,
    SWITCHES,
    alternatives,
    decaying,
    every_executor,
    every_planned_class,
    every_separate_class,
    hyperparameters,
    is_valid,
    same,
    snapshot,
)
from shell import (
    assert_equal,
    give_all,
    tensors,
)
from steepest import Optimizer, registry


@pytest.mark.thin("structure", "executor")
@every_separate_class
@every_executor
def test_groups_have_their_own_options(cls: type[Optimizer], executor: str) -> None:
    """Two groups are two optimizers."""
    for name, field in hyperparameters(cls).items():
        value = alternatives(field)[0]
        if not is_valid(cls, {name: value}):
            continue
        params, alone, other = tensors(), tensors(), tensors()
        switch = SWITCHES[executor]
        together = cls([{"params": params[:1]}, {"params": params[1:], name: value}], **switch)
        first, second = cls(alone[:1], **switch), cls(other[1:], **{name: value}, **switch)
        for _ in range(3):
            give_all([params, alone, other])
            for optimizer in (together, first, second):
                optimizer.step()
        assert_equal(params, [*alone[:1], *other[1:]])


@pytest.mark.thin("structure", "executor")
@every_separate_class
@every_executor
def test_a_group_added_late_starts_at_its_first_step(cls: type[Optimizer], executor: str) -> None:
    params, alone = tensors(), tensors()
    optimizer = cls(params[:1], **SWITCHES[executor])
    give_all([params, alone])
    optimizer.step()
    optimizer.step()
    optimizer.add_param_group({"params": params[1:]})
    optimizer.step()
    fresh = cls(alone[1:], **SWITCHES[executor])
    fresh.step()
    assert_equal(params[1:], alone[1:])


@pytest.mark.thin("structure", "executor")
@every_separate_class
@every_executor
def test_frozen_parameters_rest_and_count_their_own_steps(cls: type[Optimizer], executor: str) -> None:
    """Each parameter ends where an optimizer of its own would have taken it."""
    together, alone = tensors(), tensors()
    optimizer = cls(together, ema_decay=0.5, **SWITCHES[executor])
    singles = [cls([p], ema_decay=0.5, **SWITCHES[executor]) for p in alone]
    awake = [(0, 1, 2), (0,), (0, 2), (1, 2), (), (0, 1, 2), (0, 1, 2), (2,), (0, 1, 2)]
    for seed, active in enumerate(awake):
        give_all([together, alone], seed)
        for index in range(3):
            if index not in active:
                together[index].grad = alone[index].grad = None
        optimizer.step()
        for single in singles:
            single.step()
    assert_equal(together, alone)
    for (_, held), single in zip(snapshot(optimizer), singles, strict=True):
        ((_, other),) = snapshot(single)
        assert list(held) == list(other)
        assert all(same(held[name], other[name]) for name in held)


@every_planned_class
def test_a_parameter_without_gradient_is_untouched(cls: type[Optimizer]) -> None:
    params = tensors()
    optimizer = cls(params, **decaying(cls))
    give_all([params])
    params[1].grad = None
    before = params[1].detach().clone()
    optimizer.step()
    assert same(params[1], before)
    assert not {k for k in optimizer.state.get(params[1], {}) if k != "ema"} - at_construction(cls)


def at_construction(cls: type[Optimizer]) -> set[str]:
    return {s.name for s in cls.rule.state if s.at_construction}


@pytest.mark.thin("structure", "executor")
@every_planned_class
@every_executor
def test_two_optimizers_may_share_a_gradient(cls: type[Optimizer], executor: str) -> None:
    """Nobody writes to `.grad`, so the second optimizer sees what the first saw."""
    params, others = tensors(), tensors(seed=9)
    give_all([params])
    before = [p.grad.clone() for p in params]
    for p, q in zip(params, others, strict=True):
        q.grad = p.grad
    cls(params, **decaying(cls), **SWITCHES[executor]).step()
    cls(others, **decaying(cls), maximize=True, **SWITCHES[executor]).step()
    assert_equal([p.grad for p in params], before)


def test_parameters_of_several_types_in_one_group() -> None:
    """Each keeps its type and is stepped as if alone."""
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.float32]
    for cls in SEPARATE.values():
        own = [d for d in dtypes if not (d.is_complex and cls.rule.is_real)]
        mixed, alone = ([torch.nn.Parameter(torch.full((2, 1), 0.5, dtype=d)) for d in own] for _ in range(2))
        optimizer, singles = cls(mixed), [cls([p]) for p in alone]
        for _ in range(2):
            for p in (*mixed, *alone):
                p.grad = torch.full_like(p, 0.25)
            optimizer.step()
            for single in singles:
                single.step()
        assert_equal(mixed, alone)


@pytest.mark.parametrize("name", ["sgd", "adam", "muon"])
def test_an_empty_first_group_has_an_executor(name: str) -> None:
    """torch takes empty groups; what would run one is that of the class."""
    cls = registry.find(name)
    w = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = cls([{"params": []}, {"params": [w]}])
    assert optimizer.executor == cls([w]).executor
    w.grad = torch.ones(2, 2)
    optimizer.step()
    assert w.ne(1).all()
