"""What a newcomer adds, each in one place: a rule, a rule by parameter, a kind of state, a transform, an executor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from steepest import Optimizer, Rule, State, fields, transforms
from steepest.describe import update_equations
from steepest.executors import choose
from steepest.executors.base import ActiveParams, Batch, Bucket, Executor
from steepest.executors.partition import split
from steepest.executors.reference import run
from steepest.fields import Options
from steepest.functional import pair
from steepest.kinds import KINDS, Kind
from steepest.rule import Update, Wrapper
from steepest.transforms.base import Transform
from steepest.vocabulary import lerp, sign, where


def descend(optimizer: Optimizer, steps: int = 3) -> list[Tensor]:
    """Steps with known gradients; the parameters after them."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for step in range(steps):
        for index, p in enumerate(params):
            p.grad = torch.linspace(-1, 2, p.numel()).reshape(p.shape) * (step + 1) - 0.1 * index
        optimizer.step()
    return [p.detach().clone() for p in params]


def parameters(*shapes: tuple[int, ...]) -> list[torch.nn.Parameter]:
    return [
        torch.nn.Parameter(torch.linspace(1, 3, max(1, torch.Size(shape).numel())).reshape(shape)) for shape in shapes
    ]


# -- a pointwise rule --------------------------------------------------------------------------------------------------


def signum(p: Any, g: Any, m: Any, *, lr: Any, beta: Any) -> Any:
    m = lerp(m, g, 1 - beta)
    return p - lr * sign(m), m


class Signum(Optimizer):
    """Signs of averaged gradients."""

    lr: float = fields.lr(1e-2)
    beta: float = fields.hyper(0.9, "decay of the average", low=0.0, high=1.0, is_decay=True)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()

    rule = Rule(signum, "pointwise", (State("exp_avg"),))


def test_a_rule_runs_everywhere_and_prints_itself() -> None:
    switches: list[tuple[str, Options]] = [("reference", {"foreach": False}), ("foreach", {"foreach": True})]
    switches.append(("native", {"fused": True}))
    results = []
    for name, switch in switches:
        optimizer = Signum(parameters((3, 4), (5,)), **switch)
        results.append(descend(optimizer))
        assert optimizer.executor == name
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])
    assert results[0][0].ne(parameters((3, 4))[0]).all()
    assert len(update_equations(Signum, {n: f.default for n, f in Signum.fields.items()})) == 2


# -- rules by parameter, and a kind of state of one's own --------------------------------------------------------------


def left_preconditioned(p: Any, g: Any, left: Any, *, lr: Any) -> Any:
    left = left + g @ g.mT
    return p - lr * torch.linalg.solve(left + torch.eye(g.shape[-2], dtype=g.dtype), g), left


def descent(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * g


RULES: dict[str, Rule] = {}
"""Holds the rule of matrices, once its kind of state exists."""


class Mixed(Optimizer):
    """Matrices are preconditioned from the left, all other parameters go down their gradient."""

    lr: float = fields.lr(0.1)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()

    rule = Rule(descent, "pointwise")

    @classmethod
    def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
        return RULES["matrix"] if p is not None and p.dim() == 2 else cls.rule


@pytest.fixture(autouse=True)
def left_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of the table is a kind of state."""
    kind = Kind("a square matrix of its rows", lambda p: (*p.shape[:-1], p.shape[-2]))
    monkeypatch.setitem(KINDS, "left", kind)
    monkeypatch.setitem(RULES, "matrix", Rule(left_preconditioned, "matrix", (State("left", "left"),)))


def expected(params: list[torch.nn.Parameter], steps: int = 3) -> list[Tensor]:
    results = []
    for index, p in enumerate(params):
        x, left = p.detach().clone(), torch.zeros(p.shape[0], p.shape[0])
        for step in range(steps):
            g = torch.linspace(-1, 2, p.numel()).reshape(p.shape) * (step + 1) - 0.1 * index
            if p.dim() == 2:
                left = left + g @ g.T
                x = x - 0.1 * torch.linalg.solve(left + torch.eye(p.shape[0]), g)
            else:
                x = x - 0.1 * g
        results.append(x)
    return results


def test_each_parameter_of_a_group_has_its_own_rule_and_executor() -> None:
    shapes = ((3, 4), (5,), (3, 4), (2, 2))
    optimizer = Mixed(parameters(*shapes))
    torch.testing.assert_close(descend(optimizer), expected(parameters(*shapes)))
    assert set(optimizer.executor.split(" and ")) == {"stacked", "native"}
    held = list(optimizer.state.values())
    assert [x["left"].shape for x in held] == [(3, 3), (3, 3), (2, 2)]
    assert len(optimizer.state) == 3  # the vector keeps none


def test_state_of_a_new_kind_is_saved_checked_and_loaded() -> None:
    trained, fresh = Mixed(parameters((3, 4), (5,))), Mixed(parameters((3, 4), (5,)))
    descend(trained)
    saved = trained.state_dict()
    fresh.load_state_dict(saved)
    params = fresh.param_groups[0]["params"]
    assert torch.equal(fresh.state[params[0]]["left"], saved["state"][0]["left"])
    with pytest.raises(ValueError, match=r"parameter 0 has shape \(2, 4\), its left \(3, 3\)"):
        Mixed(parameters((2, 4), (5,))).load_state_dict(saved)


def test_a_change_of_options_changes_the_rule_at_the_next_step() -> None:
    class Switched(Mixed):
        least: int = fields.hyper(0, "matrices from this many rows on", low=0, integer=True)

        @classmethod
        def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
            return RULES["matrix"] if p is not None and p.dim() == 2 and len(p) >= options["least"] else cls.rule

    optimizer = Switched(parameters((3, 4), (2, 4)))
    descend(optimizer, 2)
    before = [p.detach().clone() for p in optimizer.param_groups[0]["params"]]
    optimizer.param_groups[0]["least"] = 3
    after = descend(optimizer, 1)
    g = torch.linspace(-1, 2, 8).reshape(2, 4) - 0.1
    torch.testing.assert_close(after[1], before[1] - 0.1 * g)
    assert not torch.allclose(after[0], before[0] - 0.1 * torch.linspace(-1, 2, 12).reshape(3, 4))


def test_a_pure_step_follows_the_rule_of_each_parameter() -> None:
    params = {"w": torch.ones(2, 3), "b": torch.ones(3)}
    step = pair(Mixed)
    new, state = step.step(params, {n: x * 0.5 for n, x in params.items()}, step.init(params))
    assert state["w"]["left"].shape == (2, 2)
    assert state["b"] == {}
    torch.testing.assert_close(new["b"], torch.full((3,), 0.95))


def test_a_kind_that_no_trace_knows_is_refused_by_rules_that_are_traced() -> None:
    with pytest.raises(TypeError, match=r"pointwise rule, which cannot keep state 'left' of kind 'left'"):
        Rule(lambda p, g, left, *, lr: (p, left), "pointwise", (State("left", "left"),))
    with pytest.raises(TypeError, match=r"'x' is of unknown kind 'nonsense'; there are like, "):
        State("x", "nonsense")


def test_a_rule_for_that_takes_no_parameter_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Old.rule_for must take \(options, p=None\)"):

        class Old(Optimizer):
            """A class of before."""

            @classmethod
            def rule_for(cls, options: Options) -> Rule:  # type: ignore[override]
                return cls.rule


# -- a transform -------------------------------------------------------------------------------------------------------


def staying(update: Update) -> Update:
    """Leave out what moves against the gradient, and remember how often that was."""

    def careful(p: Any, g: Any, state: Mapping[str, Any], scalars: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        new, made = update(p, g, state, scalars)
        against = (p - new) * g < 0
        return where(against, p, new), {**made, "stopped": state["stopped"] + where(against, 1.0, 0.0, like=g)}

    return careful


def _staying(rule: Rule, options: Options) -> Wrapper | None:
    return staying if options.get("stays") else None


STOPPED = State("stopped", when=lambda options: options.get("stays", False))


class Careful(Signum):
    """Signum with the switch of a transform."""

    _: KW_ONLY
    stays: bool = fields.hyper(False, "leave out what moves against the gradient")


@pytest.mark.parametrize("switch", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
def test_a_transform_with_state_runs_in_every_executor(switch: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "AFTER_RULE", (Transform(_staying, state=(STOPPED,)), *transforms.AFTER_RULE))
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = Careful([p], lr=1.0, beta=0.9, stays=True, ema_decay=0.5, **switch)
    for g in ([1.0, 1.0], [-0.5, 1.0]):  # the average of the first entry still points the other way
        p.grad = torch.tensor(g)
        optimizer.step()
    assert p.tolist() == [-1.0, -2.0]
    assert optimizer.state[p]["stopped"].tolist() == [1.0, 0.0]
    again = Careful([torch.nn.Parameter(torch.zeros(2))], stays=True, ema_decay=0.5)
    again.load_state_dict(optimizer.state_dict())
    assert again.state_dict()["state"][0]["stopped"].tolist() == [1.0, 0.0]
    plain = Careful([p], lr=1.0, **switch)
    p.grad = torch.ones(2)
    plain.step()
    assert "stopped" not in plain.state[p]


# -- an executor -------------------------------------------------------------------------------------------------------


def test_an_executor_is_a_record_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    def counted(batch: Batch) -> dict[str, Any]:
        ran.append(len(batch.params))
        return run(batch)

    def make_buckets(live: ActiveParams) -> Iterator[Bucket]:
        return split(live, run=counted)

    def refusal(spec: Any) -> str:
        return "a parameter has more than 100 elements" if any(p.numel() > 100 for p in spec.options["params"]) else ""

    mine = Executor("counting", make_buckets, refusal=refusal)
    monkeypatch.setattr(choose, "EXECUTORS", (mine, *choose.EXECUTORS))
    optimizer = Signum(parameters((3,), (2,)))
    got = descend(optimizer, 2)
    assert optimizer.executor == "counting"
    assert ran == [2, 2]
    large = Signum(parameters((101,)))
    assert large.executor != "counting"
    monkeypatch.undo()
    torch.testing.assert_close(got, descend(Signum(parameters((3,), (2,))), 2))


def test_the_reason_names_the_executor_that_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    never = Executor("never", partial(split, run=run), refusal=lambda spec: "it never does")
    natives = [executor for executor in choose.EXECUTORS if executor.name != "native"]
    monkeypatch.setattr(choose, "EXECUTORS", (never, *natives))
    assert Signum(parameters((3,))).executor.reason == "never: it never does"
