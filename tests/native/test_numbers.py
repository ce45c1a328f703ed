"""Numbers: every rule against float64 within a stated bound, special values, half types, rules that nobody wrote yet.

The oracle is the reference executor in float64, which test_oracles.py holds to 1e-12 of references written from the
papers. Every step starts from the same numbers, so that the error is that of one step.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from cases import NATIVE, SWITCHES, Options, kept_numbers, label, same, snapshot
from steepest import Optimizer, Rule, State, fields
from steepest.vocabulary import absolute, atan2, exp, lerp, log, maximum, minimum, norm, sign, sqrt, where
from test_executors import DTYPES, HALVES, ROWS, assert_agree, build, odd_gradients, odd_tensors, step, take_over
from test_plan import NUMBERS, SHAPES, Drawn, largest, programs
from test_plan import tensors as inputs_of_plans

EPS = torch.finfo(torch.float32).eps

BOUNDS = {
    "ADOPT": (4, 11),
    "ASGD": (2, 2),
    "AdEMAMix": (3, 13),
    "AdaBelief": (10, 9),
    "AdaBound": (6, 10),
    "AdaMod": (3, 10),
    "AdamS": (7, 8),
    "COCOB": (375, 280),
    "DAdaptAdam": (2, 13),
    "DAdaptSGD": (105, 2),
    "DiffGrad": (4, 5),
    "DoG": (2, 2),
    "DoWG": (1, 2),
    "Grams": (6, 7),
    "LAMB": (8, 20),
    "LARS": (8, 15),
    "LDoG": (2, 2),
    "MADGRAD": (6, 23),
    "MARS": (13, 20),
    "Padam": (7, 6),
    "Prodigy": (2, 9),
    "StableAdamW": (4, 10),
    "Adadelta": (3, 4),
    "Adafactor": (4, 3),
    "AdamMini": (2, 3),
    "AdamP": (3, 34),
    "CAME": (3, 3),
    "SGDP": (2, 160),
    "Adagrad": (2, 3),
    "Adam": (3, 15),
    "AdamAtan2": (3, 5),
    "AdamW": (4, 15),
    "AdamWScheduleFree": (6, 5),
    "Adamax": (5, 6),
    "Adan": (12, 47),
    "AggMo": (3, 4),
    "LaProp": (8, 13),
    "Lion": (1, 1),
    "Momentum": (16, 20),
    "NAG": (26, 20),
    "NAdam": (3, 6),
    "NovoGrad": (2, 4),
    "QHAdam": (3, 6),
    "QHM": (3, 13),
    "RAdam": (10, 10),
    "RMSprop": (3, 65),
    "RAdamScheduleFree": (4, 4),
    "Rprop": (1, 1),
    "SGD": (2, 9),
    "SGDScheduleFree": (8, 8),
    "Signum": (2, 1),
    "SimplifiedAdEMAMix": (2, 4),
    "Yogi": (5, 21),
}
"""k of |error| <= k eps (|p| + |update|), for the defaults and with everything on that a class has.

About 1.5 times the worst of 120,000 elements whose sizes span ten decades. Where momentum and gradient nearly cancel,
the update is small beside what it is made of; centered RMSprop subtracts two nearly equal numbers under its root,
Adan's sums have differences of gradients, a projection
leaves the difference of two vectors, and COCOB's gain has p - x0, which has lost digits of p. C's atan2 and
torch's differ in the last bit.
"""


NATIVE_ROWS = [(cls, options) for cls, options in ROWS if cls in NATIVE.values()]


def without_clipping(options: Options) -> Options:
    """Clipping by a norm rounds a factor that all elements share; it is a step before the rule."""
    return {name: value for name, value in options.items() if name != "max_norm"}


STRIDES: dict[str, Options] = {"DAdaptSGD": {"d0": 1.0}}
"""Options of rules whose first six steps would move no element by a part that shows."""

ROW_BOUNDS = [
    pytest.param(
        cls,
        {**STRIDES.get(cls.__name__, {}), **without_clipping(options)},
        BOUNDS.get(cls.__name__, (0, 0))[index % 2],
        id=label(cls, options),
    )
    for index, (cls, options) in enumerate(NATIVE_ROWS)
]


def spread(shape: tuple[int, ...], seed: int) -> Tensor:
    """Numbers of both signs whose sizes span some ten decades."""
    source = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randn(shape, generator=source, dtype=torch.float64)  # noqa: E731
    return (draw() * torch.exp(3 * draw())).float()


def worst_error(cls: type[Optimizer], options: Options, spoil: float = 0.0) -> float:
    """The largest |error| / (eps (|p| + |update|)) of six steps; ``spoil`` adds a relative error to each update."""
    start = spread((100, 200), 1)
    ours = build(cls, [start.clone()], "native", options)
    oracle = build(cls, [start.double()], "reference", options)
    ((p,), (q,)) = (optimizer.param_groups[0]["params"] for optimizer in (ours, oracle))
    worst = 0.0
    for t in range(6):
        old = p.detach().double()
        q.data.copy_(old)
        for name, value in ours.state[p].items() if t else ():
            oracle.state[q][name].copy_(value)
        oracle.param_groups[0].update(kept_numbers(ours)[0])
        g = spread((100, 200), 10 + t)
        p.grad, q.grad = g, g.double()
        ours.step()
        oracle.step()
        update = q.detach() - old
        error = (p.detach().double() + spoil * update - q.detach()).abs()
        worst = max(worst, (error / (EPS * (old.abs() + update.abs()))).max().item())
    return worst


def test_every_rule_has_a_bound() -> None:
    assert BOUNDS.keys() == {cls.__name__ for cls in NATIVE.values()}, "measure worst_error and state a bound"


@pytest.mark.parametrize(("cls", "options", "k"), ROW_BOUNDS)
def test_every_rule_keeps_its_bound_and_the_bound_is_tight(cls: type[Optimizer], options: Options, k: float) -> None:
    worst = worst_error(cls, options)
    assert worst <= k
    assert 10 * worst > k, "ten times the error would not be noticed"
    assert worst_error(cls, options, spoil=10 * k * EPS) > k


@pytest.mark.thin("structure", "dtype")
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d not in HALVES], ids=str)
@pytest.mark.parametrize(("cls", "options"), [pytest.param(*row, id=label(*row)) for row in NATIVE_ROWS])
def test_native_is_reference_on_odd_shapes_and_layouts(
    cls: type[Optimizer], options: Options, dtype: torch.dtype
) -> None:
    """Half types are held to their float32 twins bit by bit in test_executors.py."""
    ours, plain = (build(cls, odd_tensors(dtype, 1), executor, options) for executor in ("native", "reference"))
    for seed in (2, 3, 4):
        step(ours, odd_gradients(dtype, seed))
        step(plain, odd_gradients(dtype, seed))
    assert_agree(ours, plain, dtype)


# -- special values -------------------------------------------------------------------------------------------------


PLAIN = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -2.5, 0.3]


def subnormal(dtype: torch.dtype, tiny: float = 0.0) -> list[float]:
    """The least number, a large subnormal one, the least normal one, and zeros and plain numbers beside them."""
    tiny = tiny or torch.finfo(dtype).tiny
    least = tiny * torch.finfo(dtype).eps
    return [least, -least, tiny * 0.75, -tiny, 0.0, -0.0, 1.0, -2.5]


def pairs(values: list[float], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Every value beside every other."""
    a, b = zip(*itertools.product(values, repeat=2), strict=True)
    return torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype)


def assert_alike(ours: Tensor, theirs: Tensor, what: str, atol: float = 0.0) -> None:
    """NaN and inf in the same places, the rest within 64 eps (half types: 8); without ``atol`` zeros of equal sign."""
    told = lambda m: f"{what}: {m}"  # noqa: E731
    near = (8 if ours.dtype in HALVES else 64) * torch.finfo(ours.dtype).eps
    torch.testing.assert_close(ours, theirs, rtol=near, atol=atol, equal_nan=True, msg=told)
    if not atol:
        zeros = theirs == 0
        assert torch.equal(torch.signbit(ours[zeros]), torch.signbit(theirs[zeros])), (what, ours, theirs)


def compare_special(cls: type[Optimizer], values: list[float], dtype: torch.dtype, atol: float) -> None:
    """Special values in parameter, gradient and (from the second step on) state, each compared by itself.

    A per-tensor rule sees one element per tensor, since one NaN would make its norm NaN for all.
    """
    p, g = pairs(values, dtype)
    split = (lambda x: list(x.clone())) if cls.rule.kind == "per_tensor" else (lambda x: [x.clone()])
    ours, plain = (build(cls, split(p), executor, {}) for executor in ("native", "reference"))
    for number, of_step in enumerate([g, p.roll(17), torch.ones_like(g), g.flip(0)]):
        for optimizer in (ours, plain):
            step(optimizer, split(of_step))
        for (a, held), (b, other) in zip(snapshot(ours), snapshot(plain), strict=True):
            for name, x, y in [("p", a, b), *((n, held[n], other[n]) for n in held)]:
                assert_alike(x, y, f"{name} after step {number + 1}", atol)
        take_over(ours, plain)  # so that the last bits of one step are not the next one's beginning


every_real_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES], ids=str)
every_rule = pytest.mark.parametrize("cls", NATIVE.values(), ids=list(NATIVE))


@pytest.mark.thin("structure", "dtype")
@every_real_dtype
@every_rule
def test_nan_infinities_and_zeros_of_both_signs(cls: type[Optimizer], dtype: torch.dtype) -> None:
    compare_special(cls, PLAIN, dtype, atol=0.0)


@pytest.mark.thin("structure", "dtype")
@every_real_dtype
@every_rule
def test_subnormal_numbers(cls: type[Optimizer], dtype: torch.dtype) -> None:
    """A product with lr rounds to a multiple of the least subnormal number, earlier in one executor than in the other;
    division by eps, which is 1e-10 or a class's own default, enlarges that. Flushing to zero, or inf for
    1 / sqrt(0 + eps), would show. A half type's store may round to the neighbour.
    """
    finfo = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32)
    # The kernel sums squares in double: norms of doubles below 1e-154 are 0 there, and not in torch for one element.
    tiny = 1e-130 if dtype == torch.float64 and cls.rule.kind == "per_tensor" else finfo.tiny
    values = subnormal(dtype, tiny if dtype == torch.float64 else 0.0)
    least = max(tiny * finfo.eps, 1e-323)
    given = cls.fields["eps"].default if "eps" in cls.fields else 1.0
    eps = min(1e-10, *(each or 1.0 for each in (given if isinstance(given, tuple) else (given,))))
    stored = torch.finfo(dtype).tiny * max(16 * EPS, torch.finfo(dtype).eps)
    compare_special(cls, values, dtype, atol=max(2 / eps * least, stored))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_subnormal_numbers_are_not_flushed(dtype: torch.dtype) -> None:
    values = torch.tensor(subnormal(dtype), dtype=dtype)
    (kept,) = computed(optimizer_of(lambda p, g, *, lr: p + g, "pointwise"), "native", values, torch.zeros_like(values))
    assert torch.equal(kept, values)
    assert (kept[:4] != 0).all()


# -- rules of this file ---------------------------------------------------------------------------------------------


def optimizer_of(fn: Callable[..., Any], kind: Any, *state: State) -> type[Optimizer]:
    """A class around a rule, with ``lr``, ``x`` and ``y``."""

    class Local(Optimizer):
        """A rule of this test."""

        lr: float = fields.lr(0.1)
        x: float = fields.hyper(NUMBERS["x"], "a number")
        y: float = fields.hyper(NUMBERS["y"], "another")
        _: KW_ONLY
        foreach: bool | None = fields.foreach()
        fused: bool | None = fields.fused()
        rule = Rule(fn, kind, state)

    return Local


def computed(cls: type[Optimizer], executor: str, p: Tensor, g: Tensor, steps: int = 1) -> list[Tensor]:
    """p and its tensor state after some steps."""
    optimizer = build(cls, [p.clone()], executor, {})
    for _ in range(steps):
        step(optimizer, [g.clone()])
    ((moved, held),) = snapshot(optimizer)
    return [moved, *(held[name] for name in cls.rule.arguments)]


WORDS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "sum": lambda p, g, lr: p + g,
    "difference": lambda p, g, lr: p - g,
    "product": lambda p, g, lr: p * g,
    "quotient": lambda p, g, lr: p / g,
    "negative": lambda p, g, lr: -g,
    "reciprocal": lambda p, g, lr: 1 / g,
    "over_zero": lambda p, g, lr: g / 0.0,
    "square": lambda p, g, lr: g**2,
    "cube": lambda p, g, lr: g**3,
    "half_power": lambda p, g, lr: g**0.5,
    "negative_half_power": lambda p, g, lr: g**-0.5,
    "negative_power": lambda p, g, lr: g**-1,
    "zeroth_power": lambda p, g, lr: g**0.0,
    "odd_power": lambda p, g, lr: g**1.5,
    "power_of_tensors": lambda p, g, lr: p**g,
    "exponential": lambda p, g, lr: 0.5**g,
    "root": lambda p, g, lr: sqrt(g),
    "absolute": lambda p, g, lr: absolute(g),
    "sign": lambda p, g, lr: sign(g),
    "logarithm": lambda p, g, lr: log(g),
    "exponential_of_e": lambda p, g, lr: exp(g),
    "angle": lambda p, g, lr: atan2(p, g),
    "angle_of_number": lambda p, g, lr: atan2(g, lr - 0.1),
    "angle_to_number": lambda p, g, lr: atan2(lr * -1, g),
    "maximum": lambda p, g, lr: maximum(p, g),
    "minimum": lambda p, g, lr: minimum(p, g),
    "maximum_of_number": lambda p, g, lr: maximum(g, 0.0),
    "maximum_of_negative_zero": lambda p, g, lr: maximum(-0.0, g),
    "minimum_of_number": lambda p, g, lr: minimum(g, 0.0),
    "minimum_of_infinity": lambda p, g, lr: minimum(g, math.inf),
    "maximum_of_negative_infinity": lambda p, g, lr: maximum(g, -math.inf),
    "lerp_near": lambda p, g, lr: lerp(p, g, 0.25),
    "lerp_far": lambda p, g, lr: lerp(p, g, 0.75),
    "lerp_beyond": lambda p, g, lr: lerp(p, g, -1.5),
    "greater": lambda p, g, lr: where(p > g, 1.0, p),
    "greater_equal": lambda p, g, lr: where(p >= g, 1.0, p),
    "less": lambda p, g, lr: where(p < g, 1.0, p),
    "less_equal": lambda p, g, lr: where(p <= g, 1.0, p),
    "equal": lambda p, g, lr: where(p == g, 1.0, p),
    "unequal": lambda p, g, lr: where(p != g, 1.0, p),
    "picked": lambda p, g, lr: where(lr > 2, g, p),
    "picked_number": lambda p, g, lr: where(lr < 2, 7.0, p),
    "flag": lambda p, g, lr: where(True, g, p),
}
"""One expression each; all are state of one rule, so that one kernel has them all."""

TIES = {"maximum", "minimum"}
"""torch.maximum(0, -0) is the first or the second, depending on the element's place in the tensor."""


def rule_with(state: Sequence[str], body: Callable[..., Any]) -> Callable[..., Any]:
    """``body(p, g, state, lr)`` with a signature that has an argument for each state."""
    arguments = ", ".join(f"s{i}" for i in range(len(state)))
    namespace: dict[str, Any] = {"body": body}
    exec(f"def made(p, g, {arguments}, *, lr): return body(p, g, ({arguments},), lr)", namespace)
    made: Callable[..., Any] = namespace["made"]
    return made


def with_words(words: dict[str, Callable[[Any, Any, Any], Any]]) -> type[Optimizer]:
    body = lambda p, g, state, lr: (p, *(word(p, g, lr) for word in words.values()))  # noqa: E731
    return optimizer_of(rule_with(list(words), body), "pointwise", *map(State, words))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_word_on_every_pair_of_special_values(dtype: torch.dtype) -> None:
    """Strictly, and within two least numbers where a product of lerp is subnormal: torch fuses it with the sum."""
    least = max(torch.finfo(dtype).tiny * torch.finfo(dtype).eps, 5e-324)
    cls = with_words(WORDS)
    for values, atol in ((PLAIN, 0.0), (PLAIN + subnormal(dtype), 2 * least)):
        p, g = pairs(values, dtype)
        (_, *ours), (_, *theirs) = (computed(cls, executor, p, g) for executor in ("native", "reference"))
        for name, x, y in zip(WORDS, ours, theirs, strict=True):
            if name in TIES:
                x, y = (v.where((p != 0) | (g != 0), 1.0) for v in (x, y))
            assert_alike(x, y, name, atol)


LITERALS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "subtracted_negative": lambda p, g, lr: p - (-0.5) * g,
    "twice_negative": lambda p, g, lr: p - -1.5 * (-2 * g),
    "added_negative": lambda p, g, lr: g + -1.5,
    "large_integers": lambda p, g, lr: g * 50_000 * 50_000,
    "larger_integers": lambda p, g, lr: g * 3_000_000_000 * 3_000_000_000 * 3,
    "integer_quotient": lambda p, g, lr: g * 1 / 2,
    "host_integers": lambda p, g, lr: g * (lr * 70_000 * 70_000),
    "host_negative": lambda p, g, lr: g * (lr - -3),
    "small": lambda p, g, lr: g * 1e-30 * 1e25,
    "infinite": lambda p, g, lr: minimum(g, math.inf),
    "negative_infinite": lambda p, g, lr: p - maximum(g, -math.inf),
    "host_infinite": lambda p, g, lr: g * minimum(lr, math.inf),
    "undefined": lambda p, g, lr: where(lr > 2, math.nan, g),
    "true": lambda p, g, lr: where(True, g, p),
    "false": lambda p, g, lr: where(False, g, p),
}


def test_any_number_may_stand_in_a_rule() -> None:
    """C reads some of Python's numbers otherwise, or not at all."""
    p, g = torch.tensor([1.0, 2.0, -3.0]), torch.tensor([0.5, -0.25, 7.0])
    cls = with_words(LITERALS)
    (_, *ours), (_, *theirs) = (computed(cls, executor, p, g) for executor in ("native", "reference"))
    for name, x, y in zip(LITERALS, ours, theirs, strict=True):
        torch.testing.assert_close(x, y, rtol=4 * EPS, atol=0.0, msg=lambda m, n=name: f"{n}: {m}")


NAMES = [
    *("int", "double", "float", "for", "restrict", "register", "static", "void", "inline", "signed", "typedef"),
    *("pow", "sqrt", "fabs", "gamma", "y1", "j0", "exp", "log", "select", "update", "reduce", "host", "combine"),
    *("item", "constants", "reduced", "sums", "low", "high", "i", "j", "start", "whole", "numbers", "counters"),
    *("c0", "t0", "t1", "lanes0", "p_", "g_", "n_lr", "h_add", "fresh", "phase", "next", "data"),
    *("BLOCK", "SLOTS", "CPU", "FLOAT", "NAN", "INFINITY", "M_PI", "unix", "linux", "errno", "main", "memcpy"),
    *("float32", "float16", "load_float32", "store_float32", "maximum", "maximum_f", "Item", "View", "_", "__x"),
]


def test_state_may_be_called_what_c_calls_its_own() -> None:
    """Every name at a time, each with a value of its own."""
    p, g = torch.tensor([5.0, -6.0, 7.0]), torch.tensor([2.0, 3.0, -4.0])

    def body(p: Any, g: Any, state: Any, lr: Any) -> Any:
        return p - lr * g, *(x + (k + 1) * g for k, x in enumerate(state))

    cls = optimizer_of(
        rule_with(NAMES, body), "pointwise", *(State(name, init=0.5 * k) for k, name in enumerate(NAMES))
    )
    ours, theirs = (computed(cls, executor, p, g, 2) for executor in ("native", "reference"))
    assert all(map(torch.equal, ours, theirs))


def test_hyperparameters_may_be_called_what_c_calls_its_own() -> None:
    names = [name for name in NAMES if name not in ("for", "_")]  # Python keeps these for itself
    arguments = ", ".join(names)
    namespace: dict[str, Any] = {}
    total = " + ".join(f"{k + 1} * {name} * lr" for k, name in enumerate(names))
    exec(f"def made(p, g, *, lr, {arguments}): return p - ({total}) * g", namespace)
    declared = {name: fields.hyper(0.25 * k, "a number") for k, name in enumerate(names)}
    annotations = {"lr": float, **dict.fromkeys(names, float), "foreach": bool, "fused": bool}
    rule = Rule(namespace["made"], "pointwise")
    body = {"lr": fields.lr(0.5), **declared, "foreach": fields.foreach(), "fused": fields.fused(), "rule": rule}
    cls = type("Local", (Optimizer,), {"__annotations__": annotations, **body})
    p, g = torch.tensor([5.0, -6.0, 7.0]), torch.tensor([2.0, 3.0, -4.0])
    ours, theirs = (computed(cls, executor, p, g, 2)[0] for executor in ("native", "reference"))
    torch.testing.assert_close(ours, theirs, rtol=4 * EPS, atol=0.0)


# -- half types -----------------------------------------------------------------------------------------------------


def through(p: Any, g: Any, a: Any, *, lr: Any) -> Any:
    """p becomes g, rounded to p's dtype; a becomes the old p, widened to a's."""
    return g, p


THROUGH = optimizer_of(through, "pointwise", State("a"))


def converted(values: Tensor, wide: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The half-type ``values`` widened, and the float32 ``wide`` rounded, by the kernel's own loads and stores."""
    p = torch.nn.Parameter(values.clone())
    p.grad_dtype = torch.float32
    p.grad = wide
    optimizer = THROUGH([p], fused=True)
    optimizer.state[p]["a"] = torch.zeros(values.shape)
    optimizer.step()
    assert optimizer.state[p]["a"].dtype == torch.float32
    assert p.dtype == dtype
    return optimizer.state[p]["a"], p.detach()


def all_halves(dtype: torch.dtype) -> Tensor:
    return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)


def floats_to_round(dtype: torch.dtype) -> Iterator[Tensor]:
    """Every half number itself, the ties between neighbours and their neighbours in float32, and random bits."""
    exact = all_halves(dtype).float()
    exact = exact[exact.isfinite()].sort().values
    middle = (exact[1:] / 2 + exact[:-1] / 2).clone()
    for x in (exact, middle):
        yield x
        yield torch.nextafter(x, torch.tensor(math.inf))
        yield torch.nextafter(x, torch.tensor(-math.inf))
    most = torch.finfo(dtype).max
    step_up = most - exact[-2].item()
    yield torch.tensor([most + step_up / 2, -most - step_up / 2, most + step_up / 4, math.inf, -math.inf, math.nan])
    source = torch.Generator().manual_seed(3)
    yield torch.randint(-(2**31), 2**31, (1_000_000,), generator=source).to(torch.int32).view(torch.float32)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_half_number_is_widened_exactly(dtype: torch.dtype) -> None:
    values = all_halves(dtype)
    wide, _ = converted(values, torch.zeros(values.shape), dtype)
    assert same(wide, values.float())


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_floats_are_rounded_to_half_numbers_as_torch_does(dtype: torch.dtype) -> None:
    """To nearest, ties to even, with overflow to infinity and gradual underflow."""
    values = torch.cat(list(floats_to_round(dtype)))
    assert values.numel() > 1_300_000
    _, rounded = converted(torch.zeros(values.shape, dtype=dtype), values, dtype)
    assert same(rounded, values.to(dtype))


# -- rules that nobody wrote yet ------------------------------------------------------------------------------------


def lamb_like(p: Any, g: Any, m: Any, v: Any, r: Any, *, t: Any, lr: Any, x: Any) -> Any:
    """The second norm is of what the first has scaled, the third of what the second has; one is kept as state."""
    h = g / (norm(g) + 1e-6)
    m = lerp(m, h, 1 - x)
    v = x * v + (1 - x) * m * m
    u = m / (1 - x**t) / (sqrt(v) + 1e-3) + 0.01 * p
    ratio = where(norm(p) > 0, norm(p) / (norm(u) + 1e-6), 1.0)
    r = 0.5 * r + ratio
    return p - lr * minimum(r, 10.0) * u / (norm(u * ratio) + 1e-6), m, v, r


def spreading(p: Any, g: Any, a: Any, *, lr: Any) -> Any:
    """State like p is given one number per tensor."""
    return p - lr * g / (absolute(a) + 1), norm(g) + norm(p * g)


PER_TENSOR = [
    optimizer_of(
        lamb_like,
        "per_tensor",
        State("step", "step"),
        State("m"),
        State("v"),
        State("r", "tensor_scalar"),
    ),
    optimizer_of(spreading, "per_tensor", State("a")),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("cls", PER_TENSOR, ids=lambda cls: cls.rule.fn.__name__)
def test_norms_of_what_other_norms_have_scaled(cls: type[Optimizer], dtype: torch.dtype) -> None:
    shapes = [(3,), (), (0,), (40, 50), (1025,), (1,)]
    source = torch.Generator().manual_seed(3)
    draw = lambda: [torch.randn(s, generator=source, dtype=torch.float64).to(dtype) for s in shapes]  # noqa: E731
    start, grads = draw(), [draw() for _ in range(3)]
    ours, plain = (build(cls, [x.clone() for x in start], executor, {}) for executor in ("native", "reference"))
    for of_step in grads:
        step(ours, of_step)
        step(plain, of_step)
    assert_agree(ours, plain, dtype)


def run_natively(drawn: Drawn, kind: Any) -> None:
    """Four random tensors and numbers through one step of a kernel, against the rule itself; see test_plan.check."""
    rule = drawn.rule(kind)
    inputs, k = inputs_of_plans(5), 0.4
    params = [torch.nn.Parameter(x.clone()) for x in inputs["p"]]
    for p, g in zip(params, inputs["g"], strict=True):
        p.grad = g.clone()
    optimizer = optimizer_of(rule.fn, kind, *rule.state)(params, **SWITCHES["native"])
    for index, p in enumerate(params):
        counted = {"step": NUMBERS["t"] - 1, "k": k}
        optimizer.state[p] = {name: torch.tensor(value, dtype=torch.float64) for name, value in counted.items()}
        optimizer.state[p].update({name: inputs[name][index].clone() for name in "abc"})
    optimizer.step()
    for index, p in enumerate(params):
        held = [inputs[name][index] for name in ("p", "g", "a", "b", "c")]
        values = drawn.evaluate([*(x.clone() for x in held), k, *NUMBERS.values()])
        got = [p.detach(), *(optimizer.state[p][name] for name in ("a", "b", "c", "k"))]
        tolerance = 1e-10 * largest(values) ** 2
        for mine, place in zip(got, drawn.outputs, strict=True):
            plain = torch.as_tensor(values[place], dtype=torch.float64)
            torch.testing.assert_close(mine, plain.broadcast_to(mine.shape), rtol=1e-10, atol=tolerance)
        assert torch.equal(p.grad, inputs["g"][index])
    assert len(SHAPES) == len(params)


@settings(max_examples=14)
@given(programs(reduces=False))
def test_random_pointwise_rules_run_as_they_read(drawn: Drawn) -> None:
    run_natively(drawn, "pointwise")


@settings(max_examples=14)
@given(programs(reduces=True))
def test_random_per_tensor_rules_run_as_they_read(drawn: Drawn) -> None:
    run_natively(drawn, "per_tensor")
