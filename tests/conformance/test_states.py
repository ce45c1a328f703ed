"""State dicts: deterministic, complete, of any age, named or not; and copies of the optimizer itself."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import through_file

from .support import (
    Configuration,
    Info,
    Problem,
    assert_close,
    configurations,
    copy_of,
    every_configuration,
    every_info,
    every_input,
    inputs,
    state_of,
    takes,
    values,
)


def named(problem: Problem, stem: str = "p") -> list[tuple[str, Tensor]]:
    """The problem's parameters with names."""
    return [(f"{stem}{index}", p) for index, p in enumerate(problem.params)]


def restarted(configuration: Configuration, problem: Problem) -> tuple[Problem, torch.optim.Optimizer]:
    """A fresh optimizer where another problem stands."""
    twin = Problem(configuration, starts=values(problem.params))
    return twin, configuration.build(twin.params)


def assert_same_course(first: tuple[Problem, Any], second: tuple[Problem, Any], steps: int = 2) -> None:
    """Both go on alike, bit by bit."""
    for _ in range(steps):
        for problem, optimizer in (first, second):
            problem.advance(optimizer)
        assert_close(values(second[0].params), values(first[0].params))
    assert_close(state_of(second[1]), state_of(first[1]))


@pytest.mark.thin("info", "way")
@every_configuration()
def test_a_loaded_optimizer_goes_on_as_the_saved_one(configuration: Configuration) -> None:
    """Through a file, read with ``weights_only``: equal state dicts then and later, on other parameters."""
    problem = Problem(configuration)
    optimizer = configuration.build(problem.params)
    problem.advance(optimizer, 2)
    saved = copy_of(optimizer.state_dict())
    read = through_file(optimizer.state_dict())
    assert_close(copy_of(read), saved)
    twin, loaded = restarted(configuration, problem)
    loaded.load_state_dict(read)
    assert_close(copy_of(loaded.state_dict()), saved)
    assert_same_course((problem, optimizer), (twin, loaded))
    assert_close(copy_of(loaded.state_dict()), copy_of(optimizer.state_dict()))


@every_info()
def test_a_repeated_parameter_has_its_first_place(info: Info) -> None:
    """Groups that were put in by hand, the same parameters again."""
    configuration = next(inputs(info))
    problem = Problem(configuration)
    optimizer = configuration.build(problem.params)
    problem.advance(optimizer)
    optimizer.param_groups.extend(copy.copy(group) for group in list(optimizer.param_groups))
    places = [group["params"] for group in optimizer.state_dict()["param_groups"]]
    assert places == [list(range(len(problem.params)))] * 2


@every_info(lambda info: bool(info.supports_param_groups))
def test_groups_added_by_hand_are_stepped(info: Info) -> None:
    """`param_groups` is a list like another; what it holds is stepped, and is in the state dict."""
    configuration = next(inputs(info))
    problem, late = Problem(configuration), Problem(configuration)
    optimizer = configuration.build(problem.params)
    problem.advance(optimizer)
    optimizer.param_groups.append({**optimizer.param_groups[0], "params": late.params})
    before = values(late.params)
    for each in (problem, late):
        each.closure()
    optimizer.step()
    alone = Problem(configuration)
    alone.advance(configuration.build(alone.params))
    assert_close(values(late.params), values(alone.params))
    assert not torch.equal(late.params[0], before[0])
    assert len(optimizer.state_dict()["param_groups"]) == 2


@every_input()
def test_an_older_state_dict(configuration: Configuration) -> None:
    """Without the options that the class did not always have: they keep their values here, and the run goes on."""
    problem = Problem(configuration)
    optimizer = configuration.build(problem.params)
    problem.advance(optimizer, 2)
    older = copy.deepcopy(optimizer.state_dict())
    added = {name for name in configuration.info.not_og_supported_flags if name in configuration.cls.fields}
    for group in older["param_groups"]:
        for name in added:
            del group[name]
    twin, loaded = restarted(configuration, problem)
    loaded.load_state_dict(older)
    (group,) = loaded.param_groups
    assert {name: group[name] for name in added} == {name: optimizer.defaults[name] for name in added}
    assert_same_course((problem, optimizer), (twin, loaded))


@every_input()
def test_step_counts_that_are_numbers(configuration: Configuration) -> None:
    """As torch's old files have them; and as somebody puts them into the state."""
    problem = Problem(configuration)
    optimizer = configuration.build(problem.params)
    problem.advance(optimizer, 2)
    saved = copy.deepcopy(optimizer.state_dict())
    for held in saved["state"].values():
        if isinstance(held.get("step"), Tensor):
            held["step"] = held["step"].item()
    twin, loaded = restarted(configuration, problem)
    loaded.load_state_dict(saved)
    assert_close(state_of(loaded), state_of(optimizer))
    assert_same_course((problem, optimizer), (twin, loaded))


@every_info()
def test_state_is_never_empty(info: Info) -> None:
    """A parameter has state or is not in it."""
    for configuration in inputs(info):
        problem = Problem(configuration)
        optimizer = configuration.build(problem.params)
        problem.advance(optimizer, 2)
        assert all(optimizer.state.values())
        assert all(optimizer.state_dict()["state"].values())


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("into_named", [False, True], ids=["into-unnamed", "into-named"])
@pytest.mark.parametrize("from_named", [False, True], ids=["from-unnamed", "from-named"])
@every_info()
def test_named_and_unnamed_load_each_other(info: Info, from_named: bool, into_named: bool) -> None:
    """The loaded names win; without any, the optimizer keeps its own."""
    configuration = next(inputs(info))
    problem = Problem(configuration)
    optimizer = configuration.build(named(problem) if from_named else problem.params)
    problem.advance(optimizer, 2)
    twin = Problem(configuration, starts=values(problem.params))
    loaded = configuration.build(named(twin) if into_named else twin.params)
    loaded.load_state_dict(optimizer.state_dict())
    names = [name for name, _ in named(problem)] if from_named or into_named else None
    assert loaded.param_groups[0].get("param_names") == names
    assert loaded.state_dict()["param_groups"][0].get("param_names") == names
    assert_same_course((problem, optimizer), (twin, loaded))


@every_info(lambda info: bool(info.supports_param_groups))
def test_named_groups(info: Info) -> None:
    """Names stay with their groups; a group without them is refused in torch's words, either way."""
    configuration = next(inputs(info))
    first, second, third = (Problem(configuration) for _ in range(3))
    optimizer = configuration.build([{"params": named(first, "a")}, {"params": named(second, "b"), "lr": 0.5}])
    names = [group["param_names"] for group in optimizer.param_groups]
    assert names == [[name for name, _ in named(problem, stem)] for problem, stem in ((first, "a"), (second, "b"))]
    with pytest.raises(ValueError, match="cannot add param group without names to the optimizer"):
        optimizer.add_param_group({"params": third.params})
    unnamed = configuration.build(first.params)
    with pytest.raises(ValueError, match="cannot add param group with names to the optimizer"):
        unnamed.add_param_group({"params": named(third)})


# -- the optimizer itself --------------------------------------------------------------------------------------------


def public(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a user sees, but for the parameters and state that hang on their identity."""
    return {n: v for n, v in vars(optimizer).items() if not n.startswith("_") and n not in ("state", "param_groups")}


@pytest.mark.thin("info", "way")
@pytest.mark.parametrize("way", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
@every_input()
def test_a_copy_keeps_public_attributes(configuration: Configuration, way: Any) -> None:
    """The class's own and what a user, a scheduler or a wrapper has hung on it."""
    problem = Problem(configuration)
    optimizer = configuration.build(problem.params)
    optimizer.note = {"run": 3}  # type: ignore[attr-defined]
    problem.advance(optimizer, 2)
    made = way(optimizer)
    optimizer.defaults.setdefault("differentiable", False)  # torch's __setstate__ does it for the copy
    assert_close(public(made), public(optimizer))
    assert vars(made).keys() >= {"defaults", "state", "param_groups", "note"}
    twin = Problem(configuration, starts=values(problem.params))
    twin.params = made.param_groups[0]["params"]
    assert_same_course((problem, optimizer), (twin, made), 1)


@every_input()
def test_printing(configuration: Configuration) -> None:
    """Class, groups, and every option of each."""
    params = configuration.leaves([torch.ones(2, 3)])
    shown = str(configuration.build(params))
    assert shown.startswith(configuration.info.name)
    assert "Parameter Group 0" in shown
    optimizer = configuration.build(params)
    assert repr(optimizer) == shown
    for name, value in optimizer.param_groups[0].items():
        assert name == "params" or f"{name}: {value}" in shown


@every_input(lambda configuration: bool(configuration.info.step_requires_closure))
def test_step_returns_the_same_type_every_time(configuration: Configuration) -> None:
    """A closure optimizer that has converged returns the loss as one that has not."""
    problem = Problem(configuration)
    optimizer = configuration.build(problem.params)
    results = [problem.advance(optimizer) for _ in range(3)]
    with torch.no_grad():
        for p in problem.params:
            p.zero_()
    results.append(problem.advance(optimizer))
    assert {type(result) for result in results} == {Tensor}
    as_numbers = [optimizer.step(lambda: problem.closure().item()) for _ in range(2)]
    assert {type(result) for result in as_numbers} == {float}


def takes_tensor_betas(info: Info) -> bool:
    """Whether torch's class takes them, in a step and not by chance at construction alone."""
    configuration = Configuration(info, "betas", {"betas": (torch.tensor(0.5), torch.tensor(0.5))})
    if "betas" not in info.optim_cls.fields or not takes(info.optim_cls, (2,)):
        return False
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2).to_sparse() if info.only_supports_sparse_grads else torch.ones(2)
    try:
        configuration.build_torchs([p]).step()
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)], ids=str)
@every_info(takes_tensor_betas)
def test_tensor_betas_are_float_betas(info: Info, shape: tuple[int, ...]) -> None:
    """For every way to run it in which torch's class takes them."""
    first = next(inputs(info))
    ways = [each for each in configurations(info) if each.description.startswith(first.description + "-")]
    for configuration in (first, *(each for each in ways if not each.given.get("foreach"))):
        with_tensors, with_floats = Problem(configuration), Problem(configuration)
        betas = (0.75, 0.875)
        mine = configuration.build(with_tensors.params, betas=tuple(torch.full(shape, beta) for beta in betas))
        other = configuration.build(with_floats.params, betas=betas)
        with_tensors.advance(mine, 3)
        with_floats.advance(other, 3)
        assert_close(values(with_tensors.params), values(with_floats.params), 16)
        assert_close(state_of(mine), state_of(other), 16)
