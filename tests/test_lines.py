"""Functions that note their lines compute what they always did, and print what they computed."""

from __future__ import annotations

import ast
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch

from steepest.expressions import Writer
from steepest.lines import Noted
from steepest.vocabulary import lerp, maximum, sqrt, where

M = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def told(noted: Noted, *results: str) -> list[str]:
    return [f"{each.symbol} ← {each.expression} = {float(each.value):g}" for each in noted.lines(results)]


def branching(x: float, *, beta2: float, is_wide: bool = False) -> tuple[float, float]:
    y: float = x * x if is_wide else x
    y += 1
    if y > 100:
        y = 100.0
    for _ in range(2):
        y = y / 2
    name = "not a number"
    return (y if is_wide else -y), beta2 * len(name)


def test_only_the_lines_that_ran_are_told_with_the_side_that_a_condition_took() -> None:
    noted = Noted(branching)
    assert noted(3.0, beta2=0.5, is_wide=True) == branching(3.0, beta2=0.5, is_wide=True) == noted.result
    assert told(noted, "a", "b") == [
        "y ← x² = 9",
        "y ← y + 1 = 10",
        "y ← y / 2 = 5",
        "y ← y / 2 = 2.5",
        "a ← y = 2.5",
        "b ← β₂·len(name) = 6",
    ]
    assert noted(3.0, beta2=0.5) == branching(3.0, beta2=0.5)
    assert told(noted, "a", "b")[0] == "y ← x = 3", "the last call only"
    assert inspect.signature(noted) == inspect.signature(branching)


def renewing(*, d: float, k: int) -> dict[str, float]:
    kept = {"d": d * 2, "k": k + 1}
    return {**kept, "d_before": d, "before": k}


def test_entries_of_a_dictionary_are_made_from_old_values() -> None:
    noted = Noted(renewing)
    assert noted(d=3.0, k=1) == {"d": 6.0, "k": 2, "d_before": 3.0, "before": 1}
    assert told(noted) == ["d_before ← d = 3", "d ← d·2 = 6", "before ← k = 1", "k ← k + 1 = 2"]


def swapping(a: float, b: float) -> tuple[float, float]:
    a, b = a + b, a - b
    _, c = halves(a + 1, b)
    a, rest = halves(b, rate=c)
    return a, rest


def halves(x: float, rate: float = 0.5) -> tuple[float, float]:
    """Return two parts of a number.

    They add up to it.
    """
    c = x * rate
    return x - c, c


def test_a_line_that_only_calls_a_helper_stands_for_its_lines() -> None:
    noted = Noted(swapping)
    assert noted(1.0, 3.0) == swapping(1.0, 3.0)
    assert told(noted, "a", "b") == [
        "a ← a + b = 4",
        "b ← a - b = -2",
        "x ← a + 1 = 5",
        "c ← x·b = -10",
        "c′ ← b·c = 20",
        "a ← b - c′ = -22",
        "rest ← c′ = 20",
        "b ← rest = 20",
    ]


def pairing(a: float, b: float) -> tuple[float, float, float]:
    a, b = half(a), half(b + 1)
    b, a = half(a), half(b)
    c, rest = spread(a)
    return b, *halves(c), rest


def half(x: float) -> float:
    y = x / 2
    return y + 1


def spread(x: float) -> tuple[float, float]:
    y = x + 1
    return *(y, y + 1)[:1], y + 2


def test_helpers_in_a_tuple_stand_for_their_lines_unless_names_cross() -> None:
    noted = Noted(pairing)
    assert noted(1.0, 3.0) == pairing(1.0, 3.0)
    assert told(noted, "p", "q", "r", "s") == [
        "y ← a / 2 = 0.5",
        "a ← y + 1 = 1.5",
        "x ← b + 1 = 4",
        "y ← x / 2 = 2",
        "b ← y + 1 = 3",
        "b ← half(a) = 1.75",
        "a ← half(b) = 2.5",
        "y ← a + 1 = 3.5",
        "c ← (y, y + 1)[:1]₁ = 3.5",
        "rest ← y + 2 = 5.5",
        "θ ← b = 1.75",
        "q ← halves(c)₁ = 1.75",
        "r ← halves(c)₂ = 1.75",
        "s ← rest = 5.5",
    ]


class Found(NamedTuple):
    step: float
    place: torch.Tensor


def finding(x: float) -> Any:
    found = yield from looking(x + 1)
    (first, second), third = (x, found.step), 3.0
    return found.step * first + second + third


def looking(x: float) -> Any:
    f, g = yield x * 2
    found = Found(f, g)
    return found


def test_generators_that_are_run_at_once_stand_for_their_lines() -> None:
    noted = Noted(finding)
    search = noted(1.0)
    assert next(search) == 4.0
    with pytest.raises(StopIteration) as ended:
        search.send((5.0, M))
    assert ended.value.value == 13.0
    assert [f"{each.symbol} ← {each.expression}" for each in noted.lines(["y"])] == [
        "x′ ← x + 1",
        "f ← J(x′·2)",
        "g ← ∇J(x′·2)",
        "third ← 3",
        "first ← first of ((x, found.step), 3)",
        "second ← second of ((x, found.step), 3)",
        "y ← found.step·first + second + third",
    ]


def inside(x: float) -> float:
    return math.sqrt(halves(x)[0]) + max(x, 1.0)


def test_other_helpers_have_their_meaning() -> None:
    noted = Noted(inside)
    noted(8.0)
    assert told(noted, "y") == ["y ← √(halves(x)[0]) + max(x, 1) = 10"]
    assert noted.helpers() == {"halves": "two parts of a number"}


def writing(x: torch.Tensor) -> torch.Tensor:
    before = x * 1
    after = before.add_(1)
    return after * 1


def test_values_are_those_of_their_line() -> None:
    noted = Noted(writing)
    noted(M)
    before, after, _ = noted.lines(["y"])
    assert torch.equal(torch.as_tensor(before.value), M)
    assert torch.equal(torch.as_tensor(after.value), M + 1)


def made(scale: float) -> Callable[..., Any]:
    shift = 2.0

    def closing(x: float, y: float = 3.0, /, *rest: float, z: float = 4.0, **others: float) -> float:
        shifted = x + shift
        return shifted * scale + y + z + sum(rest) + sum(v for v in others.values() if v > scale)

    return closing


def test_a_function_keeps_its_closure_and_defaults() -> None:
    function = made(10.0)
    noted = Noted(function)
    assert noted(1.0) == function(1.0)
    assert noted(1.0, 2.0, 5.0, z=1.0, w=20.0, v=1.0) == function(1.0, 2.0, 5.0, z=1.0, w=20.0, v=1.0)
    assert told(noted)[0] == "shifted ← x + shift = 3"


def generating(x: float) -> Iterator[float]:
    y = yield x
    z = y + 1
    yield z


def test_generators_and_annotations_stay_what_they_are() -> None:
    walk = Noted(generating)(1.0)
    assert next(walk) == 1.0
    assert walk.send(4.0) == 5.0


def failing(x: float) -> float:
    y = x + 1
    return y / 0


def test_an_error_is_the_functions_own_with_its_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        Noted(failing)(1.0)
    last = traceback.extract_tb(caught.tb)[-1]
    assert (last.filename, last.name, last.line) == (__file__, "failing", "return y / 0")
    assert failing.__code__.co_firstlineno + 2 == last.lineno


def test_the_interpreters_tracing_is_left_to_others() -> None:
    """A debugger, or coverage, sees the lines of the original's file."""
    noted, before, seen = Noted(branching), sys.gettrace(), []

    def trace(frame: Any, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename == __file__ and event == "line":
            seen.append(frame.f_lineno - branching.__code__.co_firstlineno)
        return trace

    sys.settrace(trace)
    try:
        noted(3.0, beta2=0.5)
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert {1, 2, 3, 5, 6, 7, 8} <= set(seen)
    assert 4 not in seen


@pytest.mark.parametrize("function", [lambda x: x, math.sqrt, torch.nn.Linear, eval("lambda x: x")])
def test_functions_without_source_are_refused(function: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot be read; define it with def, in a file"):
        Noted(function)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("p - lr * m / (sqrt(v) + eps)", "θ - η·m / (√(v) + ε)"),
        ("lerp(m, g, 1 - beta1)", "β₁·m + (1 - β₁)·g"),
        ("lerp(m, g + 1, w)", "(1 - w)·m + w·(g + 1)"),
        ("beta2 * v + (1 - beta2) * g * g", "β₂·v + (1 - β₂)·g²"),
        ("(x + y) ** 2 + x.square()", "(x + y)² + x²"),
        ("L @ (u + 1) @ R.mT", "L @ (u + 1) @ Rᵀ"),
        ("(x + y).mT", "(x + y)ᵀ"),
        ("x.mT.mT @ x.T", "x @ xᵀ"),
        ("torch.add(x, d, alpha=t) + x.add(d, alpha=-t)", "x + t·d + x + (-t)·d"),
        ("x * (a @ b)", "x·(a @ b)"),
        ("-(a + b) * c", "(-(a + b))·c"),
        ("torch.sqrt(x) + math.sqrt(y)", "√(x) + √(y)"),
        ("torch.sign(x).sum(-2, keepdim=True)", "sign(x).sum(-2, keepdim=True)"),
        ("(Q * (A @ Q)).sum(-2)", "(Q·(A @ Q)).sum(-2)"),
        ("x.mean((-2, -1))", "x.mean((-2, -1))"),
        ("torch.mean(x, 0)", "torch.mean(x, 0)"),
        ("g.shape[-2:] + x[0, 1]", "g.shape[-2:] + x[0, 1]"),
        ("(a is None) + (b is not None)", "(a is None) + (b is not None)"),
        ("f(a is None, *rest, k=beta2)", "f(a is None, *rest, k=β₂)"),
        ("t == 1 or t % (k + 1) == 0", "(t = 1) or (t % (k + 1) = 0)"),
        ("maximum(a, 0.3) if t < 2 else 1e-7", "max(a, 0.3) if t < 2 else 1e-07"),
        ("where(x > 0, x, 0.0, like=x)", "(x if x > 0 else 0)"),
        ("1 < x < 2", "1 < x < 2"),
        ("(n for n in shape)", "(n for n in shape)"),
        ("'text'", "'text'"),
    ],
)
def test_expressions(source: str, text: str) -> None:
    words = {each.name: each for each in (lerp, maximum, sqrt, where)}
    writer = Writer({"torch": torch, "math": math, **words}, {})
    assert writer.text(ast.parse(source, mode="eval").body).text == text
