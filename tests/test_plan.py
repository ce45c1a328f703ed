"""The planner alone: whatever a rule says, its plan computes the same and writes to nothing but p and the state.

Random rules are drawn as straight-line programs over the whole vocabulary, with values used again and again, states
swapped, aliased and handed on, and numbers of the host. Each is evaluated plainly and by its plan, in float64.
Tolerance 1e-10 of the square of the largest intermediate value: some ten operations of 1.1e-16 each, every product
enlarging earlier errors by at most the largest value. Divisors and roots are kept off 0, and comparisons and signs look
at inputs alone, so that no rounding decides a branch.
"""

from __future__ import annotations

import cProfile
import math
import operator
import pstats
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steepest import Rule, State
from steepest.executors import foreach, reference
from steepest.executors.base import Batch
from steepest.executors.plan import Plan, make_plan, reduced
from steepest.rule import Program, bind
from steepest.trace import trace
from steepest.vocabulary import absolute, lerp, maximum, minimum, norm, sign, sqrt, where

HOST, REDUCED, FULL = "host", "reduced", "full"
NUMBERS = {"t": 3.0, "x": 0.7, "y": -1.3}
INPUTS = {"p": FULL, "g": FULL, "a": FULL, "b": FULL, "c": REDUCED, "k": HOST, "t": HOST, "x": HOST, "y": HOST}
STATE = (State("step", "step"), State("a"), State("b"), State("c", "tensor_scalar"), State("k", "scalar"))


@dataclass(frozen=True)
class Call:
    """One statement: a word or operator on earlier values (by their index) and plain numbers."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]

    def __str__(self) -> str:
        shown = ", ".join(f"v{a}" if isinstance(a, int) else repr(a) for a in self.args)
        return f"{getattr(self.fn, '__name__', self.fn)}({shown})"


@dataclass(frozen=True)
class Drawn:
    """A drawn rule: statements, and for each output the index of the value that is returned."""

    calls: tuple[Call, ...]
    outputs: tuple[int, ...]

    def __repr__(self) -> str:
        lines = [f"v{i + len(INPUTS)} = {call}" for i, call in enumerate(self.calls)]
        names = ", ".join(f"v{i} = {name}" for i, name in enumerate(INPUTS))
        return "\n".join([f"inputs {names}", *lines, f"return {self.outputs}"])

    def evaluate(self, inputs: list[Any]) -> list[Any]:
        """Every value, inputs first."""
        values = list(inputs)
        for call in self.calls:
            values.append(call.fn(*(values[a] if isinstance(a, int) else a for a in call.args)))
        return values

    def rule(self, kind: Any) -> Rule:
        """The drawn program as a rule."""

        def drawn(p: Any, g: Any, a: Any, b: Any, c: Any, k: Any, *, t: Any, x: Any, y: Any) -> tuple[Any, ...]:
            values = self.evaluate([p, g, a, b, c, k, t, x, y])
            return tuple(values[i] for i in self.outputs)

        return Rule(drawn, kind, STATE)


def divide(a: Any, b: Any) -> Any:
    """A quotient whose divisor is away from 0."""
    return a / (absolute(b) + 0.5)


def root(a: Any) -> Any:
    """A root away from 0, where its slope is not bounded."""
    return sqrt(absolute(a) + 0.25)


def reciprocal(a: Any) -> Any:
    return 2.0 / (a * a + 0.5)


def power(a: Any) -> Any:
    return (absolute(a) + 0.5) ** 1.5


def exponential(a: Any) -> Any:
    return 0.9 ** minimum(absolute(a), 8.0)


def square(a: Any) -> Any:
    return a**2


def later(t: Any, a: Any, b: Any) -> Any:
    return where(t > 2, a, b)


def sooner(t: Any, a: Any, b: Any) -> Any:
    return where(t <= 2, a, b)


def where_positive(leaf: Any, a: Any, b: Any) -> Any:
    return where(leaf > 0, a, b)


def where_numbers(leaf: Any, other: Any) -> Any:
    """Two numbers, neither of which float32 can hold."""
    return where(leaf >= other, 0.3, -1.1, like=leaf)


def where_less(leaf: Any, other: Any, a: Any, b: Any) -> Any:
    return where(leaf < other, a, b)


UNARY = (operator.neg, root, absolute, square, reciprocal, power, exponential)
BINARY = (operator.add, operator.sub, operator.mul, divide, maximum, minimum)
PLAIN = (0.5, 2.0, -1.5, 1.0, 0.0, -1.0)


def rank_of(call_ranks: list[str]) -> str:
    return FULL if FULL in call_ranks else REDUCED if REDUCED in call_ranks else HOST


@dataclass
class Writer:
    """Draws statements one after the other."""

    draw: st.DrawFn
    reduces: bool
    ranks: list[str]
    calls: list[Call]

    def choose(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def shuffled(self, *values: Any) -> list[Any]:
        return self.draw(st.permutations(values))

    def leaf(self, rank: str) -> int:
        """An input."""
        return self.choose([i for i in range(len(INPUTS)) if self.ranks[i] == rank])

    def value(self, *allowed: str) -> int:
        """An earlier value, rather a late one."""
        found = [i for i, rank in enumerate(self.ranks) if rank in allowed]
        return self.choose(found[-4:] if self.draw(st.booleans()) else found)

    def any_value(self) -> int | float:
        return self.value(FULL, REDUCED, HOST) if self.draw(st.integers(0, 5)) else self.choose(PLAIN)

    def number_or(self, rank: str) -> int | float:
        return self.value(REDUCED) if rank == REDUCED else self.choose(PLAIN)

    def add(self, fn: Callable[..., Any], *args: Any, rank: str | None = None) -> None:
        self.calls.append(Call(fn, args))
        self.ranks.append(rank or rank_of([self.ranks[a] for a in args if isinstance(a, int)]))

    def statement(self) -> None:
        forms = [self.unary] + [self.binary] * 3
        forms += [
            self.averaged,
            self.picked,
            self.where_positive,
            self.where_less,
            self.where_numbers,
            self.reused,
            self.rare,
        ]
        self.choose(forms)()

    def unary(self) -> None:
        self.add(self.choose(UNARY), self.value(FULL, REDUCED, HOST))

    def binary(self) -> None:
        self.add(self.choose(BINARY), *self.shuffled(self.value(FULL, REDUCED, HOST), self.any_value()))

    def averaged(self) -> None:
        rank = self.choose([FULL, FULL, REDUCED, HOST])
        self.add(lerp, self.value(rank), self.value(rank), self.value(HOST))

    def picked(self) -> None:
        """`where` on a number, between tensors or a tensor and a number."""
        rank = self.choose([FULL, FULL, REDUCED, HOST])
        other = self.value(rank) if self.draw(st.booleans()) else self.number_or(rank)
        branches = self.shuffled(self.value(rank), other)
        self.add(self.choose([later, sooner]), self.value(HOST), *branches, rank=rank)

    def reused(self) -> None:
        """Pick one of two values, work on the pick, then read one of the two again: all three may share memory."""
        a, b = self.value(FULL), self.value(FULL)
        self.add(self.choose([later, sooner]), self.value(HOST), a, b, rank=FULL)
        self.add(self.choose(UNARY), len(self.ranks) - 1)
        self.add(self.choose(BINARY), *self.shuffled(len(self.ranks) - 1, self.choose([a, b])))

    def where_positive(self) -> None:
        self.add(where_positive, self.leaf(FULL), *self.shuffled(self.value(FULL), self.any_value()))

    def where_less(self) -> None:
        other = self.leaf(FULL) if self.draw(st.booleans()) else 0.25
        self.add(where_less, self.leaf(FULL), other, self.value(FULL), self.value(FULL))

    def where_numbers(self) -> None:
        self.add(where_numbers, self.leaf(FULL), self.leaf(FULL))

    def rare(self) -> None:
        if self.reduces:
            self.add(norm, self.value(FULL), rank=REDUCED)
        else:
            self.add(sign, self.leaf(FULL))


@st.composite
def programs(draw: st.DrawFn, reduces: bool) -> Drawn:
    """One to fourteen statements; three outputs in four are computed, the fourth is an input handed on. In one rule in
    four p and the states only change places.
    """
    writer = Writer(draw, reduces, list(INPUTS.values()), [])
    for _ in range(draw(st.integers(1, 14))):
        writer.statement()
    wanted = (FULL, FULL, FULL, REDUCED, HOST)
    outputs = tuple(writer.value(rank) if draw(st.integers(0, 3)) else writer.leaf(rank) for rank in wanted)
    if draw(st.integers(0, 3)) == 0:
        outputs = (*writer.shuffled(*(list(INPUTS).index(name) for name in "pab")), *outputs[3:])
    return Drawn(tuple(writer.calls), outputs)


SHAPES = [(3,), (2, 2), ()]


def tensors(seed: int, shapes: list[tuple[int, ...]] = SHAPES) -> dict[str, list[Tensor]]:
    """Values of size about 1 for every tensor input, one tensor per shape."""
    source = torch.Generator().manual_seed(seed)

    def drawn(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=source, dtype=torch.float64)

    full = {name: [drawn(shape) for shape in shapes] for name in ("p", "g", "a", "b")}
    return full | {"c": [drawn(()) for _ in shapes]}


def batch_of(program: Program, inputs: dict[str, list[Tensor]], k: float) -> Batch:
    """A batch over copies of the inputs."""
    held = {name: [x.clone() for x in column] for name, column in inputs.items()}
    state = {s.name: held[s.name] for s in program.tensors}
    return Batch(program, {**NUMBERS, "k": k}, held["p"], held["g"], state)


def largest(values: list[Any]) -> float:
    sizes = [v.abs().max().item() if isinstance(v, Tensor) else abs(float(v)) for v in values]
    return max(1.0, *sizes)


def check(drawn: Drawn, kind: Any, run: Callable[[Batch], dict[str, Any]]) -> None:
    """The executor's results are the plain evaluation's, and the gradients are what they were."""
    rule = drawn.rule(kind)
    program = Program(bind(rule, {}), rule, rule.state)
    inputs, k = tensors(5), 0.4
    batch = batch_of(program, inputs, k)
    with torch.no_grad():  # as a step does; the reference executor copies its inputs where a backward may need them
        new_scalars = run(batch)
    for index in range(len(SHAPES)):
        held = [inputs[name][index] for name in ("p", "g", "a", "b", "c")]
        values = drawn.evaluate([*(x.clone() for x in held), k, *NUMBERS.values()])
        wanted = [values[i] for i in drawn.outputs]
        got = [batch.params[index], *(batch.state[name][index] for name in ("a", "b", "c")), new_scalars["k"]]
        tolerance = 1e-10 * largest(values) ** 2
        for name, mine, plain in zip(("p", "a", "b", "c", "k"), got, wanted, strict=True):
            assert name == "k" or mine.dtype == torch.float64
            mine, plain = (torch.as_tensor(x, dtype=torch.float64) for x in (mine, plain))
            torch.testing.assert_close(mine, plain.broadcast_to(mine.shape), rtol=1e-10, atol=tolerance)
        assert torch.equal(batch.grads[index], inputs["g"][index]), "the gradient was written to"
        assert batch.grads[index]._version == 0, "the gradient was written to"


@settings(max_examples=300)
@given(programs(reduces=False))
def test_random_pointwise_rules_run_as_they_read(drawn: Drawn) -> None:
    check(drawn, "pointwise", foreach.run)


@settings(max_examples=200)
@given(programs(reduces=True))
def test_random_per_tensor_rules_run_as_they_read(drawn: Drawn) -> None:
    check(drawn, "per_tensor", foreach.run)


@settings(max_examples=150)
@given(programs(reduces=True))
def test_random_rules_in_phases(drawn: Drawn) -> None:
    """The plan for parts on ranks, which takes as many sums at once as do not need each other."""
    check(drawn, "per_tensor", lambda batch: foreach.run_whole(batch, reduced))


@settings(max_examples=80)
@given(programs(reduces=True))
def test_random_rules_on_the_reference_executor(drawn: Drawn) -> None:
    check(drawn, "per_tensor", reference.run)


@settings(max_examples=100)
@given(drawn=programs(reduces=False), chunk=st.integers(1, 5))
def test_random_rules_in_chunks(drawn: Drawn, chunk: int) -> None:
    """The same plan over slices of tensors and runs of lists."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreach, "CHUNK", chunk)
        check(drawn, "per_tensor", foreach.run)


# -- small rules by hand ---------------------------------------------------------------------------------------------


def plan_of(fn: Callable[..., Any], *state: State, kind: Any = "pointwise", numbers: tuple[str, ...] = ("lr",)) -> Plan:
    rule = Rule(fn, kind, state)
    program = Program(bind(rule, {}), rule, rule.state)
    return make_plan(trace(program, numbers))


def calls_of(plan: Plan) -> list[str]:
    """The list functions that a plan calls, in order."""
    body = plan.source[plan.source.index("def step") :]
    return [part.split("(")[0] for part in body.split("torch._foreach_")[1:]]


def run_plan(plan: Plan, *inputs: list[Tensor], **numbers: float) -> None:
    constants, _ = plan.host(**numbers)
    plan.step(*inputs, *constants)


def test_descent_is_one_call_in_place() -> None:
    assert calls_of(plan_of(lambda p, g, *, lr: p - lr * g)) == ["add_"]


def test_sums_that_do_not_need_each_other_are_one_call_in_phases() -> None:
    def rule(p: Any, g: Any, *, lr: Any) -> Any:
        u = g / norm(g)
        return p - lr * norm(p) * u / norm(u + p)

    rule_of = Rule(rule, "per_tensor")
    traced = trace(Program(bind(rule_of, {}), rule_of, ()), ("lr",))
    plain, phased = (make_plan(traced, is_in_phases=together).source for together in (False, True))
    assert plain.count("= reduced((norm,") == 3
    assert phased.count("= reduced((norm,") == 2
    assert re.search(r"reduced\(\(norm, \d+, in_g\), \(norm, \d+, in_p\)\)", phased)


def test_a_running_average_of_squares_is_folded_into_addcmul() -> None:
    def rule(p: Any, g: Any, v: Any, *, lr: Any) -> Any:
        return p, lr * v + (1 - lr) * g * g

    assert calls_of(plan_of(rule, State("v"))) == ["mul_", "addcmul_"]


def test_a_scaled_quotient_is_folded_into_addcdiv() -> None:
    def rule(p: Any, g: Any, v: Any, *, lr: Any) -> Any:
        return p - lr * g / v, v

    assert calls_of(plan_of(rule, State("v"))) == ["addcdiv_"]


def test_lerp_keeps_its_own_call() -> None:
    assert calls_of(plan_of(lambda p, g, m, *, lr: (p, lerp(m, g, 1 - lr)), State("m"))) == ["lerp_"]


def test_unused_work_is_dropped() -> None:
    def rule(p: Any, g: Any, *, lr: Any) -> Any:
        sqrt(g * g + 1.0)
        return p - lr * g

    assert calls_of(plan_of(rule)) == ["add_"]


def test_a_product_that_is_used_twice_is_made_once() -> None:
    def rule(p: Any, g: Any, a: Any, *, lr: Any) -> Any:
        u = g * a
        return p - lr * u, u

    assert calls_of(plan_of(rule, State("a"))) == ["mul_", "add_"]


def test_a_rule_that_changes_nothing_calls_nothing() -> None:
    assert calls_of(plan_of(lambda p, g, m, *, lr: (p, m), State("m"))) == []


@pytest.mark.parametrize("lr", [0.0, 0.25])
def test_swapping_three_values_goes_through_copies(lr: float) -> None:
    plan = plan_of(lambda p, g, a, b, *, lr: (a, b, p), State("a"), State("b"))
    p, g, a, b = ([torch.full((2,), value)] for value in (1.0, 2.0, 3.0, 4.0))
    run_plan(plan, p, g, a, b, lr=lr)
    assert [x[0][0].item() for x in (p, g, a, b)] == [3.0, 2.0, 4.0, 1.0]


def test_host_numbers_are_computed_in_double() -> None:
    plan = plan_of(lambda p, g, *, lr: p - g / (1 - (1 - lr) ** 3))
    (factor,), _ = plan.host(lr=1e-9)
    assert abs(factor) == pytest.approx(1 / (1 - (1 - 1e-9) ** 3), rel=1e-15)


def test_one_structure_has_one_plan_whatever_the_numbers() -> None:
    rule = Rule(lambda p, g, *, lr: p - lr * g, "pointwise")
    program = Program(bind(rule, {}), rule, rule.state)
    before = foreach.plan_for.cache_info().misses
    for lr in (0.1, 0.2, 0.3):
        foreach.run(Batch(program, {"lr": lr}, [torch.ones(2)], [torch.ones(2)], {}))
    assert foreach.plan_for.cache_info().misses == before + 1


def test_what_select_picks_may_still_be_needed() -> None:
    """`where` on a number hands on one of two lists; working in its memory would spoil the other use of that list."""

    def rule(p: Any, g: Any, a: Any, *, lr: Any) -> Any:
        x, y = g * a, g + a
        u = sqrt(absolute(where(lr > 2, x, y)))
        return p - lr * u * y, x

    plan = plan_of(rule, State("a"))
    for lr in (1.0, 3.0):
        p, g, a = (torch.tensor([value]) for value in (5.0, 2.0, 3.0))
        new_p, new_a = rule(p, g, a, lr=lr)
        columns = [p.clone()], [g.clone()], [a.clone()]
        run_plan(plan, *columns, lr=lr)
        torch.testing.assert_close((columns[0][0], columns[2][0]), (new_p, new_a))


@pytest.mark.parametrize("lr", [1.0, 3.0])
def test_where_on_a_number_between_a_tensor_and_a_number(lr: float) -> None:
    def rule(p: Any, g: Any, *, lr: Any) -> Any:
        return p - sqrt(where(lr > 2, g, 7.0) + 1.0) * where(lr > 2, 0.5, p)

    p, g = torch.tensor([5.0, 6.0]), torch.tensor([2.0, 3.0])
    columns = [p.clone()], [g.clone()]
    run_plan(plan_of(rule), *columns, lr=lr)
    wanted = p - torch.sqrt((g if lr > 2 else torch.full((2,), 7.0)) + 1.0) * (0.5 if lr > 2 else p)
    torch.testing.assert_close(columns[0][0], wanted)
    assert torch.equal(columns[1][0], g)


@pytest.mark.parametrize("name", ["t_0", "t_1", "s_0", "s_1", "c_0", "b_0", "x", "zip", "torch", "step", "sqrt", "p0"])
def test_state_may_be_called_what_the_plan_calls_its_own(name: str) -> None:
    """Generated code has temporaries and constants of its own; a state's name must not meet them."""

    def rule(p: Any, g: Any, a: Any, *, lr: Any) -> Any:
        u = sqrt(a * a + 0.5) * where(lr > 2, g, a)
        return p - lr * u * a, where(g > 0, u, lr * a)

    p, g, a = (torch.tensor([value, -value]) for value in (5.0, 2.0, 3.0))
    new_p, new_a = rule(p, g, a, lr=0.5)
    columns = [p.clone()], [g.clone()], [a.clone()]
    run_plan(plan_of(rule, State(name)), *columns, lr=0.5)
    torch.testing.assert_close((columns[0][0], columns[2][0]), (new_p, new_a))
    assert torch.equal(columns[1][0], g)


@pytest.mark.parametrize("lr", [1.0, 3.0])
def test_a_pick_between_a_number_per_tensor_and_a_tensor(lr: float) -> None:
    def rule(p: Any, g: Any, *, lr: Any) -> Any:
        u = where(lr > 2, norm(g) * 2.0, g * 3.0) + 1.0
        return p - u * 2.0 * g

    p, g = torch.tensor([5.0, 6.0]), torch.tensor([3.0, 4.0])
    columns = [p.clone()], [g.clone()]
    run_plan(plan_of(rule, kind="per_tensor"), *columns, lr=lr)
    torch.testing.assert_close(columns[0][0], rule(p, g, lr=lr))
    assert torch.equal(columns[1][0], g)


def test_a_profiler_stays_on() -> None:
    """Tracing looks at the rule through the same hook that profilers use."""

    def rule(p, g, *, lr):
        u = lr * g
        return p - u

    profiler = cProfile.Profile()
    profiler.enable()
    try:
        profiled = trace(Program(bind(Rule(rule, "pointwise"), {}), Rule(rule, "pointwise"), ()), ("lr",))
        math.hypot(3.0, 4.0)
    finally:
        profiler.disable()
    assert any("hypot" in name for _, _, name in pstats.Stats(profiler).stats)
    plain = trace(Program(bind(Rule(rule, "pointwise"), {}), Rule(rule, "pointwise"), ()), ("lr",))
    assert [n.target for n in profiled.graph.nodes] == [n.target for n in plain.graph.nodes]
    own = ["p", "g", "lr", "u"]
    assert list(plain.names.values()) == own
    assert list(profiled.names.values()) == (own if sys.version_info >= (3, 12) else [])  # cProfile has another hook
