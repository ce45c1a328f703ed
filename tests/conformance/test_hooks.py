"""Hooks around step, state_dict and load_state_dict: they run, in torch's order, and may do what they may in torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from .support import (
    Configuration,
    Info,
    Problem,
    assert_close,
    copy_of,
    empty_step,
    every_info,
    inputs,
    state_of,
    values,
)


def built(info: Info) -> tuple[Configuration, Problem, torch.optim.Optimizer]:
    """An optimizer that has taken a step."""
    configuration = next(inputs(info))
    problem = Problem(configuration)
    optimizer = configuration.build(problem.params)
    problem.advance(optimizer)
    return configuration, problem, optimizer


# -- step ------------------------------------------------------------------------------------------------------------


@every_info()
def test_step_hooks_run_around_the_step(info: Info) -> None:
    """Before and after the parameters move; not any more once they are removed."""
    _, problem, optimizer = built(info)
    seen: list[list[torch.Tensor]] = []
    with torch.no_grad():
        problem.params[0].add_(1.0)  # an optimizer that had arrived moves again
    problem.closure()
    before = values(problem.params)
    handles = [
        optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(values(problem.params))),
        optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(values(problem.params))),
    ]
    problem.advance(optimizer)
    assert_close(seen, [before, values(problem.params)])
    assert not torch.equal(seen[0][0], seen[1][0])
    for handle in handles:
        handle.remove()
    problem.advance(optimizer)
    assert len(seen) == 2


@every_info()
def test_step_hooks_run_in_torchs_order(info: Info) -> None:
    """Global before local ones at first, local before global ones at last."""
    _, problem, optimizer = built(info)
    order: list[str] = []

    def note(name: str) -> Any:
        return lambda o, args, kwargs: order.append(name) if o is optimizer else None

    handles = [
        register_optimizer_step_post_hook(note("global post")),
        register_optimizer_step_pre_hook(note("global pre")),
        optimizer.register_step_post_hook(note("post 1")),
        optimizer.register_step_pre_hook(note("pre 1")),
        optimizer.register_step_pre_hook(note("pre 2")),
        optimizer.register_step_post_hook(note("post 2")),
    ]
    try:
        problem.advance(optimizer)
    finally:
        for handle in handles:
            handle.remove()
    assert order == ["global pre", "pre 1", "pre 2", "post 1", "post 2", "global post"]


@every_info()
def test_a_step_hook_may_replace_the_arguments(info: Info) -> None:
    _, problem, optimizer = built(info)
    calls: list[int] = []

    def closure() -> torch.Tensor:
        calls.append(1)
        return problem.closure()

    with_closure = optimizer.register_step_pre_hook(lambda o, args, kwargs: ((args[0], closure), {}))
    empty_step(optimizer, info)
    with_closure.remove()
    assert calls
    optimizer.register_step_pre_hook(lambda o, args, kwargs: "neither")
    with pytest.raises(RuntimeError, match=r"must return None or a tuple of \(new_args, new_kwargs\)"):
        empty_step(optimizer, info)


@every_info()
def test_an_optimizer_inside_the_backward(info: Info) -> None:
    """torch's recipe: each parameter has its own optimizer, which steps as soon as its gradient is there."""
    if info.step_requires_closure or info.only_supports_sparse_grads:
        pytest.skip("no closure and no sparse gradient can be had inside a backward")
    configuration = next(inputs(info))
    problem, plain = Problem(configuration), Problem(configuration)
    optimizers = {p: configuration.build([p]) for p in problem.params}

    def step(p: torch.Tensor) -> None:
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in problem.params:
        p.register_post_accumulate_grad_hook(step)
    together = configuration.build(plain.params)
    for _ in range(3):
        problem.residual().square().sum().backward()
        plain.advance(together)
    assert_close(values(problem.params), values(plain.params))
    assert all(p.grad is None for p in problem.params)


# -- state_dict ------------------------------------------------------------------------------------------------------


@every_info()
def test_state_dict_hooks(info: Info) -> None:
    """The first before the dict is made, the second on it; what the last returns is the state dict."""
    _, _, optimizer = built(info)
    plain = copy_of(optimizer.state_dict())
    order: list[str] = []

    def changes(o: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
        order.append("changes")
        saved["mark"] = True

    def replaces(o: torch.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
        order.append("replaces")
        return {**saved, "version": 2}

    optimizer.register_state_dict_post_hook(replaces)
    optimizer.register_state_dict_post_hook(changes, prepend=True)
    optimizer.register_state_dict_pre_hook(lambda o: order.append("second pre"))
    optimizer.register_state_dict_pre_hook(lambda o: order.append("first pre"), prepend=True)
    saved = optimizer.state_dict()
    assert order == ["first pre", "second pre", "changes", "replaces"]
    assert_close(copy_of(saved), {**plain, "mark": True, "version": 2})


@every_info()
def test_hooks_may_keep_notes_in_the_state(info: Info) -> None:
    """torch lets anybody put keys of their own with plain values into ``optimizer.state``, and saves them."""
    configuration, problem, optimizer = built(info)
    optimizer.register_state_dict_pre_hook(lambda o: o.state.update({"note": 1, "words": "kept"}))
    saved = optimizer.state_dict()
    assert saved["state"]["note"] == 1
    assert saved["state"]["words"] == "kept"
    problem.advance(optimizer)
    twin = Problem(configuration, starts=values(problem.params))
    loaded = configuration.build(twin.params)
    loaded.register_load_state_dict_post_hook(lambda o: o.state.update({"loaded": True}))
    loaded.load_state_dict(optimizer.state_dict())
    assert loaded.state["note"] == 1
    assert loaded.state["words"] == "kept"
    assert loaded.state["loaded"] is True
    for each, held in ((problem, optimizer), (twin, loaded)):
        each.advance(held, 2)
    assert_close(values(twin.params), values(problem.params))


@every_info()
def test_a_note_may_be_taken_out_again(info: Info) -> None:
    """The pair of hooks that torch's own documentation of them suggests: what the first puts in, the second removes."""
    _, _, optimizer = built(info)
    plain = state_of(optimizer)
    optimizer.register_state_dict_pre_hook(lambda o: o.state.update({"note": 1}))
    optimizer.register_state_dict_post_hook(lambda o, saved: saved["state"].pop("note") and None)
    assert_close(state_of(optimizer), plain)


# -- load_state_dict -------------------------------------------------------------------------------------------------


@every_info()
def test_loading_hooks(info: Info) -> None:
    """Before: they may change a copy of the dict, or return another one. After: they see the result."""
    configuration, problem, optimizer = built(info)
    saved = optimizer.state_dict()
    order: list[Any] = []

    def changes(o: torch.optim.Optimizer, given: dict[str, Any]) -> None:
        order.append("changes")
        given["param_groups"] = [{**group, "lr": 0.25} for group in given["param_groups"]]

    def replaces(o: torch.optim.Optimizer, given: dict[str, Any]) -> dict[str, Any]:
        order.append(("replaces", given["param_groups"][0]["lr"]))
        return {**given, "param_groups": [{**group, "lr": 0.125} for group in given["param_groups"]]}

    twin = Problem(configuration, starts=values(problem.params))
    loaded = configuration.build(twin.params)
    loaded.register_load_state_dict_pre_hook(replaces)
    loaded.register_load_state_dict_pre_hook(changes, prepend=True)
    loaded.register_load_state_dict_post_hook(lambda o: order.append(("second", o.param_groups[0]["lr"])))
    loaded.register_load_state_dict_post_hook(lambda o: order.append(("first", len(o.state))), prepend=True)
    loaded.load_state_dict(saved)
    assert order == ["changes", ("replaces", 0.25), ("first", len(optimizer.state)), ("second", 0.125)]
    assert saved["param_groups"][0]["lr"] == optimizer.param_groups[0]["lr"] != 0.125
    assert_close(state_of(loaded), state_of(optimizer))


@every_info()
def test_a_loading_hook_may_bring_a_whole_state_dict(info: Info) -> None:
    """As one that maps a checkpoint of another shape does: the dict that is given need not fit by itself."""
    configuration, problem, optimizer = built(info)
    saved = optimizer.state_dict()
    loaded = configuration.build(Problem(configuration, starts=values(problem.params)).params)
    loaded.register_load_state_dict_pre_hook(lambda o, given: saved)
    loaded.load_state_dict({"state": {}, "param_groups": []})
    assert_close(state_of(loaded), state_of(optimizer))
