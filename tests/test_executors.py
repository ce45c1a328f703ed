"""Every rule on every executor: dtypes, odd shapes and layouts, NaN and inf, `.grad`, memory, number of calls.

All executors do the same arithmetic in another order, so they differ by k eps of the tensor's largest element:
k = 64 after three steps of some ten roundings (float32, float64, complex64); half types compute in float32 and round
at the store, so they differ only where float32's difference tips a rounding: 2 eps of the half type per step, k = 8.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cases import (
    BRANCHING,
    PLANNED,
    PLANNED_TWINS,
    SWITCHES,
    TWINS,
    Options,
    Twins,
    alternatives,
    cases,
    every_executor,
    every_planned_class,
    every_pointwise_executor,
    every_structure,
    exactly,
    executors_of,
    hyperparameters,
    is_valid,
    label,
    of_each_structure,
    same,
    snapshot,
)
from shapes import fitted
from steepest import Optimizer, Rule, State, fields
from steepest.executors import choose, foreach, reference
from steepest.executors.base import Executor
from steepest.executors.plan import make_plan
from steepest.group import GroupSpec
from steepest.trace import trace
from steepest.vocabulary import (
    WORDS,
    absolute,
    axis_max,
    axis_mean,
    axis_total,
    column_mean,
    lerp,
    maximum,
    mean,
    minimum,
    norm,
    rms,
    row_mean,
    sign,
    sqrt,
    total,
    unit_norm,
    where,
)

HALVES = [torch.bfloat16, torch.float16]
DTYPES = [torch.float32, torch.float64, torch.complex64, *HALVES]
FACTOR = {torch.bfloat16: 8, torch.float16: 8}

UNBOUNDED = {"clip_exp": None}
"""Options with which a rule divides by gradients near 0, and so multiplies the last bits of these."""

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))


def everything_on(cls: type[Optimizer]) -> Options:
    """As many options off their defaults as go together."""
    options: Options = {}
    for name, field in hyperparameters(cls).items():
        if is_valid(cls, {**options, name: alternatives(field)[0]}):
            options[name] = alternatives(field)[0]
    return options


ROWS = [(cls, options) for cls in PLANNED.values() for options in ({}, everything_on(cls))]
every_row = pytest.mark.parametrize(("cls", "options"), cases(ROWS))
PLANNED_ROWS = [(cls, options) for cls, options in ROWS if "foreach" in executors_of(cls)]
every_planned_row = pytest.mark.parametrize(("cls", "options"), cases(PLANNED_ROWS))


def test_every_executor_is_tested() -> None:
    # Those with tests of their own: test_drivers.py, test_sparse.py, test_torch_fused.py, tests/gpu.
    others = {"driver", "sparse", "torch", "triton"}
    assert SWITCHES.keys() | others == {executor.name for executor in choose.EXECUTORS}


# -- odd tensors -----------------------------------------------------------------------------------------------------


def layouts(dtype: torch.dtype) -> dict[str, Callable[[Tensor], Tensor]]:
    """Ways to lay a (2, 6, 4, 4) tensor out in memory."""
    return {
        "contiguous": lambda x: x.clone(),
        "channels_last": lambda x: x.to(memory_format=torch.channels_last),
        "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
        "strided": lambda x: torch.stack([x, x], -1)[..., 0],
        "permuted": lambda x: x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    }


def drawn(shape: tuple[int, ...], dtype: torch.dtype, source: torch.Generator) -> Tensor:
    """Values of size about 1, none near 0."""
    x = torch.randn(shape, generator=source, dtype=torch.complex128 if dtype.is_complex else torch.float64)
    return (x + 0.1 * torch.sgn(x)).to(dtype)


def odd_tensors(dtype: torch.dtype, seed: int) -> list[Tensor]:
    """0-d, one element, empty, plain, and one tensor in every layout."""
    source = torch.Generator().manual_seed(seed)
    plain = [drawn(shape, dtype, source) for shape in [(), (1,), (0,), (3, 0, 2), (7,), (3, 5)]]
    return plain + [laid(drawn((2, 6, 4, 4), dtype, source)) for laid in layouts(dtype).values()]


def odd_gradients(dtype: torch.dtype, seed: int) -> list[Tensor]:
    """Gradients whose layouts differ from their parameters'; one is expanded from a single number (stride 0)."""
    *plain, contiguous, last, transposed, strided, _ = odd_tensors(dtype, seed)
    expanded = drawn((), dtype, torch.Generator().manual_seed(seed)).expand(2, 6, 4, 4)
    return [*plain, transposed, contiguous, last, expanded, strided]


def build(cls: type[Optimizer], tensors: list[Tensor], executor: str, options: Options) -> Any:
    tensors = [x.detach().reshape(fitted(cls, tuple(x.shape))) for x in tensors]
    optimizer = cls([torch.nn.Parameter(x) for x in tensors], **options, **SWITCHES[executor])
    assert optimizer.executor == executor
    return optimizer


def step(optimizer: torch.optim.Optimizer, grads: list[Tensor]) -> None:
    """One step, after which every gradient is bit by bit what it was, and has never been written to."""
    params = optimizer.param_groups[0]["params"]
    grads = [g.reshape(p.shape) for p, g in zip(params, grads, strict=True)]
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    before = [(g.clone(), g._version) for g in grads]
    optimizer.step()
    for p, g, (kept, version) in zip(params, grads, before, strict=True):
        assert p.grad is g
        assert g._version == version
        assert torch.equal(torch.nan_to_num(g), torch.nan_to_num(kept))
        assert torch.equal(g.isnan(), kept.isnan())


def told(name: str) -> Callable[[str], str]:
    """Say which tensor it was."""
    return lambda message: f"{name}: {message}"


def assert_agree(ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer, dtype: torch.dtype) -> None:
    """Equal within the stated bound; NaN and inf stand in the same places."""
    k = FACTOR.get(dtype, 64) * torch.finfo(dtype).eps
    k *= 16 if UNBOUNDED.items() <= ours.param_groups[0].items() else 1
    k *= 64 if any(s.exact for s in type(ours).rule.state) else 1  # p - x0 has lost digits of p
    for (p, held), (q, other) in zip(snapshot(ours), snapshot(theirs), strict=True):
        assert list(held) == list(other)
        for name, a, b in [("param", p, q), *((n, held[n], other[n]) for n in held)]:
            finite = b[b.isfinite()].abs()
            largest = finite.max().item() if finite.numel() else 0.0
            assert a.stride() == b.stride(), name
            torch.testing.assert_close(a, b, rtol=k, atol=k * largest, equal_nan=True, msg=told(name))


def compare(cls: type[Optimizer], options: Options, tensors: list[Tensor], grads: list[list[Tensor]]) -> None:
    """The executor of many tensors (foreach, or stacked) against reference."""
    cls = exactly(cls)
    fast, plain = (build(cls, [x.clone() for x in tensors], executor, options) for executor in executors_of(cls)[1::-1])
    for of_step in grads:
        step(fast, of_step)
        step(plain, [g.clone() for g in of_step])
    assert_agree(fast, plain, tensors[0].dtype)


@pytest.mark.thin("structure", "dtype")
@every_dtype
@every_row
def test_foreach_is_reference_on_odd_shapes_and_layouts(
    cls: type[Optimizer], options: Options, dtype: torch.dtype
) -> None:
    compare(cls, options, odd_tensors(dtype, 1), [odd_gradients(dtype, seed) for seed in (2, 3, 4)])


@pytest.mark.thin("structure", "dtype")
@every_dtype
@every_row
def test_foreach_is_reference_in_chunks(
    cls: type[Optimizer], options: Options, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of 50 elements: some tensors are sliced, some stand alone, some share a chunk."""
    monkeypatch.setattr(foreach, "CHUNK", 50)
    compare(cls, options, odd_tensors(dtype, 1), [odd_gradients(dtype, seed) for seed in (2, 3)])


@pytest.mark.every(4)
@every_structure
def test_tensors_larger_than_a_chunk(cls: type[Optimizer]) -> None:
    source = torch.Generator().manual_seed(1)
    shapes = [(3,), (foreach.CHUNK + 17,), (5,), (2, foreach.CHUNK), (1,)]
    make = lambda: [drawn(shape, torch.float32, source) for shape in shapes]  # noqa: E731
    compare(cls, {}, make(), [make(), make()])


NAN, INF = float("nan"), float("inf")


@pytest.mark.thin("structure", "dtype")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES], ids=lambda d: str(d).removeprefix("torch."))
@every_row
def test_nan_and_inf_stand_where_reference_has_them(cls: type[Optimizer], options: Options, dtype: torch.dtype) -> None:
    """Bad values in the first, a later or every step, in elements and in whole tensors."""
    if cls in BRANCHING.values():
        pytest.skip("a last bit turns the basis that rows of low rank leave open; see test_soap.py")
    source = torch.Generator().manual_seed(4)
    tensors = [drawn((8,), dtype, source), torch.tensor(1.0, dtype=dtype), drawn((8,), dtype, source)]
    bad = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1.0, INF, 1.0], dtype=dtype)
    later = torch.tensor([1.0, INF, INF, 0.0, NAN, -INF, 1.0, 1.0], dtype=dtype)
    good = [drawn((8,), dtype, source) for _ in range(2)]
    grads = [[bad, torch.tensor(INF, dtype=dtype), good[0]], [later, torch.tensor(NAN, dtype=dtype), good[1]]]
    compare(cls, options, tensors, [*grads, [good[0], torch.tensor(1.0, dtype=dtype), good[0]]])


@pytest.mark.thin("structure", "executor")
@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: str(d).removeprefix("torch."))
@every_executor
@every_row
def test_half_types_are_float32_rounded_once(
    cls: type[Optimizer], options: Options, executor: str, dtype: torch.dtype
) -> None:
    """Before each step the float32 twin takes over what the half-type run holds; after it, rounding gives its bits.

    lr and other numbers that state may start at are numbers of the half type, and what follows from the dtype (None) is
    given.
    """
    starts = {"lr", *(s.init for s in cls.rule.state if s.init in cls.fields)}
    given = {name: f.candidates[0] for name, f in cls.fields.items() if f.candidates and has_none(f.default)}
    options = {**given, **options, **dict.fromkeys(starts, 2.0**-6)}
    optimizer = build(cls, odd_tensors(dtype, 1), executor, options)
    twin = build(cls, [x.detach().float() for x in optimizer.param_groups[0]["params"]], executor, options)
    for seed in (2, 3, 4):
        grads = odd_gradients(dtype, seed)
        take_over(twin, optimizer)
        step(optimizer, grads)
        step(twin, [g.float() for g in grads])
        for (p, held), (q, wide) in zip(snapshot(optimizer), snapshot(twin), strict=True):
            assert same(p, q.to(dtype))
            assert all(same(held[name], wide[name].to(held[name].dtype)) for name in held)


def has_none(value: Any) -> bool:
    return isinstance(value, tuple) and None in value


def take_over(twin: torch.optim.Optimizer, optimizer: torch.optim.Optimizer) -> None:
    for q, (p, held) in zip(twin.param_groups[0]["params"], snapshot(optimizer), strict=True):
        q.data.copy_(p)
        for name, value in held.items():
            twin.state[q][name].copy_(value)


# -- which executor runs ---------------------------------------------------------------------------------------------


@every_planned_class
def test_none_chooses_the_last_executor_and_switches_are_obeyed(cls: type[Optimizer]) -> None:
    """Executors are listed from the slowest to the fastest."""
    params = [torch.nn.Parameter(torch.ones(2, 2))]
    slowest, *_, fastest = executors_of(cls)
    assert slowest == "reference"
    assert cls(params).executor == fastest != slowest
    if "fused" in cls.fields:
        assert cls(params, fused=False).executor == "foreach"
    for executor, switch in SWITCHES.items():
        if executor in executors_of(cls):
            assert cls(params, **switch).executor == executor


@every_planned_class
def test_what_a_class_does_not_offer_is_refused(cls: type[Optimizer]) -> None:
    """An executor, when it is asked for; complex parameters, at the first step as in torch."""
    for executor in SWITCHES.keys() - set(executors_of(cls)):
        if SWITCHES[executor] not in (SWITCHES[name] for name in executors_of(cls)):
            with pytest.raises((TypeError, RuntimeError), match="fused"):
                cls([torch.ones(2, 2)], **SWITCHES[executor])
    p = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))
    p.grad = torch.ones_like(p)
    optimizer = cls([p])
    if cls.rule.is_real:
        with pytest.raises(RuntimeError, match=f"^{cls.__name__} does not support complex parameters"):
            optimizer.step()
    else:
        for _ in range(5):  # some rules only fill their state at the first step, RAdamScheduleFree rests for four
            optimizer.step()
        assert p.ne(1).all()


@pytest.mark.thin("structure", "executor")
@every_planned_class
@every_executor
def test_what_was_asked_for_really_runs(cls: type[Optimizer], executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def watched(executor: Executor) -> Executor:
        return replace(executor, make_buckets=lambda live: (ran.append(executor.name), executor.make_buckets(live))[1])

    monkeypatch.setattr(choose, "EXECUTORS", tuple(map(watched, choose.EXECUTORS)))
    step(build(cls, [torch.ones(2)], executor, {}), [torch.ones(2)])
    assert set(ran) == {executor}


def test_none_leaves_tensor_subclasses_to_the_reference_executor() -> None:
    class Tagged(torch.nn.Parameter):
        pass

    cls = next(iter(PLANNED.values()))
    assert cls([Tagged(torch.ones(2))]).executor == "reference"
    assert cls([Tagged(torch.ones(2))], foreach=True).executor == "foreach"


@every_planned_class
def test_switches_that_contradict_each_other_raise(cls: type[Optimizer]) -> None:
    params = [torch.nn.Parameter(torch.ones(2, 2))]
    for asked, other in (("foreach", "differentiable"), ("fused", "differentiable"), ("fused", "foreach")):
        if {asked, other} <= cls.fields.keys():
            with pytest.raises(RuntimeError, match=f"`{asked}` (does not support|and) `{other}`"):
                cls(params, **{asked: True, other: True})


@pytest.mark.parametrize("foreach", [None, False])
@every_planned_class
def test_a_capturable_step_keeps_its_numbers_in_tensors(
    cls: type[Optimizer], foreach: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU has no graphs to capture: torch's error. Where a device had, the step would be the plain one."""
    if "capturable" not in cls.fields:
        pytest.skip("torch's class, or ours, has no capturable")
    options = {"lr": torch.tensor(0.01), "max_norm": 0.5, "ema_decay": 0.9, "foreach": foreach}
    grads = [[drawn((3, 2), torch.float32, torch.Generator().manual_seed(seed))] for seed in (2, 3, 4)]
    capturable, plain = (cls([torch.nn.Parameter(torch.ones(3, 2))], capturable=c, **options) for c in (True, False))
    capturable.param_groups[0]["params"][0].grad = grads[0][0]
    with pytest.raises(AssertionError, match="If capturable=True, params and state_steps must be on supported devices"):
        capturable.step()
    monkeypatch.setattr(reference, "_get_capturable_supported_devices", lambda: ["cpu"])
    assert not capturable.state, "a step that did not run is no first step"
    for of_step in grads:
        step(capturable, of_step)
        step(plain, of_step)
    assert capturable.executor == ("foreach" if foreach is None else "reference")
    assert_agree(capturable, plain, torch.float32)


@pytest.mark.thin("structure", "executor")
@every_planned_class
@every_executor
def test_a_step_draws_no_random_numbers(cls: type[Optimizer], executor: str) -> None:
    before = torch.get_rng_state()
    optimizer = build(cls, [torch.ones(2)], executor, {})
    step(optimizer, [torch.ones(2)])
    step(optimizer, [torch.ones(2)])
    assert torch.equal(torch.get_rng_state(), before)


# -- memory and calls ------------------------------------------------------------------------------------------------


class Watch(TorchDispatchMode):
    """Counts operators, and the bytes of tensors that live at once and did not exist before."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.known = {x.untyped_storage().data_ptr() for x in known}
        self.live: dict[int, list[int]] = {}
        self.bytes = self.peak = self.calls = self.list_calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        self.list_calls += "_foreach_" in str(func)
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.untyped_storage().nbytes():
                self._born(x)
        return out

    def _born(self, x: Tensor) -> None:
        storage = x.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key in self.known:
            return
        holders = self.live.setdefault(key, [0, size])
        self.bytes += 0 if holders[0] else size
        holders[0] += 1
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(x, self._gone, key)

    def _gone(self, key: int) -> None:
        self.live[key][0] -= 1
        if not self.live[key][0]:
            self.bytes -= self.live.pop(key)[1]


def watched(optimizer: torch.optim.Optimizer) -> Watch:
    """The third step under watch; state, plans and partitions exist by then."""
    params = optimizer.param_groups[0]["params"]
    for _ in range(2):
        optimizer.step()
    held = [x for state in optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
    with Watch([*params, *(p.grad for p in params), *held]) as watch:
        optimizer.step()
    return watch


def with_gradients(shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    source = torch.Generator().manual_seed(3)
    params = [torch.nn.Parameter(drawn(shape, dtype, source)) for shape in shapes]
    for p in params:
        p.grad = drawn(tuple(p.shape), dtype, source)
    return params


def twin_rows() -> Iterator[Any]:
    """Classes that torch has, plain and with all of torch's options on."""
    for cls, options in PLANNED_ROWS:
        if cls.__name__.lower() in TWINS:
            theirs = TWINS[cls.__name__.lower()][1]
            probe = theirs([torch.nn.Parameter(torch.ones(1, 1))])
            yield pytest.param(cls, {n: v for n, v in options.items() if n in probe.defaults}, id=label(cls, options))


@pytest.mark.every(4)
@pytest.mark.parametrize("count", [10, 60], ids=["below-a-chunk", "above-a-chunk"])
@pytest.mark.parametrize(("cls", "options"), list(twin_rows()))
def test_temporaries_are_no_larger_than_torchs(cls: type[Optimizer], options: Options, count: int) -> None:
    """Beside them a plan boxes its numbers, 0-dim tensors of 4 bytes: at most 16. Words without a list form make lists
    where torch works tensor by tensor: at most three lists of numbers live at a time, of one chunk.
    """
    shapes = [(10_000,)] * count
    assert (10_000 * count > foreach.CHUNK) == (count == 60)
    ours = watched(cls(with_gradients(shapes), foreach=True, **options))
    theirs = watched(TWINS[cls.__name__.lower()][1](with_gradients(shapes), foreach=True, **options))
    lists = 3 * 4 * min(10_000 * count, foreach.CHUNK) if one_by_one(cls, options) else 0
    assert ours.peak <= theirs.peak + lists + 16 * 4


@pytest.mark.every(5)
@pytest.mark.parametrize(("cls", "options"), of_each_structure(PLANNED_ROWS, 2))
def test_temporaries_of_a_long_list_are_one_chunk(cls: type[Optimizer], options: Options) -> None:
    """Beside it there are boxed numbers, and for clipping each tensor's norm, alone and stacked: 8 bytes."""
    chunk = foreach.CHUNK // 5_000
    lists = ([(5_000,)] * n for n in (chunk, 3 * chunk))
    short, long = (watched(cls(with_gradients(shapes), foreach=True, **options)) for shapes in lists)
    assert short.peak <= 4 * 4 * foreach.CHUNK
    assert long.peak <= short.peak + 16 * 4 + 8 * 2 * chunk


def one_by_one(cls: type[Optimizer], options: Options) -> int:
    """How many words of the plan have no list form, and are called for each tensor."""
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = cls([p], **options)
    spec = GroupSpec.of(cls, optimizer.param_groups[0], p)
    names = (*spec.numbers, "t")
    programs = [each.program(p) for each in (spec, spec.measuring()) if each is not None]
    sources = [make_plan(trace(program, names)).source for program in programs]
    alone = [name for name, word in WORDS.items() if word.reduces != "nothing" and word.on_lists is None]
    calls = (" for x0", *(f"({name}, " for name in alone))
    return sum(source.count(call) for source in sources for call in calls)


@every_planned_row
def test_the_number_of_calls_grows_with_the_list_by_words_without_a_list_form(
    cls: type[Optimizer], options: Options
) -> None:
    """Such a word is one call of torch's for each tensor, or two."""
    few, many = (watched(cls(with_gradients([(3,)] * n), foreach=True, **options)) for n in (3, 40))
    words = one_by_one(cls, options)
    assert few.list_calls == many.list_calls
    assert 37 * words <= many.calls - few.calls <= 2 * 37 * words
    plain = watched(cls(with_gradients([(3,)] * 40), foreach=False, **options))
    assert plain.calls > many.calls


FOREACH_TWINS = {name: twins for name, twins in PLANNED_TWINS.items() if "foreach" in executors_of(twins[0])}


@pytest.mark.parametrize("twins", FOREACH_TWINS.values(), ids=list(FOREACH_TWINS))
def test_no_more_calls_than_torchs_foreach(twins: Twins) -> None:
    """Where words have no list form torch works tensor by tensor too, and all calls count."""
    ours, theirs = (watched(cls(with_gradients([(3,)] * 50), foreach=True)) for cls in twins)
    if one_by_one(twins[0], {}):
        assert ours.calls <= theirs.calls
    else:
        assert ours.list_calls <= theirs.list_calls


# -- rules that are defined here -------------------------------------------------------------------------------------


def optimizer_of(fn: Callable[..., Any], kind: Any = "pointwise", *state: State) -> type[Optimizer]:
    """A class around a rule, with ``lr`` and ``rho``."""

    class Local(Optimizer):
        """A rule of this test."""

        lr: float = fields.lr(0.1)
        rho: float = fields.hyper(0.9, "a decay", low=0.0, high=1.0)
        weight_decay: float = fields.weight_decay()
        _: KW_ONLY
        maximize: bool = fields.maximize()
        foreach: bool | None = fields.foreach()
        fused: bool | None = fields.fused()
        rule = Rule(fn, kind, state)

    return Local


STEP = State("step", "step")


def pointwise(p: Any, g: Any, m: Any, *, lr: Any, rho: Any, t: Any) -> Any:
    m = rho * m + (1 - rho) * g
    return p - lr * m / (1 - rho**t), m


def per_tensor(p: Any, g: Any, v: Any, *, lr: Any, rho: Any) -> Any:
    v = rho * v + (1 - rho) * norm(g) ** 2
    return p - lr * norm(p) * g / (sqrt(v) + 1e-3), v


def with_scalar_state(p: Any, g: Any, k: Any, *, lr: Any, rho: Any) -> Any:
    k = k * rho + 1
    return p - lr / k * g, k


def with_where(p: Any, g: Any, last: Any, rate: Any, *, lr: Any) -> Any:
    rate = where(g * last > 0, 1.2 * rate, where(g * last < 0, 0.5 * rate, rate))
    return p - lr * rate * sign(g), g, rate


def with_numbers(p: Any, g: Any, *, lr: Any) -> Any:
    """Numbers that float32 cannot hold: of a tensor's comparison, of a pick between two, of a comparison per tensor."""
    positive, large = g > 0, absolute(g) > 0.7
    rate = where(positive, 1.2, 0.3, like=g) + where(where(positive, large, g == 0), 0.1, -0.7, like=p)
    return p - lr * lerp(rate, where(norm(g) > 1.9, 0.9, p), 0.6) * g


def factored(p: Any, g: Any, r: Any, c: Any, m: Any, *, lr: Any, rho: Any) -> Any:
    """Every rank meets every other; on what has no rows there is nothing but the number."""
    if r is None:
        return p - lr * rms(g) * g, r, c, m
    r = lerp(r, row_mean(g * c), 1 - rho)
    whole, mean = maximum(absolute(r * c) + 1, row_mean(c) + 0.5), column_mean(row_mean(p))
    c = c * rho + column_mean(r + mean * g) / (rms(r) + 1)
    return p - lr * where(r > mean, whole, g) / norm(whole), r, c, m + r * g


def nested(p: Any, g: Any, r: Any, c: Any, k: Any, *, lr: Any, rho: Any) -> Any:
    """Sums of elements, of rows, of columns and of matrices, each of what the ones before it tell."""
    if r is None:
        return p - lr * g, r, c, k
    r = lerp(r, row_mean(g * g), rho)
    s = column_mean(r)
    c = maximum(c, column_mean(absolute(g) / (1 + r)) / (1 + s))
    k = norm(r) + mean(c) + total(s) + row_mean(c) * 0 + rms(g / (1 + c))
    return p - lr * g / (1 + r + c * s + k), r, c, mean(k)


def by_unit(p: Any, g: Any, m: Any, *, lr: Any) -> Any:
    m = lerp(m, g / maximum(unit_norm(g), 0.5), 0.25)
    return p - lr * m * unit_norm(p) * minimum(norm(unit_norm(m)), 2.0), m


def by_index(p: Any, g: Any, a: Any, *, lr: Any) -> Any:
    if a is None:
        return p - lr * g, a
    a = a + axis_total(g * g, 0)
    return p - lr * g / sqrt(a + axis_mean(absolute(p), 0)), a


def has_rows(p: Tensor) -> bool:
    return p.dim() > 1


def returning_gradient(p: Any, g: Any, last: Any, *, lr: Any) -> Any:
    return p - lr * (2 * g - last), g


def swapping(p: Any, g: Any, a: Any, b: Any, *, lr: Any) -> Any:
    return p - lr * (g + a), b, a + g


def exchanging(p: Any, g: Any, a: Any, b: Any, *, lr: Any) -> Any:
    return p - lr * g * a, b, a


def rotating(p: Any, g: Any, a: Any, b: Any, *, lr: Any) -> Any:
    return a, b, p


def replacing(p: Any, g: Any, a: Any, *, lr: Any) -> Any:
    return a, p - lr * g


def stateless(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * maximum(g, 0.0) ** 2


def switching(p: Any, g: Any, m: Any, *, lr: Any, t: Any) -> Any:
    u = where(t > 2, g / 3, 1.0)
    return p - lr * u * u, lerp(m, u, 0.25)


LOCAL = [
    optimizer_of(pointwise, "pointwise", STEP, State("m")),
    optimizer_of(per_tensor, "per_tensor", State("v", "tensor_scalar", init=1.0)),
    optimizer_of(with_scalar_state, "pointwise", State("k", "scalar", init=0.5)),
    optimizer_of(with_where, "pointwise", State("last"), State("rate", init=1.0)),
    optimizer_of(with_numbers, "per_tensor"),
    optimizer_of(
        factored,
        "per_tensor",
        State("r", "row", where=has_rows, init=0.5),
        State("c", "column", where=has_rows, init=1.0),
        State("m", where=has_rows),
    ),
    optimizer_of(
        nested,
        "per_tensor",
        State("r", "row", where=has_rows, init=0.5),
        State("c", "column", where=has_rows),
        State("k", "tensor_scalar", where=has_rows),
    ),
    optimizer_of(by_unit, "per_tensor", State("m")),
    optimizer_of(by_index, "per_tensor", State("a", "axis_0", where=has_rows)),
    optimizer_of(returning_gradient, "pointwise", State("last")),
    optimizer_of(swapping, "pointwise", State("a"), State("b", init=0.5)),
    optimizer_of(exchanging, "pointwise", State("a"), State("b", init=0.5)),
    optimizer_of(rotating, "pointwise", State("a"), State("b", init=0.5)),
    optimizer_of(replacing, "pointwise", State("a", init="param")),
    optimizer_of(stateless),
    optimizer_of(switching, "pointwise", STEP, State("m")),
]
every_local = pytest.mark.parametrize("cls", LOCAL, ids=lambda c: c.rule.fn.__name__)


@pytest.mark.thin("cls", "options")
@every_local
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "maximize": True, "ema_decay": 0.5}], ids=str)
def test_a_rule_of_a_test_file_gets_every_executor(cls: type[Optimizer], dtype: torch.dtype, options: Options) -> None:
    compare(cls, options, odd_tensors(dtype, 1), [odd_gradients(dtype, seed) for seed in (2, 3, 4, 5)])


@pytest.mark.usefixtures("float64_default")
@every_local
@every_executor
def test_and_computes_what_it_says(cls: type[Optimizer], executor: str) -> None:
    """The rule's function itself, called by hand on float64 tensors for four steps."""
    tensors, rule = [drawn((2, 3), torch.float64, torch.Generator().manual_seed(7))], cls.rule
    optimizer = build(cls, [x.clone() for x in tensors], executor, {})
    p = tensors[0]
    held = [s.create(p, {}) if s.kind != "scalar" else s.init for s in rule.state if s.kind != "step"]
    for t in (1, 2, 3, 4):
        g = drawn((2, 3), torch.float64, torch.Generator().manual_seed(t))
        step(optimizer, [g])
        result = rule.fn(p, g, *held, **{n: v for n, v in {"lr": 0.1, "rho": 0.9, "t": t}.items() if n in rule.names})
        p, *held = result if isinstance(result, tuple) else (result,)
        ((q, state),) = snapshot(optimizer)
        torch.testing.assert_close(q, p, rtol=1e-13, atol=1e-13)
        for name, value in zip(rule.arguments, held, strict=True):
            torch.testing.assert_close(state[name], torch.as_tensor(value), rtol=1e-13, atol=1e-13)


def across(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * axis_max(p, 0) * g


def along(p: Any, g: Any, a: Any, *, lr: Any) -> Any:
    return p - lr * a * g, a + axis_total(g, 1)


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (across, "does not have the word axis_max"),
        (along, "has sums of whole tensors, matrices, rows and columns, not"),
    ],
)
def test_what_the_native_executor_does_not_know_runs_on_foreach(fn: Callable[..., Any], reason: str) -> None:
    """By default, with the reason; and what was asked for raises."""
    cls = optimizer_of(fn, "per_tensor", *([State("a", "axis_1")] if fn is along else []))
    params = [torch.nn.Parameter(torch.ones(2, 2))]
    optimizer = cls(params)
    step(optimizer, [torch.ones(2, 2)])
    assert optimizer.executor == "foreach"
    assert reason in optimizer.executor.reason
    with pytest.raises(RuntimeError, match=rf"`fused=True` cannot run .*{reason}.*; leave fused=None"):
        step(cls(params, fused=True), [torch.ones(2, 2)])


def doubled(p: Any, g: Any, *, lr: Any) -> Any:
    return p - where(g > 0, 0.1, 0.3, like=g)


@every_pointwise_executor
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_numbers_picked_by_element_have_the_parameters_dtype(dtype: torch.dtype, executor: str) -> None:
    """Whatever the default dtype is."""
    optimizer = build(optimizer_of(doubled), [torch.zeros(2, dtype=dtype)], executor, {})
    step(optimizer, [torch.tensor([1.0, -1.0], dtype=dtype)])
    assert optimizer.param_groups[0]["params"][0].tolist() == torch.tensor([-0.1, -0.3], dtype=dtype).tolist()


def branches_on_a_tensor(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * g if g > 0 else p


def branches_on_a_number(p: Any, g: Any, *, lr: Any, t: Any) -> Any:
    return p - lr * g if t > 3 else p


def makes_a_tensor(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * g * torch.zeros(2)


def calls_a_method(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * g.clamp(0.0)


def calls_torch(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * torch.exp(g)


def iterates(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * sum(g)


def indexes(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * g[0]


def uses_a_norm(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * g / norm(g)


def returns_a_number(p: Any, g: Any, *, lr: Any) -> Any:
    return lr


def returns_a_constant(p: Any, g: Any, *, lr: Any) -> Any:
    return 0.5


def state_becomes_a_number(p: Any, g: Any, a: Any, *, lr: Any) -> Any:
    return p - lr * g, lr


def state_becomes_a_constant(p: Any, g: Any, a: Any, *, lr: Any) -> Any:
    return p - lr * g, 0.0


def scalar_becomes_a_tensor(p: Any, g: Any, k: Any, *, lr: Any) -> Any:
    return p - lr * g, g


def number_becomes_full(p: Any, g: Any, v: Any, *, lr: Any) -> Any:
    return p - lr * g, v + g


def rows_of_a_number(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * row_mean(norm(g)) * g


def columns_of_columns(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * column_mean(column_mean(g)) * g


def rows_in_a_pointwise_rule(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * row_mean(g)


def row_becomes_full(p: Any, g: Any, r: Any, *, lr: Any) -> Any:
    return p - lr * g, r + g


def row_becomes_a_column(p: Any, g: Any, r: Any, *, lr: Any) -> Any:
    return p - lr * g, column_mean(g)


def too_few_states(p: Any, g: Any, a: Any, *, lr: Any) -> Any:
    return p - lr * g


def too_many_states(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * g, g


FORBIDDEN: list[tuple[Callable[..., Any], Any, tuple[State, ...], str]] = [
    (branches_on_a_tensor, "pointwise", (), r"branches on a tensor; use where"),
    (branches_on_a_number, "pointwise", (STEP,), r"branches on a number that changes from step to step; use where"),
    (makes_a_tensor, "pointwise", (), r"makes a tensor of its own; declare it as a State"),
    (calls_a_method, "pointwise", (), r"calls \.clamp\(\); a rule may use operators and the words"),
    (calls_torch, "pointwise", (), r"calls exp; a rule may use operators and the words"),
    (iterates, "pointwise", (), r"iterates over a traced value|a rule works on whole tensors"),
    (indexes, "pointwise", (), r"calls getitem; a rule may use operators"),
    (uses_a_norm, "pointwise", (), r"declared pointwise but uses norm; declare it Rule\(uses_a_norm, 'per_tensor'\)"),
    (returns_a_number, "pointwise", (), r"must return the new p first"),
    (returns_a_constant, "pointwise", (), r"must return the new p first"),
    (state_becomes_a_number, "pointwise", (State("a"),), r"returns .* for state 'a'"),
    (state_becomes_a_constant, "pointwise", (State("a"),), r"returns .* for state 'a'"),
    (scalar_becomes_a_tensor, "pointwise", (State("k", "scalar"),), r"returns .* for state 'k'"),
    (number_becomes_full, "per_tensor", (State("v", "tensor_scalar"),), r"returns .* for state 'v'"),
    (rows_of_a_number, "per_tensor", (), r"takes row_mean of one number per tensor, which has no columns to average"),
    (columns_of_columns, "per_tensor", (), r"takes column_mean of one number per column, which has no rows to average"),
    (rows_in_a_pointwise_rule, "pointwise", (), r"declared pointwise but uses row_mean"),
    (row_becomes_full, "per_tensor", (State("r", "row"),), r"returns a tensor like p for state 'r'.*per row"),
    (row_becomes_a_column, "per_tensor", (State("r", "row"),), r"returns one number per column for state 'r'"),
    (too_few_states, "pointwise", (State("a"),), r"returned 0 states; it must return p and \('a',\)"),
    (too_many_states, "pointwise", (), r"returned 1 states; it must return p and \(\)"),
]


@pytest.mark.parametrize(("fn", "kind", "state", "message"), FORBIDDEN, ids=[row[0].__name__ for row in FORBIDDEN])
def test_what_a_rule_may_not_do_teaches(
    fn: Callable[..., Any], kind: Any, state: tuple[State, ...], message: str
) -> None:
    optimizer = build(optimizer_of(fn, kind, *state), [torch.ones(1, 2)], "foreach", {})
    with pytest.raises(TypeError, match=f"{fn.__name__} .*({message})" if "declared" not in message else message):
        step(optimizer, [torch.ones(1, 2)])
    assert optimizer.param_groups[0]["params"][0].tolist() == [[1.0, 1.0]]


def wants_more(p: Any, g: Any, a: Any, *, lr: Any) -> Any:
    return p, a


def wants_t(p: Any, g: Any, *, lr: Any, t: Any) -> Any:
    return p - lr / t * g


def test_signature_and_declaration_must_agree() -> None:
    with pytest.raises(TypeError, match=r"wants_more takes \['p', 'g', 'a'\]; its declared state needs 2"):
        Rule(wants_more, "pointwise")
    with pytest.raises(TypeError, match=r"wants_t uses t but declares no State\('step', 'step'\)"):
        Rule(wants_t, "pointwise")


@pytest.fixture(autouse=True)
def _no_plan_is_kept() -> Iterator[None]:
    """Rules of this file are made again and again; their plans need not pile up."""
    yield
    foreach.plan_for.cache_clear()
