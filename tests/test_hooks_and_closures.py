"""Hooks, closures, and what else a torch.optim.Optimizer has."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cases import (
    CLASSES,
    backward,
    every_class,
    every_planned_class,
    loss_of,
    train,
)
from shell import (
    DRIVERS,
    assert_equal,
    give_all,
    tensors,
)
from steepest import Optimizer, fields


@every_class
def test_hooks_run(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors())
    seen: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *args: seen.append(name)

    optimizer.register_step_pre_hook(note("before step"))
    optimizer.register_step_post_hook(note("after step"))
    optimizer.register_state_dict_pre_hook(note("before saving"))
    optimizer.register_state_dict_post_hook(note("after saving"))
    optimizer.register_load_state_dict_pre_hook(note("before loading"))
    optimizer.register_load_state_dict_post_hook(note("after loading"))
    train(optimizer, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    train(optimizer, 1)
    around = ["before step", "after step"]
    assert seen == [*around, "before saving", "after saving", "before loading", "after loading", *around]


@every_class
def test_a_loading_hook_may_replace_the_checkpoint(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors())
    train(optimizer, 1)
    replaced = copy.deepcopy(optimizer.state_dict())
    replaced["param_groups"][0]["lr"] = 0.123
    optimizer.register_load_state_dict_pre_hook(lambda o, given: replaced)
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.123


@every_class
def test_a_closure_runs_with_gradients_on_and_its_loss_is_returned(cls: type[Optimizer]) -> None:
    optimizer = cls(params := tensors())
    losses: list[Tensor] = []

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        losses.append(loss_of(params))
        backward(losses[-1], optimizer)
        return losses[-1]

    with torch.no_grad():
        assert optimizer.step(closure) is losses[0]
    with torch.no_grad():
        wanted = loss_of(params)
    assert optimizer.step(closure) == wanted
    assert not torch.is_inference_mode_enabled()


@every_planned_class
def test_without_a_closure_step_returns_none(cls: type[Optimizer]) -> None:
    params = tensors()
    give_all([params])
    assert cls(params).step() is None


@every_class
def test_zero_grad(cls: type[Optimizer]) -> None:
    params = tensors()
    give_all([params])
    optimizer = cls(params)
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in params)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


@every_class
def test_a_step_without_any_gradient_does_nothing(cls: type[Optimizer]) -> None:
    optimizer = cls(params := tensors())
    before = [p.detach().clone() for p in params]
    optimizer.step(lambda: 0.0)
    assert_equal(params, before)


@every_class
def test_repr_lists_every_option(cls: type[Optimizer]) -> None:
    text = repr(cls(tensors()))
    assert text.startswith(f"{cls.__name__} (\nParameter Group 0\n")
    assert all(f"    {name}: " in text for name in cls.fields)


@every_class
def test_it_is_a_torch_optimizer(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors())
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.defaults.keys() == cls.fields.keys()


def test_closures_of_a_driver_must_be_given() -> None:
    for name, cls in DRIVERS.items():
        with pytest.raises(TypeError, match=rf"{cls.__name__}.*needs a closure"):
            cls(tensors()).step()
        assert name in CLASSES


def test_a_class_with_its_own_constructor() -> None:
    class Warm(CLASSES["sgd"]):  # type: ignore[misc,name-defined]
        """A subclass may still say what its constructor takes."""

        warmth: float = fields.hyper(1.0, "unused", low=0.0)

    assert Warm([torch.nn.Parameter(torch.ones(1))], warmth=2.0).param_groups[0]["warmth"] == 2.0
