"""The steps of a walkthrough are the optimizer's own, and every symbol has the value that its equation gives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import steepest
from cases import CLASSES, Options
from steepest import Optimizer
from steepest.describe import NOT_TRACED, update_equations
from steepest.registry import Recipe
from steepest.walkthrough import Walkthrough, in_numbers

F64 = torch.float64
START = torch.tensor([4.0, -2.0, 0.5], dtype=F64)


def gradient(step: int) -> torch.Tensor:
    return torch.tensor([1.0, -3.0, 0.25], dtype=F64) * (step + 1) ** 0.5


def walkable(cls: type[Optimizer]) -> bool:
    rule = cls.rule_for({**{name: field.default for name, field in cls.fields.items()}, "params": []})
    return rule.kind not in NOT_TRACED and rule.shared is None and rule.sparse != "lazy"


WALKABLE = {name: cls for name, cls in CLASSES.items() if walkable(cls)}


@pytest.mark.parametrize("cls", WALKABLE.values(), ids=list(WALKABLE))
def test_the_steps_are_the_optimizers_to_the_bit(cls: type[Optimizer]) -> None:
    """The last equation of the weights has the value that the reference executor writes."""
    walk = Walkthrough(cls, START)
    p = torch.nn.Parameter(START.clone())
    optimizer = cls([p], **({"foreach": False} if "foreach" in cls.fields else {}))
    for k in range(4):
        step = walk.step(gradient(k))
        p.grad = gradient(k)
        optimizer.step()
        assert torch.equal(step.after, p.detach())
        assert step.number == k + 1
        weights = [each.value for each in step.equations if each.symbol == "θ"]
        assert torch.equal(torch.as_tensor(weights[-1]) if weights else step.before, step.after)
        assert weights or k == 0, "only ADOPT's first step leaves the weights"


def test_every_symbol_of_adam_by_hand() -> None:
    walk = Walkthrough(steepest.Adam, torch.tensor([3.0], dtype=F64), lr=0.1, betas=(0.5, 0.75), eps=0.5)
    walk.step(torch.tensor([2.0], dtype=F64))
    step = walk.step(torch.tensor([4.0], dtype=F64))
    assert {name: float(value) for name, value in step.given.items() if name not in ("θ",)} == pytest.approx(
        {"g": 4.0, "m": 1.0, "v": 1.0, "η": 0.1, "β₁": 0.5, "β₂": 0.75, "ε": 0.5, "t": 2.0}
    )
    m, v = 0.5 * 1.0 + 0.5 * 4.0, 0.75 * 1.0 + 0.25 * 16.0
    mhat, vhat = m / (1 - 0.5**2), v / (1 - 0.75**2)
    assert [(e.symbol, float(e.value)) for e in step.equations[:4]] == [
        ("m", pytest.approx(m)),
        ("v", pytest.approx(v)),
        ("m̂", pytest.approx(mhat)),
        ("v̂", pytest.approx(vhat)),
    ]
    moved = float(step.before) - 0.1 * mhat / (math.sqrt(vhat) + 0.5)
    assert float(step.after) == pytest.approx(moved)


@pytest.mark.parametrize(
    "options", [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"maximize": True}], ids=str
)
def test_the_equations_are_those_that_show_prints(options: Options) -> None:
    walk = Walkthrough(steepest.SGD, START, **options)
    walk.step(gradient(0))
    printed = [f"{each.symbol} ← {each.expression}" for each in walk.step(gradient(1)).equations]
    assert printed == update_equations(steepest.SGD, Recipe("sgd", options).resolved())


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (steepest.Muon, "Muon has no equations to walk through, since this rule multiplies matrices"),
        (steepest.LBFGS, "LBFGS has no equations to walk through, since this rule asks for new gradients"),
        (steepest.Prodigy, "Prodigy has numbers that all parameters share"),
    ],
)
def test_rules_without_such_equations_are_refused(cls: type[Optimizer], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Walkthrough(cls, START)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (torch.tensor(2.0), "2"), (torch.tensor([1.0, -1 / 3]), "(1, -0.3333)"), (1e-8, "1e-08")],
)
def test_values_as_text(value: Any, text: str) -> None:
    assert in_numbers(value) == text
