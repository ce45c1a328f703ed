"""What a rule's author can get wrong on the reference executor, and what the host part does at zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from steepest import Optimizer, Rule
from steepest.fields import hyper
from steepest.trace import RuleError


def writes_to_its_gradient(p: Any, g: Any) -> Any:
    g += 1
    return p - g


def divides(p: Any, g: Any, *, divisor: float) -> Any:
    return p - g / divisor


class Writer(Optimizer):
    """Changes the user's gradient."""

    foreach: bool | None = hyper(None, "executor")
    rule = Rule(writes_to_its_gradient, "pointwise")


class Divider(Optimizer):
    """Divides by a number."""

    divisor: float = hyper(1.0, "what to divide by")
    foreach: bool | None = hyper(None, "executor")
    rule = Rule(divides, "pointwise")


def test_a_rule_that_writes_to_its_gradient_is_told_so() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    with pytest.raises(RuleError, match=r"writes to its inputs \(such as g \+= 1\); write g = g \+ 1"):
        Writer([p], foreach=False).step()
    assert p.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("divisor", [2.0, -4.0, 0.0, -0.0])
def test_dividing_by_zero_is_infinite_in_every_executor(divisor: float) -> None:
    results = []
    for foreach in (False, True):
        p = torch.nn.Parameter(torch.zeros(3))
        p.grad = torch.tensor([1.0, -1.0, 0.0])
        Divider([p], divisor, foreach=foreach).step()
        results.append(p.detach())
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0, equal_nan=True)
    assert results[0].isfinite().all() == (divisor != 0)
