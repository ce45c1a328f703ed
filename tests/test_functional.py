"""The pure pair: the same numbers as the optimizer, nothing written, mapped and differentiated by torch.func."""

from __future__ import annotations

import copy
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import steepest
from cases import SEPARATE, Options, cases, exactly, is_valid, parameters
from oracles import problem
from steepest import Optimizer
from steepest.functional import pair

SHAPES = [(3, 4), (2, 4)]
THETA, GRADS = problem(7, SHAPES, 5)


def as_params(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {str(i): p.detach() for i, p in enumerate(parameters(THETA, dtype))}


def as_grads(step: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {str(i): torch.as_tensor(g).to(dtype) for i, g in enumerate(GRADS[step])}


COMMON = {"weight_decay": 0.1, "maximize": True, "max_norm": 0.3, "ema_decay": 0.9}


def common_for(cls: type[Optimizer]) -> Options:
    options = {name: value for name, value in COMMON.items() if name in cls.fields}
    return options if is_valid(cls, options) else {}


ROWS = [(cls, options) for cls in SEPARATE.values() for options in ({}, common_for(cls))] + [
    (steepest.SGD, {"zclip": 2.5})
]
every_row = pytest.mark.parametrize(("cls", "options"), cases(ROWS))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex128], ids=str)
@every_row
def test_the_pair_is_the_optimizer(cls: type[Optimizer], options: Options, dtype: torch.dtype) -> None:
    if dtype.is_complex and not runs_complex(cls):
        pytest.skip("the rule is one for real parameters")
    params = as_params(dtype)
    optimizer = cls([torch.nn.Parameter(p.clone()) for p in params.values()], foreach=False, **options)
    init, step = pair(cls, **options)
    state = init(params)
    for k in range(5):
        grads: dict[str, Any] = as_grads(k, dtype)
        if k == 2:
            grads["1"] = None
        for p, g in zip(optimizer.param_groups[0]["params"], grads.values(), strict=True):
            p.grad = g
        optimizer.step()
        kept = copy.deepcopy((params, state))
        new_params, new_state = step(params, grads, state)
        assert_same_tree((params, state), kept)
        params, state = new_params, new_state
    factor = 64 * torch.finfo(dtype).eps
    for name, p in zip(params, optimizer.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(params[name], p.detach(), rtol=factor, atol=factor)
        held = optimizer.state.get(p, {})
        assert list(state[name]) == list(held)
        for key, value in held.items():
            bound = factor * max(1.0, value.abs().max().item())
            torch.testing.assert_close(state[name][key], value, rtol=factor, atol=bound)


def runs_complex(cls: type[Optimizer]) -> bool:
    p = torch.ones(2, 2, dtype=torch.complex64)
    p.grad = torch.ones_like(p)
    try:
        cls([p]).step()
    except (RuntimeError, ValueError):
        return False
    return True


def assert_same_tree(ours: Any, theirs: Any) -> None:
    if isinstance(ours, Tensor):
        assert torch.equal(ours, theirs)
        return
    pairs = [(ours[k], theirs[k]) for k in theirs] if isinstance(ours, dict) else zip(ours, theirs, strict=True)
    for a, b in pairs:
        assert_same_tree(a, b)


def trained(cls: type[Optimizer], options: Options, **numbers: Any) -> Tensor:
    """All parameters after four steps, as one vector."""
    init, step = pair(cls, **options)
    params = as_params()
    state = init(params)
    for k in range(4):
        params, state = step(params, as_grads(k), state, **numbers)
    return torch.cat([p.flatten() for p in params.values()])


def mapped_names(cls: type[Optimizer]) -> list[str]:
    """Numbers with a search range: those that are worth mapping over."""
    return [f.name for f in cls.fields.values() if f.search is not None and len(f.names) == 1 and f.is_hyperparameter]


NUMBERS = [(cls, name) for cls in SEPARATE.values() for name in mapped_names(cls)]


@pytest.mark.parametrize(("cls", "name"), NUMBERS, ids=[f"{c.__name__}-{n}" for c, n in NUMBERS])
def test_numbers_are_mapped(cls: type[Optimizer], name: str) -> None:
    """vmap over a hyperparameter gives, row by row, the runs with its values."""
    options = {name: cls.fields[name].default or 0.01}
    rows = [options[name] * factor for factor in (0.5, 0.9, 1.0)]
    cls = exactly(cls)
    together = torch.vmap(lambda x: trained(cls, options, **{name: x}))(torch.tensor(rows, dtype=torch.float64))
    for row, value in zip(together, rows, strict=True):
        torch.testing.assert_close(row, trained(cls, options, **{name: value}), rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize("cls", SEPARATE.values(), ids=list(SEPARATE))
def test_hypergradients_of_the_rate(cls: type[Optimizer]) -> None:
    """Against central differences; nothing here is rounded below double, so they agree."""
    rate = torch.tensor(0.05, dtype=torch.float64)
    cls = exactly(cls)
    exact = torch.func.grad(lambda x: trained(cls, {}, lr=x).square().sum())(rate)
    ahead, behind = (trained(cls, {}, lr=float(rate) + h).square().sum() for h in (1e-6, -1e-6))
    torch.testing.assert_close(exact, (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-7)


def test_whole_tuples_are_numbers_too() -> None:
    one = trained(steepest.Adam, {}, betas=(0.7, torch.tensor(0.95, dtype=torch.float64)))
    torch.testing.assert_close(one, trained(steepest.Adam, {"betas": (0.7, 0.95)}), rtol=1e-12, atol=1e-12)


def test_what_is_refused() -> None:
    init, step = pair(steepest.SGD)
    params = as_params()
    for numbers, message in (
        ({"momentum": torch.tensor(0.9)}, r"momentum is 0 in pair\(SGD, \.\.\.\)"),
        ({"max_norm": 1.0}, r"max_norm is None in pair"),
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            step(params, as_grads(0), init(params), **numbers)
    with pytest.raises(TypeError, match="did you mean 'lr'"):
        step(params, as_grads(0), init(params), lrr=0.1)
    with pytest.raises(ValueError, match="gradients of unknown parameters other; there are 0, 1"):
        step(params, {"other": torch.ones(1)}, init(params))
    with pytest.raises(ValueError, match="state_dtype='int8' says how a step writes"):
        pair(steepest.Adam, state_dtype="int8")
    with pytest.raises(ValueError, match="fused=True says how"):
        pair(steepest.Adam, fused=True)
    with pytest.raises(ValueError, match="SteepestDescent evaluates closures"):
        pair(steepest.SteepestDescent)


def test_the_example_finds_the_best_rate() -> None:
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "tune_the_learning_rate.py"))
    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = x @ torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)
    small, large = (example["tuned"](start, x, y, rounds=40) for start in (0.005, 0.4))
    assert small == pytest.approx(large, rel=0.05)
    grid = torch.linspace(0.3 * small, 1.5 * small, 25, dtype=torch.float64)
    losses = torch.vmap(lambda rate: example["loss_after_training"](rate.log(), x, y))(grid)
    assert grid[losses.argmin()].item() == pytest.approx(small, rel=0.1)
