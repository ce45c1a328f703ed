"""State dicts through files, and copies: a run goes on bit by bit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cases import (
    Options,
    alternatives,
    assert_same,
    every_class,
    every_executor,
    hyperparameters,
    is_valid,
    snapshot,
    through_file,
    train,
)
from shell import (
    assert_equal,
    moved,
    shown,
    tensors,
)
from steepest import Optimizer


def everything(cls: type[Optimizer]) -> Options:
    options: Options = {}
    for name, field in hyperparameters(cls).items():
        if is_valid(cls, {**options, name: alternatives(field)[0]}):
            options[name] = alternatives(field)[0]
    return options


def saved(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Through a file, as a user's checkpoint goes."""
    loaded: dict[str, Any] = through_file(optimizer.state_dict())
    return loaded


DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.thin("structure", "executor")
@every_class
@every_executor
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [lambda cls: {}, everything], ids=["defaults", "everything"])
def test_save_load_continue_is_bitwise(
    cls: type[Optimizer], executor: str, dtype: torch.dtype, options: Callable[[Any], Options]
) -> None:
    optimizer = cls(tensors(dtype), **options(cls), **shown(executor, cls))
    train(optimizer, 4)
    fresh = cls([torch.nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]])
    fresh.load_state_dict(saved(optimizer))
    assert_same(snapshot(fresh), snapshot(optimizer))
    train(optimizer, 4)
    train(fresh, 4)
    assert_same(snapshot(fresh), snapshot(optimizer))


@every_class
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("options", [lambda cls: {}, everything], ids=["defaults", "everything"])
def test_copies_continue_bitwise_and_share_nothing(
    cls: type[Optimizer], copied: Callable[[Any], Any], options: Callable[[Any], Options]
) -> None:
    optimizer = cls(tensors(), **options(cls))
    train(optimizer, 3)
    twin = copied(optimizer)
    kept = snapshot(twin)
    train(optimizer, 3)
    assert_same(snapshot(twin), kept)
    train(twin, 3)
    assert_same(snapshot(twin), snapshot(optimizer))
    assert repr(twin) == repr(optimizer)
    assert twin.executor == optimizer.executor


@every_class
def test_loading_shares_nothing_with_the_checkpoint(cls: type[Optimizer]) -> None:
    optimizer, other = cls(tensors(), **everything(cls)), cls(tensors(), **everything(cls))
    train(optimizer, 2)
    other.load_state_dict(optimizer.state_dict())
    kept = snapshot(optimizer)
    train(other, 2)
    assert_same(snapshot(optimizer), kept)


@every_class
def test_a_checkpoint_before_the_first_step_is_a_fresh_start(cls: type[Optimizer]) -> None:
    optimizer, fresh = cls(tensors()), cls(tensors())
    fresh.load_state_dict(saved(optimizer))
    assert_equal(moved(optimizer, 2), moved(fresh, 2))


@every_class
def test_named_parameters(cls: type[Optimizer]) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False), torch.nn.Linear(2, 1, bias=False))
    optimizer = cls(module.named_parameters())
    train(optimizer, 2)
    assert optimizer.param_groups[0]["param_names"] == ["0.weight", "1.weight"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["0.weight", "1.weight"]


@every_class
def test_a_checkpoint_of_another_shape_is_refused_in_torchs_words(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors())
    checkpoint = cls(tensors()[:2]).state_dict()
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        optimizer.load_state_dict(checkpoint)
