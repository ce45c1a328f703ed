"""What a rule's author can get wrong on the reference executor, and what the host part does at zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from steepest import Optimizer, Rule
from steepest.fields import State, hyper
from steepest.matrices import flattened
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


def undeclared(p: Any, g: Any, *, divisor: float, rho: float) -> Any:
    return p - g / divisor


@pytest.mark.parametrize("options", [{}, {"foreach": False}, {"foreach": True}], ids=str)
def test_an_argument_that_nothing_declares_is_named(options: dict[str, Any]) -> None:
    class Undeclared(Divider):
        """Takes a number that it does not declare."""

        rule = Rule(undeclared, "pointwise")

    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    with pytest.raises(TypeError, match=r"undeclared takes 'rho' by keyword, which nothing declares; .* rho: float = "):
        Undeclared([p], **options).step()


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


def of_whole(function: Callable[..., Any], *args: Any) -> type[Optimizer]:
    """An optimizer whose rule calls one function by ``whole``."""

    def rule_of_whole(p: Any, g: Any, *, whole: Any) -> Any:
        return p - whole(function, g, *args)

    class OfWhole(Optimizer):
        rule = Rule(rule_of_whole, "matrix")

    return OfWhole


def square(X: Any, *args: Any) -> Any:
    return X @ X.mT


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (
            square,
            (),
            r"whole\(square, X\) made torch.float32 of shape \(2, 2\); it must be like X, torch.float32 of shape",
        ),
        (torch.Tensor.double, (), r"whole\(double, X\) made torch.float64"),
        (square, (torch.ones(2),), r"whole\(square, X, ...\) takes one tensor, X; give numbers behind it"),
    ],
)
def test_functions_of_whole_matrices_keep_shape_and_dtype(
    function: Callable[..., Any], args: tuple[Any, ...], message: str
) -> None:
    p = torch.nn.Parameter(torch.ones(2, 3))
    p.grad = torch.ones(2, 3)
    with pytest.raises(TypeError, match=message):
        of_whole(function, *args)([p]).step()
    assert p.eq(1.0).all()


def swaps(p: Any, g: Any, a: Any, b: Any) -> Any:
    return p - g, b.mT.mT, a.mT.mT


class Swapping(Optimizer):
    """Exchanges its state for views of it."""

    rule = Rule(swaps, "matrix", (State("a", init=1.0), State("b", init=2.0)), view=flattened)


@pytest.mark.parametrize("shape", [(2, 3), (4, 1, 3, 3), (4, 3, 1, 1)], ids=str)
def test_views_of_state_are_copied_before_state_is_written(shape: tuple[int, ...]) -> None:
    p = torch.nn.Parameter(torch.zeros(shape))
    p = torch.nn.Parameter(p.detach().to(memory_format=torch.channels_last)) if p.dim() == 4 else p
    p.grad = torch.ones_like(p)
    optimizer = Swapping([p])
    optimizer.step()
    assert p.eq(-1.0).all()
    assert [optimizer.state[p][name].unique().tolist() for name in ("a", "b")] == [[2.0], [1.0]]


def asks(p: Any, g: Any, v: Any, *, whole: Any) -> Any:
    return p - whole(square, g), v


def draws(p: Any, g: Any, *, whole: Any, stream: Any) -> Any:
    return p - whole(square, g)


@pytest.mark.parametrize(
    ("rule", "state", "message"),
    [
        (asks, (State("v", "row"),), "keeps state 'v' of kind 'row'; leave whole out, or keep state like"),
        (draws, (), "draws takes whole, and random numbers, which would be others on parts"),
    ],
)
def test_rules_of_parts_are_by_element_but_for_what_they_ask(
    rule: Callable[..., Any], state: tuple[State, ...], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        Rule(rule, "matrix", state)
