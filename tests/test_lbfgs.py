"""LBFGS: torch's trial points and state to the last bit, and the mathematics behind them from independent sources."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cases import Options, copied, same, through_file
from steepest import LBFGS, Optimizer, Rule, State, fields
from steepest.drivers.lbfgs import times_inverse_hessian, updated
from steepest.drivers.line_search import Goal, Point, _lowest_of_cubic, strong_wolfe_cubic

Loss = Callable[..., Tensor]
Values = list[Tensor]
EITHER = [LBFGS, torch.optim.LBFGS]
INF = math.inf


# -- problems ----------------------------------------------------------------------------------------------------------


def rosenbrock(p: Tensor) -> Tensor:
    return (100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2).sum()


def quadratic(p: Tensor) -> Tensor:
    return (torch.logspace(-1, 1.5, p.numel(), dtype=p.dtype) * (p - 0.3) ** 2).sum()


def network(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """A perceptron with one hidden layer that fits a sine."""
    x = torch.linspace(-2, 2, 24, dtype=a.dtype).unsqueeze(1)
    return ((torch.tanh(x @ a + b) @ c + d - torch.sin(2 * x)) ** 2).mean()


def drawn(*shapes: tuple[int, ...], seed: int = 3) -> Values:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=source, dtype=torch.float64) for shape in shapes]


PROBLEMS: dict[str, tuple[Loss, Values]] = {
    "rosenbrock": (rosenbrock, [torch.tensor([-1.2, 1.0, 0.5, 2.0])]),
    "quadratic": (quadratic, drawn((11,))),
    "network": (network, drawn((1, 5), (5,), (5, 1), ())),
}
every_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=list(PROBLEMS))
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
searching = pytest.mark.parametrize("search", [None, "strong_wolfe"])


class Run:
    """An optimizer on a problem, and what its closure has seen."""

    def __init__(self, cls: Any, loss: Loss, start: Sequence[Tensor], dtype: torch.dtype, **options: Any) -> None:
        self.params = [torch.nn.Parameter(v.to(dtype, copy=True)) for v in start]
        self.optimizer = cls(self.params, **options)
        self.loss = loss
        self.points: list[Values] = []
        self.returned: list[float] = []

    def closure(self) -> Tensor:
        self.optimizer.zero_grad()
        self.points.append([p.detach().clone() for p in self.params])
        value = self.loss(*self.params)
        value.backward()
        return value

    def steps(self, count: int) -> Run:
        self.returned += [self.optimizer.step(self.closure).item() for _ in range(count)]
        return self

    @property
    def state(self) -> dict[str, Any]:
        held: dict[str, Any] = self.optimizer.state[self.params[0]]
        return held

    @property
    def values(self) -> Values:
        return [p.detach() for p in self.params]


def pair(loss: Loss, start: Sequence[Tensor], dtype: torch.dtype = torch.float64, **options: Any) -> tuple[Run, Run]:
    """Ours and torch's."""
    ours, theirs = (Run(cls, loss, start, dtype, **options) for cls in EITHER)
    return ours, theirs


def assert_same_run(ours: Run, theirs: Run) -> None:
    """Every trial point, every returned loss, the parameters and the state, bit by bit."""
    assert len(ours.points) == len(theirs.points)
    for trial, wanted in zip([*ours.points, ours.values], [*theirs.points, theirs.values], strict=True):
        assert all(map(same, trial, wanted))
    assert same(ours.returned, theirs.returned)
    assert_same_state(ours.state, theirs.state)


def assert_same_state(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Names in order, types and values. torch also keeps ``al``, where its recursion writes before it reads, and None
    for what there is not (max_iter=0).
    """
    assert list(ours) == [name for name, value in theirs.items() if name != "al" and value is not None]
    for name, value in ours.items():
        assert same(value, theirs[name]), (name, value, theirs[name])


# -- torch's trial points ----------------------------------------------------------------------------------------------

OPTIONS: list[Options] = [
    {},
    {"lr": 0.1},
    {"lr": 3.0},
    {"history_size": 1},
    {"history_size": 3, "max_iter": 7},
    {"max_iter": 1},
    {"max_iter": 0},
    {"max_eval": 1},
    {"max_eval": 6},
    {"max_iter": 30, "max_eval": 4},
    {"tolerance_grad": 0.5},
    {"tolerance_grad": INF},
    {"tolerance_grad": -INF, "tolerance_change": -INF},
    {"tolerance_change": 1e-2},
    {"tolerance_change": INF},
]


@pytest.mark.thin
@every_problem
@every_dtype
@searching
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_trial_point_is_torchs(
    problem: tuple[Loss, Values], dtype: torch.dtype, search: str | None, options: Options
) -> None:
    """To the last bit: the same operations on the same vectors, only that torch moves each parameter by itself."""
    ours, theirs = pair(*problem, dtype, line_search_fn=search, **options)
    assert_same_run(ours.steps(6), theirs.steps(6))


@searching
def test_the_runs_above_are_long_enough_to_tell(search: str | None) -> None:
    """They search, they fill the history, and different options go different ways."""
    loss, start = PROBLEMS["rosenbrock"]
    runs = [Run(LBFGS, loss, start, torch.float64, line_search_fn=search, **o).steps(6) for o in OPTIONS]
    ends = {tuple(run.values[0].tolist()) for run in runs}
    assert len(ends) >= 10
    assert len(runs[0].state["old_dirs"]) > 10
    assert runs[0].state["func_evals"] == len(runs[0].points) > 30


@searching
def test_a_changing_rate_is_torchs(search: str | None) -> None:
    """A scheduler's rate acts at the next step, in ours as in torch's."""
    ours, theirs = pair(*PROBLEMS["rosenbrock"], line_search_fn=search, max_iter=4)
    for run in (ours, theirs):
        scheduler = torch.optim.lr_scheduler.ExponentialLR(run.optimizer, 0.7)
        for _ in range(6):
            run.steps(1)
            scheduler.step()
    assert_same_run(ours, theirs)


@searching
@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
def test_a_rate_in_a_tensor_acts_as_its_number(search: str | None, shape: tuple[int, ...]) -> None:
    rate = torch.full(shape, 0.3, dtype=torch.float64)
    loss, start = PROBLEMS["rosenbrock"]
    as_tensor = Run(LBFGS, loss, start, torch.float64, lr=rate, line_search_fn=search).steps(3)
    assert_same_run(
        as_tensor, Run(torch.optim.LBFGS, loss, start, torch.float64, lr=0.3, line_search_fn=search).steps(3)
    )
    kept = copied(as_tensor.state["t"])
    rate.fill_(0.7)
    assert as_tensor.state["t"] == kept


@searching
def test_a_rate_in_a_tensor_is_near_torchs(search: str | None) -> None:
    """torch computes with the tensor: the same in float64, up to the order of a product."""
    rate = torch.tensor(0.3, dtype=torch.float64)
    ours, theirs = pair(*PROBLEMS["rosenbrock"], lr=rate, line_search_fn=search, max_iter=5)
    for trial, wanted in zip(ours.steps(3).points, theirs.steps(3).points, strict=True):
        torch.testing.assert_close(trial, wanted, rtol=1e-10, atol=1e-10)


# -- parameters and gradients of every sort ----------------------------------------------------------------------------


@searching
def test_complex_parameters_are_pairs_of_real_ones(search: str | None) -> None:
    """At every trial point; and they are torch's."""
    start = torch.complex(*drawn((6,), (6,)))

    def loss(z: Tensor) -> Tensor:
        return quadratic(torch.view_as_real(z).reshape(-1)) + (z.abs() ** 4).sum()

    def real_loss(x: Tensor) -> Tensor:
        return quadratic(x.reshape(-1)) + ((x**2).sum(-1).sqrt() ** 4).sum()

    ours, theirs = pair(loss, [start], torch.complex128, line_search_fn=search)
    assert_same_run(ours.steps(4), theirs.steps(4))
    real = Run(LBFGS, real_loss, [torch.view_as_real(start)], torch.float64, line_search_fn=search).steps(4)
    for (trial,), (wanted,) in zip(ours.points, real.points, strict=True):
        torch.testing.assert_close(torch.view_as_real(trial), wanted, rtol=1e-9, atol=1e-9)


@searching
def test_sparse_gradients_are_dense_ones(search: str | None) -> None:
    """Rows 1 and 3 of an embedding are used, one of them twice; the others stay."""
    places, (start,) = torch.tensor([1, 3, 1]), drawn((5, 2))

    def loss(table: Tensor, *, sparse: bool) -> Tensor:
        rows = torch.nn.functional.embedding(places, table, sparse=sparse)
        return ((rows - torch.tensor([[1.0], [2.0], [-1.0]], dtype=table.dtype)) ** 4).sum()

    dense = Run(LBFGS, lambda t: loss(t, sparse=False), [start], torch.float64, line_search_fn=search).steps(3)
    ours, theirs = pair(lambda t: loss(t, sparse=True), [start], line_search_fn=search)
    assert_same_run(ours.steps(3), theirs.steps(3))
    assert ours.params[0].grad is not None
    assert ours.params[0].grad.is_sparse
    assert_same_run(ours, dense)
    assert same(ours.values[0][[0, 2, 4]], start[[0, 2, 4]])


@searching
def test_a_parameter_without_gradient_is_there_with_zeros(search: str | None) -> None:
    start = drawn((3,), (4,))
    ours, theirs = pair(lambda a, b: rosenbrock(b), start, line_search_fn=search)
    assert_same_run(ours.steps(3), theirs.steps(3))
    assert same(ours.values[0], start[0])
    assert ours.state["d"].shape == (7,)
    assert not ours.state["d"][:3].any()


def test_all_empty_parameters_stay() -> None:
    """torch's maximum of nothing raises."""
    run = Run(LBFGS, lambda p: p.sum(), [torch.zeros(0)], torch.float64).steps(2)
    assert run.state["func_evals"] == 2


def test_several_types_in_one_group() -> None:
    """The vector is of the widest; each parameter keeps its own."""
    params = [torch.nn.Parameter(torch.ones(3, dtype=d)) for d in (torch.float32, torch.float64, torch.bfloat16)]
    optimizer = LBFGS(params, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = rosenbrock(torch.cat([p.double() for p in params]) + 1)
        loss.backward()
        return loss

    before = optimizer.step(closure)
    for _ in range(3):
        optimizer.load_state_dict(optimizer.state_dict())
        after = optimizer.step(closure)
    assert after < 0.05 * before
    assert [p.dtype for p in params] == [torch.float32, torch.float64, torch.bfloat16]
    assert optimizer.state[params[0]]["d"].dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_keep_vectors_as_they_are_and_numbers_whole(dtype: torch.dtype) -> None:
    """1 / y.s is above 10^5 here, which float16 does not hold; float32's steps lead there as well."""
    curvature = torch.tensor([1.0, 2.0], dtype=torch.float32)
    start = [torch.tensor([1e-4, 2e-4])]

    def loss(p: Tensor) -> Tensor:
        return (curvature * p.float() ** 2).sum()

    half = Run(LBFGS, loss, start, dtype, max_iter=2, tolerance_grad=0.0, tolerance_change=0.0).steps(2)
    single = Run(LBFGS, loss, start, torch.float32, max_iter=2, tolerance_grad=0.0, tolerance_change=0.0).steps(2)
    assert half.state["d"].dtype == half.state["old_dirs"][0].dtype == dtype
    assert max(half.state["ro"]) > torch.finfo(torch.float16).max
    assert half.state["ro"] == pytest.approx([float(r) for r in single.state["ro"]], rel=0.05)
    fresh = LBFGS([torch.nn.Parameter(half.values[0].clone())])
    fresh.load_state_dict(half.optimizer.state_dict())
    assert fresh.state_dict()["state"][0]["ro"] == half.state["ro"]


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def cliff(x: Tensor, beyond: float) -> Tensor:
    """Falls towards an edge at 2, beyond which the loss is no number."""
    return torch.where(x < 2.0, (x - 1.9) ** 2, x * beyond).sum()


@searching
@pytest.mark.parametrize("bad", [math.nan, INF, -INF], ids=str)
@pytest.mark.parametrize("start", [[3.0, 1.0], [-4.0, 1.0], [0.0, 1.8]], ids=str)
def test_losses_that_are_no_number_leave_the_parameters_where_torch_does(
    search: str | None, bad: float, start: list[float]
) -> None:
    ours, theirs = pair(lambda x: cliff(x, bad), [torch.tensor(start)], line_search_fn=search, lr=4.0)
    assert_same_run(ours.steps(3), theirs.steps(3))


@searching
@pytest.mark.parametrize("call", [1, 2, 5])
def test_a_closure_that_raises_leaves_parameters_and_state(search: str | None, call: int) -> None:
    run = Run(LBFGS, *PROBLEMS["network"], torch.float64, line_search_fn=search, max_iter=6).steps(2)
    before, held = copied(run.values), {name: copied(value) for name, value in run.state.items()}
    calls = itertools.count(1)

    def failing() -> Tensor:
        if next(calls) == call:
            raise KeyboardInterrupt
        return run.closure()

    with pytest.raises(KeyboardInterrupt):
        run.optimizer.step(failing)
    assert all(map(same, run.values, before))
    assert_same_state(run.state, held)


def test_a_first_step_that_raises_leaves_no_state() -> None:
    run = Run(LBFGS, *PROBLEMS["quadratic"], torch.float64)
    with pytest.raises(ZeroDivisionError):
        run.optimizer.step(lambda: 1 / 0)
    assert run.optimizer.state_dict()["state"] == {}


def test_a_step_does_not_write_to_the_state_that_others_hold() -> None:
    """torch's own lists and vectors change under a checkpoint that was taken before."""
    run = Run(LBFGS, *PROBLEMS["network"], torch.float64, history_size=4).steps(1)
    checkpoint = run.optimizer.state_dict()["state"][0]
    kept = {name: copied(value) for name, value in checkpoint.items()}
    run.steps(2)
    assert_same_state(checkpoint, kept)


# -- when it stops -----------------------------------------------------------------------------------------------------


def evaluations(options: Options, loss: Loss = rosenbrock, start: Sequence[float] = (-1.2, 1.0)) -> tuple[int, int]:
    """(evaluations, iterations) of one step, which are torch's too."""
    ours, theirs = pair(loss, [torch.tensor(start, dtype=torch.float64)], **options)
    assert_same_run(ours.steps(1), theirs.steps(1))
    return ours.state["func_evals"], ours.state["n_iter"]


def test_a_fixed_step_is_not_evaluated_after_the_last_iteration() -> None:
    assert evaluations({"max_iter": 5}) == (5, 5)
    assert evaluations({"max_iter": 1}) == (1, 1)


def test_it_stops_when_evaluations_run_out() -> None:
    assert evaluations({"max_eval": 4}) == (4, 3)
    found, iterations = evaluations({"max_eval": 4, "line_search_fn": "strong_wolfe"})
    assert found >= 4
    assert iterations < 4
    assert evaluations({"max_eval": 0}) == (2, 1)


def test_a_search_without_evaluations_left_takes_the_lower_end() -> None:
    """max_eval=1: one trial, and it is taken if it is not above the start."""
    ours, theirs = pair(rosenbrock, [torch.tensor([-1.2, 1.0])], max_eval=1, lr=100.0, line_search_fn="strong_wolfe")
    assert_same_run(ours.steps(1), theirs.steps(1))
    assert ours.values[0].tolist() == ours.points[0][0].tolist()
    assert ours.state["t"] == 0
    run = Run(LBFGS, rosenbrock, [torch.tensor([-1.2, 1.0])], torch.float64, max_eval=0, line_search_fn="strong_wolfe")
    assert run.steps(1).state["func_evals"] == 2  # torch fails: it looks for a bracket that it has not made


def test_it_stops_at_a_small_gradient() -> None:
    """At the start without an iteration; later after the one that has reached it."""
    assert evaluations({}, quadratic, (0.3, 0.3)) == (1, 0)
    assert evaluations({"tolerance_grad": 0.9}, lambda p: (p * p).sum(), (1.0, 1.0)) == (3, 2)
    assert evaluations({"tolerance_grad": 1.0, "line_search_fn": "strong_wolfe"}, lambda p: (p * p).sum())[1] < 4


def test_it_stops_when_the_loss_or_the_parameters_no_longer_move() -> None:
    assert evaluations({"tolerance_change": 0.9, "tolerance_grad": 0.0}, lambda p: (p * p).sum(), (1.0, 1.0)) == (2, 1)
    flat: Options = {"lr": 1e-6, "tolerance_grad": 0.0, "tolerance_change": 1e-5}
    assert evaluations(flat, lambda p: 1e3 * p.sum(), (1.0, 1.0)) == (2, 1)


def test_it_stops_where_the_direction_no_longer_descends() -> None:
    """The slope is above -tolerance_change: nothing moves, and the iteration counts."""
    assert evaluations({"tolerance_change": 100.0}, lambda p: (p * p).sum(), (1.0, 1.0)) == (1, 1)


# -- options -----------------------------------------------------------------------------------------------------------


def test_max_eval_follows_max_iter() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    assert LBFGS([p]).param_groups[0]["max_eval"] == LBFGS([p]).defaults["max_eval"] == 25
    assert LBFGS([p], max_iter=7).param_groups[0]["max_eval"] == torch.optim.LBFGS([p], max_iter=7).defaults["max_eval"]
    assert LBFGS([{"params": [p], "max_iter": 8}]).param_groups[0]["max_eval"] == 25
    assert LBFGS([p], max_iter=7, max_eval=3).param_groups[0]["max_eval"] == 3


def test_max_eval_of_none_in_the_group_is_settled_at_the_step() -> None:
    run, plain = (Run(LBFGS, *PROBLEMS["rosenbrock"], torch.float64, max_iter=8) for _ in range(2))
    run.optimizer.param_groups[0]["max_eval"] = None
    assert_same_run(run.steps(2), plain.steps(2))
    assert run.optimizer.param_groups[0]["max_eval"] == 10


def test_another_search_is_refused_in_torchs_words() -> None:
    """At construction, and at the step if the group was edited; torch waits for the step."""
    p = torch.nn.Parameter(torch.ones(2))
    theirs = torch.optim.LBFGS([p], line_search_fn="armijo")
    ours = LBFGS([p])
    ours.param_groups[0]["line_search_fn"] = "armijo"

    def closure() -> Tensor:
        p.grad = torch.ones(2)
        return p.sum()

    calls: list[Callable[[], Any]] = [
        lambda: theirs.step(closure),
        lambda: ours.step(closure),
        lambda: LBFGS([p], line_search_fn="armijo"),
        lambda: LBFGS([{"params": [p], "line_search_fn": "armijo"}]),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"^only 'strong_wolfe' is supported"):
            call()
    with pytest.raises(ValueError, match="line_search_fn must be one of 'strong_wolfe' or None"):
        LBFGS([p], line_search_fn="armijo")


@pytest.mark.parametrize("cls", EITHER, ids=["ours", "torch"])
def test_errors_are_torchs(cls: Any) -> None:
    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    with pytest.raises(ValueError, match=r"LBFGS doesn't support per-parameter options \(parameter groups\)"):
        cls([{"params": [p]}, {"params": [q]}])
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'closure'"):
        cls([p]).step()
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        cls([p], lr=-1)


@pytest.mark.parametrize("options", [{"history_size": 0}, {"max_iter": -1}, {"max_eval": -1}], ids=str)
def test_counts_have_a_least_value(options: Options) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=rf"Invalid {name} value: .*{name} must be an int.* >= "):
        LBFGS([torch.nn.Parameter(torch.ones(2))], **options)
    with pytest.raises(TypeError, match=rf"{name} must be an int"):
        LBFGS([torch.nn.Parameter(torch.ones(2))], **{name: 2.5})


@pytest.mark.parametrize("name", ["tolerance_grad", "tolerance_change"])
def test_a_tolerance_is_any_number(name: str) -> None:
    p = torch.nn.Parameter(torch.ones(2))
    for value in (INF, -INF, -1.0, 0, 1e300):
        assert LBFGS([p], **{name: value}).param_groups[0][name] == value
    with pytest.raises(ValueError, match=name):
        LBFGS([p], **{name: math.nan})


@searching
def test_the_oldest_pairs_are_forgotten(search: str | None) -> None:
    """Also when the history is made shorter on the way; torch's then fails or grows on."""
    run = Run(LBFGS, *PROBLEMS["network"], torch.float64, history_size=5, max_iter=9, line_search_fn=search).steps(1)
    newest = copied(run.state["old_stps"])
    assert len(newest) == len(run.state["old_dirs"]) == len(run.state["ro"]) == 5
    run.optimizer.param_groups[0].update(history_size=3, max_iter=1)
    run.steps(1)
    assert same(run.state["old_stps"][:2], newest[-2:])
    assert [len(run.state[name]) for name in ("old_dirs", "old_stps", "ro")] == [3, 3, 3]
    for y, s, rho in zip(run.state["old_dirs"], run.state["old_stps"], run.state["ro"], strict=True):
        assert float(rho) == pytest.approx(1 / float(y.dot(s)), rel=1e-12)


def test_pairs_without_curvature_are_not_remembered() -> None:
    """On a concave line y.s is negative: what is known stays."""
    one = torch.ones(2, dtype=torch.float64)
    known = ([one], [one], [0.5], 1.0)
    assert updated(known, -one, one, 10) is known
    assert updated(known, 1e-6 * one, 1e-5 * one, 10) is known
    y, s, rho, gamma = updated(known, 2 * one, one, 1)
    assert (len(y), len(s), float(rho[0]), float(gamma)) == (1, 1, 0.25, 0.5)


# -- checkpoints -------------------------------------------------------------------------------------------------------


@every_problem
@searching
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)
@pytest.mark.parametrize("first", EITHER, ids=["ours-to-torch", "torch-to-ours"])
def test_checkpoints_change_hands(
    problem: tuple[Loss, Values], search: str | None, dtype: torch.dtype, first: Any
) -> None:
    """In the midst of training, through a file: the other class goes on as the first would have."""
    loss, start = problem
    if dtype.is_complex:
        loss = lambda *p: problem[0](*(torch.view_as_real(x).sum(-1) for x in p))  # noqa: E731
    (second,) = (cls for cls in EITHER if cls is not first)
    one = Run(first, loss, start, dtype, line_search_fn=search, max_iter=5).steps(3)
    other = Run(second, loss, one.values, dtype)
    other.optimizer.load_state_dict(through_file(one.optimizer.state_dict()))
    one.points.clear()
    one.returned.clear()
    ours, theirs = (one.steps(3), other.steps(3)) if first is LBFGS else (other.steps(3), one.steps(3))
    ours.state.pop("al", None)  # torch's scratch, which ours carries along untouched
    assert_same_run(ours, theirs)


def test_an_early_checkpoint_of_torchs_has_two_numbers() -> None:
    """A first step that stops at once leaves two counts in both; the other class goes on from them."""
    for first, second in (EITHER, EITHER[::-1]):
        one = Run(first, quadratic, [torch.full((3,), 0.3, dtype=torch.float64)], torch.float64).steps(2)
        assert one.state == {"func_evals": 2, "n_iter": 0}
        other = Run(second, quadratic, [torch.zeros(3)], torch.float64)
        other.optimizer.load_state_dict(one.optimizer.state_dict())
        assert other.steps(1).state["n_iter"] > 1
        assert other.state["func_evals"] > 3


def test_options_that_a_checkpoint_lacks_stay_as_they_are() -> None:
    theirs = Run(torch.optim.LBFGS, *PROBLEMS["network"], torch.float32, max_iter=4).steps(1)
    checkpoint = theirs.optimizer.state_dict()
    assert "weight_decay" not in checkpoint["param_groups"][0]
    ours = Run(LBFGS, *PROBLEMS["network"], torch.float32, weight_decay=0.5)
    ours.optimizer.load_state_dict(checkpoint)
    assert ours.optimizer.param_groups[0]["weight_decay"] == 0.5
    assert ours.optimizer.param_groups[0]["max_eval"] == 5


# -- the mathematics ---------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 6), m=st.integers(0, 8))
def test_two_loops_are_the_matrix_of_bfgs(seed: int, n: int, m: int) -> None:
    """H ← (1 - ρ s yᵀ) H (1 - ρ y sᵀ) + ρ s sᵀ (Nocedal and Wright, equation 6.17), from γ I, pair by pair."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((m, n))
    changes = [s * rng.uniform(0.5, 2.0, n) for s in steps]
    gamma, v = rng.uniform(0.1, 2.0), rng.standard_normal(n)
    H = gamma * np.eye(n)
    for s, y in zip(steps, changes, strict=True):
        V = np.eye(n) - np.outer(y, s) / (y @ s)
        H = V.T @ H @ V + np.outer(s, s) / (y @ s)
    y, s = [torch.tensor(y) for y in changes], [torch.tensor(s) for s in steps]
    rho = [1 / a.dot(b) for a, b in zip(y, s, strict=True)]
    given_v = torch.tensor(v)
    found = times_inverse_hessian(given_v, y, s, rho, gamma)
    np.testing.assert_allclose(found.numpy(), H @ v, rtol=1e-8, atol=1e-8 * np.abs(H @ v).max())
    assert given_v.tolist() == v.tolist()


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.floats(-2, 2), st.floats(0.1, 3))
def test_the_cubic_is_met_where_it_is_lowest(coefficients: list[float], left: float, width: float) -> None:
    """The points of a cubic polynomial give its own minimum, in either order; 1e-6: the roots' cancellation."""
    cubic = np.polynomial.Polynomial(coefficients)
    slope, ends = cubic.deriv(), (left, left + width)
    a, b = (Point(x, float(cubic(x)), torch.tensor(float(slope(x)), dtype=torch.float64)) for x in ends)
    found = float(_lowest_of_cubic(a, b, *ends))
    assert same(found, float(_lowest_of_cubic(b, a, *ends)))
    if abs(coefficients[3]) < 0.1 or abs(coefficients[2]) > 1e3 * abs(coefficients[3]):
        return
    minima = [x.real for x in slope.roots() if abs(x.imag) < 1e-9 and slope.deriv()(x.real) > 1e-3]
    if minima:
        assert found == pytest.approx(min(max(minima[0], ends[0]), ends[1]), abs=1e-6)


def test_a_line_without_a_minimum_is_halved() -> None:
    """x³ + x only rises."""
    a, b = (Point(x, x**3 + x, torch.tensor(3 * x * x + 1)) for x in (-1.0, 1.0))
    assert _lowest_of_cubic(a, b, 0.0, 3.0) == 1.5


@settings(max_examples=80)
@given(seed=st.integers(0, 10_000), first=st.sampled_from([1e-3, 0.3, 5.0, 80.0]))
def test_the_search_ends_at_a_strong_wolfe_point(seed: int, first: float) -> None:
    """Of a wavy bowl along a line; the conditions are written down anew here."""
    rng = np.random.default_rng(seed)
    curvature, phase = rng.uniform(0.2, 2.0), rng.uniform(0, 2 * math.pi)

    def at(t: float) -> Point:
        loss = curvature * (t - 2) ** 2 + math.sin(3 * t + phase)
        return Point(t, loss, torch.tensor(2 * curvature * (t - 2) + 3 * math.cos(3 * t + phase), dtype=torch.float64))

    start = at(0)
    if start.slope > -0.1:
        return
    search = strong_wolfe_cubic(Goal(start, c1=1e-4, c2=0.9, extent=1.0, tolerance=1e-9), first, max_evals=60)
    tried: list[float] = []
    answer: Any = None
    while True:
        try:
            tried.append(float(search.send(answer)))
        except StopIteration as found:
            end = found.value
            break
        answer = at(tried[-1])
    assert end.step in tried
    assert end.loss <= start.loss + 1e-4 * end.step * start.slope
    assert abs(end.slope) <= 0.9 * abs(start.slope)
    assert len(tried) <= 30


@searching
def test_it_solves_a_system(search: str | None) -> None:
    """1e-7: a search cannot tell losses apart that differ by rounding, which is its square root in the solution."""
    rng = np.random.default_rng(5)
    Q, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    A, b = Q @ np.diag(np.logspace(0, 3, 8)) @ Q.T, rng.standard_normal(8)
    matrix, right = torch.tensor((A + A.T) / 2), torch.tensor(b)
    options: Options = {"tolerance_grad": 1e-12, "tolerance_change": 0.0, "max_iter": 50, "line_search_fn": search}
    run = Run(LBFGS, lambda x: 0.5 * x @ matrix @ x - right @ x, [torch.zeros(8)], torch.float64, **options).steps(4)
    np.testing.assert_allclose(run.values[0].numpy(), np.linalg.solve(A, b), rtol=1e-6, atol=1e-7)


def test_it_finds_the_end_of_rosenbrocks_valley() -> None:
    options: Options = {"line_search_fn": "strong_wolfe", "max_iter": 60, "tolerance_change": 0.0}
    run = Run(LBFGS, rosenbrock, [torch.tensor([-1.2, 1.0])], torch.float64, **options).steps(2)
    torch.testing.assert_close(run.values[0], torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-7)
    assert run.state["func_evals"] < 80


# -- beside the rest of torch ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo looks at the loss that is returned
def test_a_compiled_step_runs_as_it_is() -> None:
    """torch compiles no LBFGS either: the step is left to Python, the closure may be compiled by itself."""
    plain, compiled = (Run(LBFGS, *PROBLEMS["network"], torch.float32, max_iter=4) for _ in range(2))
    step = torch.compile(compiled.optimizer.step, backend="eager")
    for _ in range(2):
        compiled.returned.append(step(compiled.closure).item())
    assert_same_run(compiled, plain.steps(2))


def test_the_state_goes_to_the_first_parameter_alone() -> None:
    run = Run(LBFGS, *PROBLEMS["network"], torch.float64, ema_decay=0.5).steps(1)
    first, *others = (run.optimizer.state[p] for p in run.params)
    assert {"ema", "d", "old_dirs"} <= first.keys()
    assert all(list(held) == ["ema"] for held in others)
    twin = copy.deepcopy(run)
    assert_same_run(twin.steps(2), run.steps(2))


def counting(x, total, seen, *, lr):  # type: ignore[no-untyped-def]
    _, g = yield x
    return x - lr * g, total + 1, [*(seen or []), g]


class Counting(Optimizer):
    """Descent that counts its steps in one number, and keeps its gradients in one list, for all parameters."""

    lr: float = fields.lr(0.1)
    rule = Rule(counting, "driver", (State("total", "shared", init=0), State("seen", "shared", init=None)))


def test_shared_state_of_a_rule_of_ones_own() -> None:
    params = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    optimizer = Counting(params)

    def closure() -> float:
        for p in params:
            p.grad = torch.ones_like(p)
        return 0.0

    optimizer.step(closure)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step(closure)
    assert optimizer.state[params[0]]["total"] == 2
    assert [g.tolist() for g in optimizer.state[params[0]]["seen"]] == [[1.0] * 5] * 2
    assert params[1] not in optimizer.state
    torch.testing.assert_close(params[1].detach(), torch.full((3,), 0.8))
