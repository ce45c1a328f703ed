"""Rules that ask for new gradients: exact steps, line searches that keep their promise, and losses that misbehave."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import steepest
from cases import CLASSES, Options, alternatives, defaults, hyperparameters
from oracles import nag_lookahead, steepest_descent
from steepest import Optimizer
from steepest.drivers.line_search import LineSearchError, Point, Search, armijo, strong_wolfe

Loss = Callable[..., Tensor]


def ways() -> list[tuple[type[Optimizer], Options]]:
    """Every class, and every value of an option, whose step evaluates the closure itself."""
    found: list[tuple[type[Optimizer], Options]] = []
    for cls in CLASSES.values():
        for name, field in hyperparameters(cls).items():
            for value in [field.default, *alternatives(field)] if field.choices or field.is_flag else []:
                if cls.needs_closure({**defaults(cls), name: value}) and name not in ("maximize",):
                    found.append((cls, {name: value}))
    return found


every_way = pytest.mark.parametrize(("cls", "options"), ways(), ids=[f"{c.__name__}-{o}" for c, o in ways()])
SEARCHES = ["strong_wolfe", "armijo"]
every_search = pytest.mark.parametrize("search", SEARCHES)


def closure_of(optimizer: torch.optim.Optimizer, loss: Loss, log: list[float] | None = None) -> Callable[[], Tensor]:
    """zero_grad, forward, backward; notes every loss."""

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        value = loss(*optimizer.param_groups[0]["params"])
        value.backward()
        if log is not None:
            log.append(value.item())
        return value

    return evaluate


def parameter(values: Any, dtype: torch.dtype = torch.float64) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.as_tensor(values, dtype=dtype).clone())


def quadratic(seed: int, n: int) -> tuple[Any, Any, Any]:
    """A random positive definite matrix of condition at most about 100, a right side and a start."""
    rng = np.random.default_rng(seed)
    orthogonal, _ = np.linalg.qr(rng.standard_normal((n, n)))
    A = orthogonal @ np.diag(10.0 ** rng.uniform(-1.0, 1.0, n)) @ orthogonal.T
    return (A + A.T) / 2, rng.standard_normal(n), rng.standard_normal(n)


def quadratic_loss(A: Any, b: Any) -> Loss:
    matrix, right = torch.as_tensor(A), torch.as_tensor(b)
    return lambda p: 0.5 * p @ matrix @ p - right @ p


def rosenbrock(p: Tensor) -> Tensor:
    return (100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2).sum()


# -- exact steps -----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 8))
def test_exact_steps_are_the_oracles(seed: int, n: int) -> None:
    """1e-9: the step comes from g.(g - h), where h = g - A g cancels digits of a condition of 100. (In one dimension
    the first step arrives; see below.)
    """
    A, b, start = quadratic(seed, n)
    p = parameter(start)
    optimizer = steepest.SteepestDescent([p], line_search="exact")
    points, _ = steepest_descent(A, b, start, steps=4)
    for point in points:
        optimizer.step(closure_of(optimizer, quadratic_loss(A, b)))
        np.testing.assert_allclose(p.detach().numpy(), point, rtol=1e-9, atol=1e-9)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_exact_steps_minimise_along_the_line(seed: int) -> None:
    """The closed form's property: the new gradient is orthogonal to the old."""
    A, b, start = quadratic(seed, 4)
    p = parameter(start)
    optimizer = steepest.SteepestDescent([p], line_search="exact")
    before = A @ start - b
    optimizer.step(closure_of(optimizer, quadratic_loss(A, b)))
    after = A @ p.detach().numpy() - b
    assert abs(before @ after) <= 1e-10 * (before @ before)


@given(st.integers(0, 10_000))
def test_in_one_dimension_the_first_step_arrives_and_the_next_stay(seed: int) -> None:
    A, b, start = quadratic(seed, 1)
    p = parameter(start)
    optimizer = steepest.SteepestDescent([p], line_search="exact")
    for _ in range(2):
        optimizer.step(closure_of(optimizer, quadratic_loss(A, b)))
        np.testing.assert_allclose(p.detach().numpy(), b / A[0], rtol=1e-12)


def test_exact_steps_solve_a_system() -> None:
    A, b, start = quadratic(3, 5)
    p = parameter(start)
    optimizer = steepest.SteepestDescent([p], line_search="exact")
    for _ in range(400):
        optimizer.step(closure_of(optimizer, quadratic_loss(A, b)))
    np.testing.assert_allclose(p.detach().numpy(), np.linalg.solve(A, b), rtol=1e-6)


def test_several_tensors_are_one_vector() -> None:
    A, b, start = quadratic(5, 6)
    whole, parts = parameter(start), [parameter(start[:2].reshape(1, 2)), parameter(start[2]), parameter(start[3:])]
    loss = quadratic_loss(A, b)
    first = steepest.SteepestDescent([whole], line_search="exact")
    second = steepest.SteepestDescent(parts, line_search="exact")
    for _ in range(3):
        first.step(closure_of(first, loss))
        second.step(closure_of(second, lambda *p: loss(torch.cat([x.reshape(-1) for x in p]))))
    torch.testing.assert_close(torch.cat([x.reshape(-1) for x in parts]), whole, rtol=1e-12, atol=1e-12)


def test_exact_steps_need_two_evaluations() -> None:
    A, b, start = quadratic(5, 3)
    log: list[float] = []
    optimizer = steepest.SteepestDescent([parameter(start)], line_search="exact")
    optimizer.step(closure_of(optimizer, quadratic_loss(A, b), log))
    assert len(log) == 2


@pytest.mark.parametrize(
    "loss",
    [lambda p: -(p * p).sum(), lambda p: p.sum(), lambda p: torch.cos(p).sum()],
    ids=["concave", "linear", "cos"],
)
def test_exact_refuses_what_is_no_convex_quadratic(loss: Loss) -> None:
    p = parameter([0.3, 0.2])
    optimizer = steepest.SteepestDescent([p], line_search="exact")
    with pytest.raises(LineSearchError, match=r"not positive.*Use line_search='strong_wolfe' or 'armijo'"):
        optimizer.step(closure_of(optimizer, loss))
    assert p.tolist() == [0.3, 0.2]


# -- searches --------------------------------------------------------------------------------------------------------


def step_size(before: Tensor, after: Tensor, g: Tensor) -> float:
    return float((before - after).dot(g) / g.dot(g))


def value_and_gradient(loss: Loss, x: Tensor) -> tuple[float, Tensor]:
    x = x.detach().clone().requires_grad_()
    value = loss(x)
    (g,) = torch.autograd.grad(value, x)
    return value.item(), g


def wavy(seed: int, n: int) -> tuple[Loss, Tensor]:
    """A bowl with waves: smooth, bounded below, not convex."""
    source = torch.Generator().manual_seed(seed)
    a, c, start = (torch.randn(n, generator=source, dtype=torch.float64) for _ in range(3))
    return lambda p: (a.abs() * (p - c) ** 2).sum() + torch.sin(3 * p).sum(), start


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 5), lr=st.sampled_from([1e-3, 0.1, 1.0, 50.0]))
def test_strong_wolfe_holds_where_it_stops(seed: int, n: int, lr: float) -> None:
    loss, start = wavy(seed, n)
    check_wolfe(loss, start, lr=lr)


@pytest.mark.parametrize("lr", [1e-4, 1.0, 100.0])
@pytest.mark.parametrize("start", [[-1.2, 1.0], [0.0, 0.0, 0.5], [2.0, 2.0]])
def test_strong_wolfe_holds_on_rosenbrock(start: list[float], lr: float) -> None:
    check_wolfe(rosenbrock, torch.tensor(start, dtype=torch.float64), lr=lr, steps=5)


def check_wolfe(loss: Loss, start: Tensor, lr: float, steps: int = 2) -> None:
    """Enough decrease, and a small slope, at every accepted step; 1e-9 for the rounding of step and slope."""
    p = parameter(start)
    c1, c2 = 1e-4, 0.1
    optimizer = steepest.SteepestDescent([p], lr=lr, c1=c1, c2=c2, max_evals=60)
    for _ in range(steps):
        before = p.detach().clone()
        f, g = value_and_gradient(loss, before)
        optimizer.step(closure_of(optimizer, loss))
        after, h = value_and_gradient(loss, p)
        eta, gg = step_size(before, p.detach(), g), float(g.dot(g))
        assert eta > 0
        assert after <= f - c1 * eta * gg + 1e-9 * abs(f)
        assert abs(float(g.dot(h))) <= c2 * gg * (1 + 1e-9)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 5), lr=st.sampled_from([0.1, 1.0, 50.0]))
def test_armijo_takes_the_first_half_that_falls_enough(seed: int, n: int, lr: float) -> None:
    loss, start = wavy(seed, n)
    p = parameter(start)
    optimizer = steepest.SteepestDescent([p], lr=lr, line_search="armijo")
    f, g = value_and_gradient(loss, start)
    optimizer.step(closure_of(optimizer, loss))
    gg, eta = float(g.dot(g)), lr
    while value_and_gradient(loss, start - eta * g)[0] > f - 1e-4 * eta * gg:
        eta /= 2
    torch.testing.assert_close(p.detach(), start - eta * g, rtol=1e-12, atol=1e-12)


@every_search
def test_searches_descend_rosenbrock(search: str) -> None:
    p = parameter([-1.2, 1.0])
    optimizer = steepest.SteepestDescent([p], line_search=search)
    losses = [optimizer.step(closure_of(optimizer, rosenbrock)).item() for _ in range(60)]
    assert all(b < a for a, b in itertools.pairwise(losses))
    assert losses[-1] < 0.2 * losses[0]


@every_search
def test_the_first_loss_is_returned(search: str) -> None:
    log: list[float] = []
    optimizer = steepest.SteepestDescent([parameter([-1.2, 1.0])], line_search=search)
    assert optimizer.step(closure_of(optimizer, rosenbrock, log)).item() == log[0]
    assert len(log) > 1


@every_search
def test_max_evals_bounds_the_search(search: str) -> None:
    """One evaluation at the start, at most max_evals on the line."""
    log: list[float] = []
    optimizer = steepest.SteepestDescent([parameter([-1.2, 1.0])], line_search=search, lr=1e6, max_evals=3)
    with pytest.raises(LineSearchError, match="no decrease along the gradient"):
        optimizer.step(closure_of(optimizer, rosenbrock, log))
    assert len(log) == 4
    assert optimizer.param_groups[0]["params"][0].tolist() == [-1.2, 1.0]


@every_search
@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
def test_a_search_backs_off_where_the_loss_is_no_number(search: str, bad: float) -> None:
    """log is NaN beyond 0: the search must come back inside."""
    p = parameter([1.0])

    def barrier(x: Tensor) -> Tensor:
        return torch.where(x > 0.5, (x - 0.6) ** 2, torch.full_like(x, bad)).sum()

    optimizer = steepest.SteepestDescent([p], lr=8.0, line_search=search)
    before = barrier(p).item()
    optimizer.step(closure_of(optimizer, barrier))
    assert barrier(p).item() < before


@every_way
@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
def test_a_loss_that_is_no_number_from_the_start(cls: type[Optimizer], options: Options, bad: float) -> None:
    """A search finds nothing and says so with the parameters restored; a rule without one goes where torch's would."""
    p = parameter([1.0, 2.0])
    optimizer = cls([p], **options)
    try:
        optimizer.step(closure_of(optimizer, lambda x: (x * bad).sum()))
    except LineSearchError:
        assert p.tolist() == [1.0, 2.0]
    else:
        assert not torch.isfinite(p).all()


def run_search(search: Search, f: Callable[[float], tuple[float, float]]) -> float:
    """The step that a search finds on a function of the step, driven by hand."""
    answer: Any = None
    while True:
        try:
            step = search.send(answer)
        except StopIteration as found:
            return float(found.value.step)
        answer = Point(step, *f(step))


def test_strong_wolfe_takes_the_lowest_decrease_when_evaluations_run_out() -> None:
    """A line that falls for ever never has a small slope."""
    step = run_search(strong_wolfe(0.0, -1.0, lr=1.0, c1=1e-4, c2=0.1, max_evals=5), lambda s: (-s, -1.0))
    assert step == 16.0


def test_armijo_by_hand() -> None:
    """f = (s - 1)^2 - 1 from slope -2: 8, 4 and 2 do not fall enough (f(2) = 0), 1 does."""
    step = run_search(armijo(0.0, -2.0, lr=8.0, c1=1e-4, max_evals=10), lambda s: ((s - 1) ** 2 - 1, 2 * (s - 1)))
    assert step == 1.0


def test_strong_wolfe_interpolates_a_parabola_exactly() -> None:
    tried: list[float] = []

    def parabola(s: float) -> tuple[float, float]:
        tried.append(s)
        return (s - 3) ** 2 - 9, 2 * (s - 3)

    assert run_search(strong_wolfe(0.0, -6.0, lr=8.0, c1=1e-4, c2=0.1, max_evals=10), parabola) == pytest.approx(3.0)
    assert len(tried) == 2


# -- what any driver promises ----------------------------------------------------------------------------------------


@every_way
def test_a_closure_that_raises_leaves_the_parameters(cls: type[Optimizer], options: Options) -> None:
    """At its first and at a later evaluation."""
    for call in (1, 2):
        p = parameter([0.5, -0.25])
        optimizer = cls([p], **options)
        calls: list[int] = []

        def failing(optimizer: Any = optimizer, calls: list[int] = calls, call: int = call) -> Tensor:
            calls.append(1)
            if len(calls) == call:
                raise KeyboardInterrupt
            return closure_of(optimizer, lambda x: (x * x).sum() + x.exp().sum())()

        for _ in range(call):
            kept = p.detach().clone()
            try:
                optimizer.step(failing)
            except KeyboardInterrupt:
                break
        else:
            pytest.fail("the exception was swallowed")
        assert torch.equal(p, kept)


@every_way
def test_no_closure_raises(cls: type[Optimizer], options: Options) -> None:
    message = rf"{cls.__name__}\.step\(\) missing 1 required positional argument: 'closure'; .* a closure that zeroes"
    with pytest.raises(TypeError, match=message):
        cls([parameter([1.0])], **options).step()


@every_way
def test_two_groups_raise(cls: type[Optimizer], options: Options) -> None:
    groups = [{"params": [parameter([1.0])]}, {"params": [parameter([1.0])]}]
    with pytest.raises(ValueError, match=r"doesn't support per-parameter options \(parameter groups\)"):
        cls(groups, **options)
    optimizer = cls(groups[:1], **options)
    with pytest.raises(ValueError, match="per-parameter options"):
        optimizer.add_param_group(groups[1])
    assert len(optimizer.param_groups) == 1


@every_way
def test_a_gradient_of_zero_stays(cls: type[Optimizer], options: Options) -> None:
    p = parameter([1.0, -2.0])
    optimizer = cls([p], **options)
    optimizer.step(closure_of(optimizer, lambda x: (x * 0.0).sum()))
    assert p.tolist() == [1.0, -2.0]


def bowl(x: Tensor) -> Tensor:
    return ((x - 0.3) ** 2 * torch.tensor([0.5, 2.0], dtype=x.dtype)).sum()


@every_way
def test_maximizing_is_minimizing_the_negative(cls: type[Optimizer], options: Options) -> None:
    p, q = parameter([1.0, -2.0]), parameter([1.0, -2.0])
    up, down = cls([p], maximize=True, **options), cls([q], **options)
    for _ in range(3):
        up.step(closure_of(up, lambda x: -bowl(x)))
        down.step(closure_of(down, bowl))
    assert torch.equal(p, q)
    assert not torch.equal(p, parameter([1.0, -2.0]))


@every_way
def test_weight_decay_is_a_penalty_in_the_loss(cls: type[Optimizer], options: Options) -> None:
    p, q = parameter([1.0, -2.0]), parameter([1.0, -2.0])
    decayed, plain = cls([p], weight_decay=0.4, **options), cls([q], **options)
    for _ in range(3):
        decayed.step(closure_of(decayed, bowl))
        plain.step(closure_of(plain, lambda x: bowl(x) + 0.2 * (x * x).sum()))
    torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-9)


@every_way
def test_a_parameter_without_gradient_stays(cls: type[Optimizer], options: Options) -> None:
    p, idle = parameter([1.0, -2.0]), parameter([5.0])
    optimizer = cls([p, idle], **options)
    optimizer.step(closure_of(optimizer, lambda x, y: bowl(x)))
    assert idle.tolist() == [5.0]
    assert p.tolist() != [1.0, -2.0]


@every_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64], ids=str)
def test_any_type_and_layout(cls: type[Optimizer], options: Options, dtype: torch.dtype) -> None:
    """A transposed matrix, a number and an empty tensor descend together."""
    params = [torch.nn.Parameter(torch.ones(3, 2, dtype=dtype).t()), parameter(0.5, dtype), parameter([], dtype)]

    def loss(*tensors: Tensor) -> Tensor:
        return torch.stack([(x.abs() ** 2).sum().float() for x in tensors]).sum()

    optimizer = cls(params, **options)
    before = loss(*params).item()
    for _ in range(3):
        optimizer.step(closure_of(optimizer, loss))
    assert loss(*params).item() < before
    assert all(p.dtype == dtype for p in params)


@every_way
@pytest.mark.parametrize("switch", ["foreach", "fused", "capturable", "differentiable"])
def test_switches_that_a_driver_cannot_obey_raise(cls: type[Optimizer], options: Options, switch: str) -> None:
    error = RuntimeError if switch in cls.fields else TypeError
    with pytest.raises(error, match=switch):
        cls([parameter([1.0])], **{switch: True}, **options)


@every_way
def test_it_says_that_a_driver_runs(cls: type[Optimizer], options: Options) -> None:
    assert cls([parameter([1.0])], **options).executor == "driver"
    assert cls.needs_closure({**defaults(cls), **options})


def test_lookahead_is_the_oracles() -> None:
    A, b, start = quadratic(9, 4)
    rates = [0.05, 0.02, 0.08, 0.01, 0.03]
    p = parameter(start)
    optimizer = steepest.NAG([p], lr=rates[0], momentum=0.8, true_lookahead=True)
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step(closure_of(optimizer, quadratic_loss(A, b)))
    (wanted,) = nag_lookahead([start], lambda at: [A @ at[0] - b], steps=5, lr=rates, momentum=0.8)
    np.testing.assert_allclose(p.detach().numpy(), wanted["param"], rtol=1e-12)
    np.testing.assert_allclose(optimizer.state[p]["momentum_buffer"].numpy(), wanted["momentum_buffer"], rtol=1e-12)


@pytest.mark.parametrize("line_search", ["armijo", "strong_wolfe"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_search_at_the_minimum_stays_and_does_not_raise(line_search: str, dtype: torch.dtype) -> None:
    """The loss 1 + x² cannot fall below rounding of 1: near the minimum no step lowers it, and that is no failure."""
    p = torch.nn.Parameter(torch.tensor([3.0, -2.0], dtype=dtype))
    optimizer = steepest.SteepestDescent([p], lr=0.3, line_search=line_search)
    for _ in range(100):
        optimizer.step(closure_of(optimizer, lambda x: 1 + (x * x).sum()))
    assert p.detach().abs().max().item() <= 2 * torch.finfo(dtype).eps ** 0.5
