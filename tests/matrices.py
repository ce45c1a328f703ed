"""Gradients of full rank, under which every eigenbasis is settled, and runs of a class of ours on them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import torch
from torch import nn

from cases import Options, give, parameters, same, through_file


def problem(shapes: list[tuple[int, ...]], steps: int = 14, seed: int = 3) -> tuple[list[Any], list[Any]]:
    """A start, and gradients for each step."""
    rng = np.random.default_rng(seed)
    start = [rng.standard_normal(shape) for shape in shapes]
    return start, [[rng.standard_normal(shape) for shape in shapes] for _ in range(steps)]


def trained(
    cls: Any, options: Options, start: list[Any], grads: list[Any], dtype: torch.dtype = torch.float64
) -> tuple[Any, list[nn.Parameter]]:
    """An optimizer and its parameters after these gradients."""
    params = parameters(start, dtype)
    optimizer = cls(params, **options)
    for of_step in grads:
        give(params, of_step)
        optimizer.step()
    return optimizer, params


def refreshes(cls: Any, options: Options, name: str, steps: int) -> list[int]:
    """The steps, from the second, in which a state changes."""
    optimizer, (p,) = trained(cls, options, *problem([(4, 4)], 1))
    changed = []
    for t in range(2, steps + 1):
        before = optimizer.state[p][name].clone()
        give([p], problem([(4, 4)], 1, seed=t)[1][0])
        optimizer.step()
        changed += [] if same(before, optimizer.state[p][name]) else [t]
    return changed


def assert_resumes(cls: Any, options: Options, saved_after: int, dtype: torch.dtype) -> None:
    """A run that is saved and loaded after some steps is the uninterrupted one, bit by bit."""
    start, grads = problem([(4, 3), (3, 4), (5,)], 8)
    _, whole = trained(cls, options, start, grads, dtype)
    first, params = trained(cls, options, start, grads[:saved_after], dtype)
    fresh = cls(loaded := [nn.Parameter(p.detach().clone()) for p in params])
    fresh.load_state_dict(through_file(first.state_dict()))
    for of_step in grads[saved_after:]:
        give(loaded, of_step)
        fresh.step()
    assert all(same(p.detach(), q.detach()) for p, q in zip(loaded, whole, strict=True))


def assert_copies_go_on(cls: Any) -> None:
    """Copies and unpickled optimizers take the step that the original takes, bit by bit."""
    for copied in (copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))):
        optimizer, _ = trained(cls, {"lr": 0.1}, *problem([(4, 6)], 3))
        twin = copied(optimizer)
        for each in (optimizer, twin):
            (x,) = each.param_groups[0]["params"]
            x.grad = torch.ones_like(x)
            each.step()
        (p,), (q,) = (each.param_groups[0]["params"] for each in (optimizer, twin))
        assert p is not q
        assert same(p.detach(), q.detach())


def assert_oracle(
    cls: Any, oracle: Any, options: Options, shapes: list[tuple[int, ...]], steps: int, foreach: bool | None
) -> None:
    """Parameters and state are the oracle's; bases by their absolute values, since signs of eigenvectors are free."""
    start, grads = problem(shapes, steps)
    optimizer, params = trained(cls, {**options, "foreach": foreach}, start, grads)
    for p, wanted in zip(params, oracle(start, grads, **options), strict=True):
        held = optimizer.state[p]
        assert set(held) == set(wanted) - {"param"}
        np.testing.assert_allclose(p.detach().numpy(), wanted["param"], rtol=1e-7, atol=1e-7)
        for name in wanted.keys() - {"param"}:
            ours, theirs = held[name].numpy(), np.asarray(wanted[name])
            ours, theirs = (abs(ours), abs(theirs)) if name.startswith("Q_") else (ours, theirs)
            largest = np.abs(theirs).max(initial=1e-300)
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7 * largest, err_msg=name)


def refreshed_in(cls: Any, options: Options, name: str, count: int, steps: int) -> list[list[int]]:
    """For each of ``count`` matrices the steps, from the second, in which a state of it changes."""
    shapes: list[tuple[int, ...]] = [(4, 4)] * count
    optimizer, params = trained(cls, options, *problem(shapes, 1))
    changed: list[list[int]] = [[] for _ in params]
    for t in range(2, steps + 1):
        before = [optimizer.state[p][name].clone() for p in params]
        give(params, problem(shapes, 1, seed=t)[1][0])
        optimizer.step()
        for own, p, x in zip(changed, params, before, strict=True):
            own += [] if same(optimizer.state[p][name], x) else [t]
    return changed
