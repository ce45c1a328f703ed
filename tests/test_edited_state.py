"""State, parameters and groups that others change between two steps."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cases import (
    Options,
    Twins,
    alternatives,
    assert_same,
    every_planned_class,
    hyperparameters,
    is_valid,
    snapshot,
    train,
)
from shell import (
    assert_equal,
    every_planned_twin,
    makes_state,
    tensors,
)
from steepest import Optimizer

Attack = Callable[[torch.optim.Optimizer, list[torch.nn.Parameter]], None]


def clear(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    optimizer.state.clear()


def clear_one(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    if params[1] in optimizer.state:
        optimizer.state[params[1]].clear()


def delete_one(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    optimizer.state.pop(params[1], None)


def zero_tensors(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    for held in optimizer.state.values():
        for value in filter(torch.is_tensor, held.values()):
            value.zero_()


def replace_tensors(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    for held in optimizer.state.values():
        for name in held:
            held[name] = held[name] * 0.5 if held[name].ndim or name != "step" else held[name].clone()


def replace_dicts(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    for p in list(optimizer.state):
        optimizer.state[p] = {
            name: value + 1 if torch.is_tensor(value) else value for name, value in optimizer.state[p].items()
        }


def set_steps(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    for held in optimizer.state.values():
        if "step" in held:
            held["step"].fill_(40.0)


def set_one_step(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    if "step" in optimizer.state.get(params[1], {}):
        optimizer.state[params[1]]["step"] += 7


def change_scalars(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    for held in optimizer.state.values():
        for value in held.values():
            if value.ndim == 0:
                value.mul_(0.5).round_(decimals=1).clamp_(min=1.0)


def swap_states(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    a, b = params[3], params[0]
    if a in optimizer.state:
        optimizer.state[a], optimizer.state[b] = optimizer.state[b], optimizer.state[a]


def new_values(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    params[0].data = params[0].data.clone() + 1


def to_double(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    for p in params[:2]:
        p.grad = None
        p.data = p.data.double()


def new_layout(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    params[0].data = params[0].data.t().contiguous().t()


def new_parameter(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    params[1] = optimizer.param_groups[0]["params"][1] = torch.nn.Parameter(torch.ones(2, 1))


def reorder(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    optimizer.param_groups[0]["params"].reverse()


def drop_one(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    del optimizer.param_groups[0]["params"][0]


def new_group(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    optimizer.param_groups[0] = dict(optimizer.param_groups[0])


def split_group(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    group = optimizer.param_groups[0]
    optimizer.param_groups[:] = [{**group, "params": params[:2]}, {**group, "params": params[2:]}]


def reload(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


ATTACKS: list[Attack] = [
    clear,
    clear_one,
    delete_one,
    zero_tensors,
    replace_tensors,
    replace_dicts,
    set_steps,
    set_one_step,
    change_scalars,
    swap_states,
    new_values,
    to_double,
    new_layout,
    new_parameter,
    reorder,
    drop_one,
    new_group,
    split_group,
    reload,
]


def forgetful(optimizer: Any) -> Any:
    """The same optimizer, made to remember nothing from step to step."""
    step = optimizer.step

    def stepping(closure: Any = None) -> Any:
        optimizer._dispatch.known.clear()
        return step(closure)

    optimizer.step = stepping
    return optimizer


@pytest.mark.thin("kind", "attack")
@every_planned_class
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda f: f.__name__)
def test_what_others_do_between_steps_acts_on_the_next(cls: type[Optimizer], attack: Attack) -> None:
    """An optimizer that remembers how its parameters go together steps as one that looks every time."""
    results = []
    for wrapped in (lambda o: o, forgetful):
        params = [*tensors(), torch.nn.Parameter(torch.full((3, 4), 0.5))]
        optimizer = wrapped(cls(params, **switched_on(cls)))
        train(optimizer, 3)
        attack(optimizer, params)
        train(optimizer, 3)
        results.append(snapshot(optimizer))
    assert_same(*results)


def switched_on(cls: type[Optimizer]) -> Options:
    """An option that brings state (momentum, amsgrad, ...), where there is one."""
    options: Options = {}
    for name, field in hyperparameters(cls).items():
        value = alternatives(field)[0]
        if is_valid(cls, {**options, name: value}) and makes_state(cls, name, value):
            options[name] = value
    return options


@pytest.mark.thin("kind", "attack")
@every_planned_twin
@pytest.mark.parametrize(
    "attack", [clear, delete_one, zero_tensors, replace_dicts, set_steps, set_one_step, new_values]
)
def test_what_others_do_acts_as_it_does_on_torchs(twins: Twins, attack: Attack) -> None:
    """All-zero state makes some rules divide 0 by 0 or 1 - beta^0; so does torch, and NaN equals NaN."""
    results = []
    for cls in twins:
        params = [*tensors(), torch.nn.Parameter(torch.full((3, 4), 0.5))]
        known = inspect.signature(twins[1]).parameters
        optimizer = cls(params, **{name: v for name, v in switched_on(twins[0]).items() if name in known})
        train(optimizer, 3)
        attack(optimizer, params)
        try:
            train(optimizer, 3)
        except KeyError as error:
            assert cls is twins[1]
            pytest.skip(f"torch {torch.__version__} itself fails: KeyError {error}")
        results.append(snapshot(optimizer))
    for (p, _), (q, _) in zip(*results, strict=True):
        torch.testing.assert_close(p, q, rtol=2e-5, atol=2e-5, equal_nan=True)


@every_planned_class
def test_the_rest_is_not_remembered_across_a_removed_group(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors())
    train(optimizer, 2)
    optimizer.add_param_group({"params": (late := tensors(seed=8))})
    train(optimizer, 2)
    optimizer.param_groups.pop()
    kept = [p.detach().clone() for p in late]
    train(optimizer, 2)
    assert_equal(late, kept)
