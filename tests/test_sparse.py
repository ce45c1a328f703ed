"""Sparse gradients: what they move is what torch, an oracle and the dense run say, and a step costs what they have.

Tolerances: float64 1e-12 of the tensor's largest element (the same arithmetic in another order); float32 against torch
2e-6, some ten steps of a few roundings; bfloat16 2e-2, since torch rounds after every operation and we once.
"""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import steepest
from cases import (
    CLASSES,
    LAZY,
    SWITCHES,
    TWINS,
    Options,
    assert_same,
    cases,
    defaults,
    give,
    hyperparameters,
    is_valid,
    oracle_options,
    pairwise,
    same,
    snapshot,
    structures,
    through_file,
    torch_options,
    values,
)
from oracles import ORACLES, problem, without
from steepest import Optimizer, Rule, State, fields, functional

SPARSE = {name: cls for name, cls in CLASSES.items() if cls.rule_for(defaults(cls)).sparse}
EXACT = {name: cls for name, cls in SPARSE.items() if name not in LAZY}

every_sparse_class = pytest.mark.parametrize("cls", SPARSE.values(), ids=list(SPARSE))
every_exact_class = pytest.mark.parametrize("cls", EXACT.values(), ids=list(EXACT))

REFUSED = ("weight_decay", "ema_decay", "max_norm")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}

LAYOUTS = [((7, 2), 1), ((6,), 1), ((3, 4), 2), ((3, 2, 4), 2), ((), 0), ((5, 1), 1), ((0, 3), 1)]
"""Shapes of parameters, and how many of their dimensions are sparse in the gradient."""


@pytest.fixture(autouse=True)
def _torch_trusts_sparse_tensors() -> Iterator[None]:
    """torch's own sparse steps warn until somebody has said whether sparse tensors are to be checked."""
    with torch.sparse.check_sparse_tensor_invariants(False):
        yield


# -- values ------------------------------------------------------------------------------------------------------------


def sparse(indices: Any, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    made: Tensor = torch.sparse_coo_tensor(indices, values, shape, check_invariants=True)
    return made


def tensors(dtype: torch.dtype = torch.float64) -> list[torch.nn.Parameter]:
    """A parameter of every layout."""
    source = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(shape, generator=source, dtype=dtype)) for shape, _ in LAYOUTS]


def gradients(steps: int, dtype: torch.dtype = torch.float64, seed: int = 2) -> Iterator[list[Tensor]]:
    """For each step a gradient of every layout, with 0 to 6 entries at places that repeat."""
    source = torch.Generator().manual_seed(seed)
    for step in range(steps):
        yield [gradient(shape, dims, (3, 0, 6, 1)[step % 4], dtype, source) for shape, dims in LAYOUTS]


def gradient(shape: tuple[int, ...], dims: int, count: int, dtype: torch.dtype, source: torch.Generator) -> Tensor:
    count = count if math.prod(shape[:dims]) else 0
    rows = [torch.randint(max(size, 1), (count,), generator=source) for size in shape[:dims]]
    indices = torch.stack(rows) if rows else torch.zeros(0, count, dtype=torch.long)
    return sparse(indices, torch.randn((count, *shape[dims:]), generator=source, dtype=dtype), shape)


def rows(indices: list[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """The gradient of an embedding of 4 rows of 2: ones at some of them."""
    return sparse(torch.tensor([indices], dtype=torch.long), torch.ones(len(indices), 2, dtype=dtype), (4, 2))


def embedding(dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.linspace(-1.0, 1.0, 8).view(4, 2).to(dtype))


def step(optimizer: torch.optim.Optimizer, params: Iterable[Tensor], grads: Iterable[Tensor]) -> None:
    for p, g in zip(params, grads, strict=True):
        p.grad = g.clone()
    optimizer.step()


def options_of(cls: type[Optimizer], names: Iterable[str]) -> list[Options]:
    """Combinations of options in which any two values meet; none that sparse gradients refuse."""
    offered = values(cls)
    return pairwise(cls, {name: offered[name] for name in names if name not in REFUSED})


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    ours, theirs = ours.detach().to_dense(), theirs.detach().to_dense()
    largest = theirs.abs().max().item() if theirs.numel() else 0.0
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * max(largest, 1.0))


def assert_equal(ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer, tolerance: float) -> None:
    """Parameters and state, whatever their layouts."""
    for (p, held), (q, other) in zip(snapshot(ours), snapshot(theirs), strict=True):
        assert_close(p, q, tolerance)
        assert list(held) == list(other)
        for name in held:
            assert_close(held[name], torch.as_tensor(other[name], dtype=held[name].dtype), tolerance)


# -- numbers -----------------------------------------------------------------------------------------------------------

RATES = [0.05 / (k + 1) for k in range(10)]


@pytest.mark.parametrize(
    ("cls", "options"), cases((c, o) for n, c in LAZY.items() for o in structures(c, oracle_options(n)))
)
def test_a_lazy_class_is_its_oracle(cls: type[Optimizer], options: Options) -> None:
    """Where a gradient is 0 it has no element. Some parameters miss steps, one joins late, one never does."""
    theta0, grads = problem(11, [(3, 4), (5,), (), (2, 1, 3), (0,), (1,)], len(RATES))
    grads = without(without(without(grads, 0, {4, 5}), 1, {0, 1, 2}), 3, range(len(RATES)))
    params = [torch.nn.Parameter(torch.as_tensor(a)) for a in map(torch.tensor, theta0)]
    optimizer = cls(params, lr=RATES[0], **options)
    assert optimizer.executor == "sparse"
    for rate, of_step in zip(RATES, grads, strict=True):
        give(params, of_step)
        for p in (p for p in params if p.grad is not None):
            p.grad = p.grad.to_sparse()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    wanted = ORACLES[cls.__name__.lower()](theta0, grads, lr=RATES, **options)
    for p, expected in zip(params, wanted, strict=True):
        held = {"param": p, **optimizer.state.get(p, {})}
        assert held.keys() == expected.keys()
        for name, value in held.items():
            assert_close(value.double(), torch.as_tensor(expected[name], dtype=torch.float64), 1e-12)


@pytest.mark.parametrize(
    ("cls", "options"), cases((c, o) for c in EXACT.values() for o in options_of(c, hyperparameters(c)))
)
def test_an_exact_class_does_what_it_does_with_dense_gradients(cls: type[Optimizer], options: Options) -> None:
    first, second = cls(ours := tensors(), **options), cls(theirs := tensors(), foreach=False, **options)
    for grads in gradients(9):
        step(first, ours, grads)
        step(second, theirs, [g.to_dense() for g in grads])
    assert first.executor == "sparse"
    assert_equal(first, second, 1e-12)


TWINNED = [(cls, o) for name, cls in SPARSE.items() if name in TWINS for o in options_of(cls, torch_options(name))]


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(("cls", "options"), cases(TWINNED))
def test_ten_steps_are_torchs(cls: type[Optimizer], options: Options, dtype: torch.dtype) -> None:
    ours = cls(params := tensors(dtype), **options)
    theirs = getattr(torch.optim, cls.__name__)(others := tensors(dtype), **options)
    for grads in gradients(10, dtype):
        step(ours, params, grads)
        step(theirs, others, grads)
    assert ours.executor == "sparse"
    assert_equal(ours, theirs, TOLERANCE[dtype])


def valley(x: Any, y: Any) -> Any:
    """Rosenbrock's function."""
    return 10 * (y - x * x) ** 2 + (1 - x) ** 2


def slope(x: float, y: float, i: int) -> float:
    """Its derivative along coordinate ``i``."""
    return 20 * (y - x * x) if i else -40 * x * (y - x * x) - 2 * (1 - x)


START = [1.5, 1.5]
RATES_DOWN = {"sgd": 4.8e-3, "adagrad": 0.1, "sparseadam": 4e-2}


def descend(cls: Any, lr: float, dense: bool = False) -> Tensor:
    """2,000 steps along one coordinate at a time, which the gradient holds twice, by halves."""
    p = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = cls([p], lr=lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, gamma=0.9999, step_size=300)
    for k in range(2000):
        i = k % 2
        half = slope(*p.tolist(), i) / 2
        g = sparse([[i, i]], torch.tensor([half, half], dtype=torch.float64), (2,))
        p.grad = g.to_dense() if dense else g
        optimizer.step()
        scheduler.step()
    return p.detach()


@every_sparse_class
def test_down_rosenbrocks_valley_with_torch_and_with_the_dense_run(cls: type[Optimizer]) -> None:
    """1e-9: two thousand steps of a descent that keeps small differences small."""
    lr = RATES_DOWN[cls.__name__.lower()]
    ours, theirs = descend(cls, lr), descend(getattr(torch.optim, cls.__name__), lr)
    assert valley(*ours.tolist()) < valley(*START) / 10
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    if cls in EXACT.values():
        torch.testing.assert_close(ours, descend(cls, lr, dense=True), rtol=1e-9, atol=1e-9)


def test_a_lazy_class_differs_from_adam_where_a_gradient_is_missing() -> None:
    """Adam's momentum moves a row again that has no gradient any more; SparseAdam leaves it, its averages too."""
    p, q = embedding(), embedding()
    lazy, eager = steepest.SparseAdam([p]), steepest.Adam([q], eps=1e-30)
    step(lazy, [p], [rows([1])])
    step(eager, [q], [rows([1]).to_dense()])
    torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    kept = p.detach()[1].clone(), {name: lazy.state[p][name][1].clone() for name in ("exp_avg", "exp_avg_sq")}
    moved = q.detach()[1].clone()
    step(lazy, [p], [rows([2])])
    step(eager, [q], [rows([2]).to_dense()])
    assert torch.equal(p.detach()[1], kept[0])
    assert all(torch.equal(lazy.state[p][name][1], value) for name, value in kept[1].items())
    assert not torch.equal(q.detach()[1], moved)
    assert lazy.state[p]["step"] == 2


# -- layouts and dtypes ------------------------------------------------------------------------------------------------


def entries(name: str) -> Tensor:
    """Gradients of an embedding: rows, repeated rows, none, single elements, dense."""
    made = {
        "s": lambda: rows([1, 3]),
        "r": lambda: rows([2, 1, 1]),
        "n": lambda: rows([]),
        "e": lambda: sparse([[1, 2], [0, 1]], torch.ones(2), (4, 2)),
        "d": lambda: torch.full((4, 2), 0.5),
    }
    return made[name]()


PATHS = ["".join(path) for path in itertools.product("srnd", repeat=3)] + ["ses", "ese", "ded", "see", "sdsd"]


@pytest.mark.parametrize("path", PATHS)
def test_layouts_may_change_from_step_to_step(path: str) -> None:
    """Whatever comes after what: the numbers are those of dense gradients, where torch's classes often fail."""
    for cls in EXACT.values():
        for options in options_of(cls, [n for n in ("momentum", "nesterov") if n in cls.fields]):
            first, second = cls([p := embedding()], lr=0.1, **options), cls([q := embedding()], lr=0.1, **options)
            for name in path:
                step(first, [p], [entries(name)])
                step(second, [q], [entries(name).to_dense()])
            assert_equal(first, second, 1e-6)


@pytest.mark.parametrize("path", ["ds", "dsr", "dds"])
def test_a_dense_buffer_takes_sparse_gradients_as_torchs_does(path: str) -> None:
    ours, theirs = (cls([embedding()], lr=0.1, momentum=0.9) for cls in (steepest.SGD, torch.optim.SGD))
    for name in path:
        for optimizer in (ours, theirs):
            step(optimizer, optimizer.param_groups[0]["params"], [entries(name)])
    assert_equal(ours, theirs, 1e-6)
    assert not ours.state[ours.param_groups[0]["params"][0]]["momentum_buffer"].is_sparse


@every_sparse_class
@pytest.mark.parametrize("executor", list(SWITCHES))
def test_dense_and_sparse_gradients_in_one_group(cls: type[Optimizer], executor: str) -> None:
    """Each parameter ends where an optimizer of its own takes it, and the dense ones run where they would alone."""
    switch = {} if executor == "native" else SWITCHES[executor] if "foreach" in cls.fields else {}
    sequence = [("s", "d", "r", "d"), ("r", "d", "d", "s"), ("d", "s", "n", "s"), ("s", "d", "r", "d")]
    if cls in LAZY.values():
        sequence = [tuple("r" if name == "d" else name for name in of_step) for of_step in sequence]
    options = {"momentum": 0.9} if "momentum" in cls.fields else {}
    together, alone = [embedding() for _ in range(4)], [embedding() for _ in range(4)]
    optimizer = cls(together, lr=0.1, **options, **switch)
    single = [cls([p], lr=0.1, **options, **switch) for p in alone]
    for of_step in sequence:
        step(optimizer, together, map(entries, of_step))
        for p, name, each in zip(alone, of_step, single, strict=True):
            step(each, [p], [entries(name)])
    assert [same(p, q) for p, q in zip(together, alone, strict=True)] == [True] * 4
    assert optimizer.executor == ("sparse" if cls in LAZY.values() else f"{executor} and sparse")


@every_sparse_class
@pytest.mark.parametrize("executor", ["reference", "foreach"])
def test_the_executor_of_a_group_with_sparse_gradients_is_told(cls: type[Optimizer], executor: str) -> None:
    """foreach=True runs, as in torch; the sparse executor is the same."""
    switch = SWITCHES[executor] if "foreach" in cls.fields else {}
    optimizer = cls([p := embedding()], **switch)
    step(optimizer, [p], [rows([1])])
    assert optimizer.executor == "sparse"
    assert optimizer.executor.reason == ""


@every_sparse_class
def test_torchs_odd_empty_gradient_counts_and_moves_nothing(cls: type[Optimizer]) -> None:
    options = {"momentum": 0.9} if "momentum" in cls.fields else {}
    p = torch.nn.Parameter(torch.ones(5, 1))
    optimizer = cls([p], **options)
    for count in (1, 2):
        step(optimizer, [p], [sparse(torch.empty(1, 0, dtype=torch.long), torch.empty(0, 1), (5, 1))])
        assert torch.equal(p, torch.ones(5, 1))
        assert optimizer.state[p].get("step", count) == count
        assert all(x.to_dense().count_nonzero() == 0 for name, x in optimizer.state[p].items() if name != "step")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@every_sparse_class
def test_half_types_add_repeated_rows_in_float32(cls: type[Optimizer], dtype: torch.dtype) -> None:
    """1 + 1,000 times 2^-11 is 1 where every sum is rounded; the step is that of the right sum, rounded once."""
    entries = torch.full((1001, 2), 2.0**-11, dtype=dtype)
    entries[0] = 1.0
    p, q = embedding(dtype), embedding(torch.float32)
    with torch.no_grad():
        q.copy_(p)
    first, second = cls([p], lr=0.5), cls([q], lr=0.5)
    step(first, [p], [sparse(torch.ones(1, 1001, dtype=torch.long), entries, (4, 2))])
    step(second, [q], [sparse(torch.ones(1, 1001, dtype=torch.long), entries.float(), (4, 2))])
    assert p.dtype == dtype
    assert torch.equal(p, q.to(dtype))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
@every_exact_class
def test_complex_parameters_are_two_real_ones(cls: type[Optimizer], dtype: torch.dtype) -> None:
    """As with dense gradients; torch's sparse Adagrad squares complex numbers instead."""
    options = {"momentum": 0.9, "nesterov": True} if "nesterov" in cls.fields else {}
    first, second = cls(ours := tensors(dtype), **options), cls(theirs := tensors(dtype), **options)
    for grads in gradients(5, dtype):
        step(first, ours, [g.conj() for g in grads])
        step(second, theirs, [g.conj().to_dense() for g in grads])
    tolerance = 1e-12 if dtype == torch.complex128 else 1e-5
    for (p, _), (q, _) in zip(snapshot(first), snapshot(second), strict=True):
        assert_close(p, q, tolerance)


@every_sparse_class
def test_parameters_of_any_strides(cls: type[Optimizer]) -> None:
    gapped = torch.linspace(-1, 1, 48).view(8, 6)[::2, ::3]
    results = []
    for x in (gapped, gapped.contiguous(), gapped.t().contiguous().t()):
        p = torch.nn.Parameter(torch.empty_strided(x.shape, x.stride()).copy_(x))
        optimizer = cls([p], lr=0.1)
        for name in "srs":
            step(optimizer, [p], [entries(name)])
        results.append(p.detach().contiguous())
    assert all(same(x, results[0]) for x in results)


@every_sparse_class
def test_nan_and_infinity_stay_in_their_rows(cls: type[Optimizer]) -> None:
    optimizer = cls([p := embedding()], lr=0.1)
    before = p.detach().clone()
    step(optimizer, [p], [sparse([[0, 2]], torch.tensor([[math.nan, 1.0], [math.inf, 1.0]]), (4, 2))])
    assert p[0, 0].isnan()
    assert not p[2, 0].isfinite()
    assert torch.equal(p.isfinite(), torch.tensor([[False, True], [True, True], [False, True], [True, True]]))
    assert torch.equal(p[1::2], before[1::2])


@every_sparse_class
def test_gradients_are_left_as_they_are(cls: type[Optimizer]) -> None:
    for g in (rows([2, 1, 1]), rows([1, 2]).coalesce()):
        optimizer = cls([p := embedding()], maximize=True)
        p.grad = g
        before = g._indices().clone(), g._values().clone(), g.is_coalesced(), g._version
        for _ in range(2):
            optimizer.step()
        assert p.grad is g
        assert torch.equal(g._indices(), before[0])
        assert torch.equal(g._values(), before[1])
        assert (g.is_coalesced(), g._version) == before[2:]


@every_sparse_class
def test_autograd_notices_that_a_parameter_has_changed(cls: type[Optimizer]) -> None:
    optimizer = cls([p := embedding()])
    loss = (p * p).sum()
    step(optimizer, [p], [rows([1])])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# -- cost --------------------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Notes how many elements the largest new tensor has (of a sparse one, its values)."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.known = {x.untyped_storage().data_ptr() for x in known if not x.is_sparse}
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in (x for x in tree_leaves(result) if isinstance(x, Tensor)):
            if x.is_sparse:
                self.elements = max(self.elements, x._nnz() * math.prod(x.shape[x.sparse_dim() :]))
            elif x.untyped_storage().data_ptr() not in self.known:
                self.elements = max(self.elements, x.numel())
        return result


@pytest.mark.parametrize("nesterov", [False, True])
@every_sparse_class
def test_a_step_makes_nothing_as_large_as_the_parameter(cls: type[Optimizer], nesterov: bool) -> None:
    """A hundred thousand rows; a gradient of four of them, and momentum of two hundred more."""
    options = {"momentum": 0.9, "nesterov": nesterov} if "momentum" in cls.fields else {}
    p = torch.nn.Parameter(torch.ones(100_000, 4))
    optimizer = cls([p], **options)
    many, few = torch.arange(200)[None] * 7, torch.tensor([[3, 99_999, 5, 3, 21, 3]])
    step(optimizer, [p], [sparse(many, torch.ones(200, 4), p.shape)])
    p.grad = sparse(few, torch.ones(6, 4), p.shape)
    with Largest([p, *optimizer.state[p].values()]) as seen:
        optimizer.step()
    assert 16 <= seen.elements <= 4 * 206
    assert p[99_999, 0] != 1
    assert p[98_000, 0] == 1


@pytest.mark.parametrize("layouts", ["sss", "dsd", "sds", "dds"])
@every_sparse_class
def test_what_is_put_together_is_remembered(cls: type[Optimizer], layouts: str) -> None:
    if cls in LAZY.values():
        layouts = layouts.replace("d", "r")
    optimizer = cls(params := [embedding() for _ in layouts])
    for _ in range(2):
        step(optimizer, params, map(entries, layouts))
    (known,) = optimizer._dispatch.known.values()
    assert sorted(i for bucket in known.buckets for i in bucket.members) == [0, 1, 2]
    step(optimizer, params, map(entries, layouts))
    assert next(iter(optimizer._dispatch.known.values())) is known


# -- state and checkpoints ---------------------------------------------------------------------------------------------


def with_momentum() -> tuple[steepest.SGD, torch.nn.Parameter]:
    p = embedding()
    return steepest.SGD([p], lr=0.1, momentum=0.9), p


def test_the_momentum_buffer_grows_to_all_rows_that_were_touched() -> None:
    optimizer, p = with_momentum()
    for indices, wanted in (([2, 2], [2]), ([0], [0, 2]), ([], [0, 2]), ([3, 0], [0, 2, 3])):
        step(optimizer, [p], [rows(indices)])
        buffer = optimizer.state[p]["momentum_buffer"]
        assert buffer.layout == torch.sparse_coo
        assert buffer.is_coalesced()
        assert buffer.indices().tolist() == [wanted]


def test_a_row_without_gradient_moves_on_with_its_momentum() -> None:
    """By hand: b = 1, .9, 1.81 where the gradient is 1, 0, 1; p falls by .1 b."""
    optimizer, p = with_momentum()
    start = p.detach()[1].clone()
    for indices, total in (([1], 1.0), ([2], 1.9), ([1], 3.71)):
        step(optimizer, [p], [rows(indices)])
        torch.testing.assert_close(p.detach()[1], start - 0.1 * total)


@pytest.mark.parametrize("torch_first", [True, False], ids=["torch-to-ours", "ours-to-torch"])
@pytest.mark.parametrize(("cls", "options"), cases(TWINNED))
def test_checkpoints_change_hands(cls: type[Optimizer], options: Options, torch_first: bool) -> None:
    """Mid-training, with sparse momentum and with the step count that torch's SparseAdam keeps as an int."""
    pair = cls, getattr(torch.optim, cls.__name__)
    first, second = (c(tensors(), **options) for c in (pair[::-1] if torch_first else pair))
    own, others = (o.param_groups[0]["params"] for o in (first, second))
    *head, _, _, _ = grads = list(gradients(8))
    for of_step in head:
        step(first, own, of_step)
    with torch.no_grad():
        for p, q in zip(own, others, strict=True):
            q.copy_(p)
    second.load_state_dict(through_file(first.state_dict()))
    for of_step in grads[len(head) :]:
        step(first, own, of_step)
        step(second, others, of_step)
    ours, theirs = (second, first) if torch_first else (first, second)
    assert_equal(ours, theirs, 1e-12)


@every_sparse_class
def test_counts_are_saved_as_torchs_class_has_them(cls: type[Optimizer]) -> None:
    ours, theirs = cls([p := embedding()]), getattr(torch.optim, cls.__name__)([q := embedding()])
    step(ours, [p], [rows([1])])
    step(theirs, [q], [rows([1])])
    original = theirs.state_dict()["state"].get(0, {})
    for saved in (ours.state_dict(), ours.plain_state_dict()):
        held = saved["state"].get(0, {})
        assert {name: type(value) for name, value in held.items()} == {n: type(v) for n, v in original.items()}
    assert all(isinstance(value, Tensor) for value in ours.state[p].values())


@every_sparse_class
def test_a_loaded_or_copied_optimizer_goes_on_bit_by_bit(cls: type[Optimizer]) -> None:
    options = {"momentum": 0.9} if "momentum" in cls.fields else {}

    def loaded(optimizer: Optimizer) -> Optimizer:
        params = [torch.nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]]
        other = cls(params, **options)
        other.load_state_dict(through_file(optimizer.state_dict()))
        return other

    ways: list[Callable[[Any], Any]] = [loaded, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))]
    head, tail = list(gradients(3)), list(gradients(4, seed=8))
    for way in ways:
        optimizer = cls(params := tensors(), **options)
        for grads in head:
            step(optimizer, params, grads)
        other = way(optimizer)
        for grads in tail:
            step(optimizer, params, grads)
            step(other, other.param_groups[0]["params"], grads)
        for (p, held), (q, copied) in zip(snapshot(optimizer), snapshot(other), strict=True):
            assert same(p, q)
            assert all(same(held[name].to_dense(), copied[name].to_dense()) for name in held)


@pytest.mark.parametrize("state_dtype", ["bfloat16", "int8"])
def test_a_sparse_buffer_is_converted_to_coded_state(state_dtype: str) -> None:
    """What is loaded from torch, and what is converted in place, runs on with dense gradients."""
    shape = (64, 80)
    p, q = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    optimizer, dense = (steepest.SGD([x], lr=0.1, momentum=0.5, foreach=False) for x in (p, q))
    g = sparse([[3, 3, 9]], torch.ones(3, 80), shape)
    step(optimizer, [p], [g])
    step(dense, [q], [g.to_dense()])
    optimizer.convert_state(state_dtype=state_dtype)
    step(optimizer, [p], [torch.ones(shape)])
    step(dense, [q], [torch.ones(shape)])
    torch.testing.assert_close(p, q, rtol=0.0, atol=0.1 * 2**-3)
    assert not any(x.is_sparse for x in optimizer.state[p].values())


# -- what is around a step ---------------------------------------------------------------------------------------------


def trained(module: Any, name: str, steps: int = 12) -> tuple[Any, list[float]]:
    """An embedding and what follows it under two optimizers, with a closure, a schedule and a tensor rate."""
    torch.manual_seed(0)
    table, head = torch.nn.Embedding(12, 3, sparse=True), torch.nn.Linear(3, 1)
    optimizer = getattr(module, name)(table.parameters(), lr=torch.tensor(0.1))
    other = module.SGD(head.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    words = torch.tensor([1, 4, 4, 7, 11])
    losses: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        other.zero_grad()
        loss = ((head(table(words)) - 1.0) ** 2).mean()
        loss.backward()
        return loss

    for _ in range(steps):
        losses.append(optimizer.step(closure).item())
        other.step()
        scheduler.step()
    return table.weight.detach(), losses


@every_sparse_class
def test_an_embedding_learns_as_with_torch(cls: type[Optimizer]) -> None:
    ours, our_losses = trained(steepest, cls.__name__)
    theirs, their_losses = trained(torch.optim, cls.__name__)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert our_losses == pytest.approx(their_losses, rel=1e-4)
    assert our_losses[-1] < our_losses[0] / 2


@every_sparse_class
def test_hooks_see_the_steps(cls: type[Optimizer]) -> None:
    optimizer = cls([p := embedding()])
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    step(optimizer, [p], [rows([1])])
    assert seen == ["before", "after"]


@every_sparse_class
def test_a_grad_scaler_changes_nothing_and_an_infinite_step_advances_nothing(cls: type[Optimizer]) -> None:
    options = {"momentum": 0.9} if "momentum" in cls.fields else {}
    scaled, plain = cls([p := embedding()], **options), cls([q := embedding()], **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor in (1.0, math.inf, 1.0):
        p.grad = rows([2, 1, 1]) * scaler.scale(torch.tensor(factor)).item()
        before = snapshot(scaled)
        scaler.step(scaled)
        scaler.update()
        if factor == math.inf:
            assert all(same(x.to_dense(), scaled.state[p][name].to_dense()) for name, x in before[0][1].items())
        else:
            step(plain, [q], [rows([2, 1, 1])])
        assert same(p, q)
    assert scaler.get_scale() == 2.0


@every_sparse_class
def test_frozen_and_late_parameters_count_their_own_steps(cls: type[Optimizer]) -> None:
    together, alone = [embedding() for _ in range(3)], [embedding() for _ in range(3)]
    optimizer, single = cls(together[:2], lr=0.1), [cls([p], lr=0.1) for p in alone]
    for k, awake in enumerate(((0,), (0, 1), (), (0, 1, 2), (1, 2))):
        if k == 3:
            optimizer.add_param_group({"params": together[2:]})
        for i in range(3):
            together[i].grad = alone[i].grad = rows([i, 3]) if i in awake else None
        optimizer.step()
        for each in single:
            each.step()
    assert_same(snapshot(optimizer), [of for each in single for of in snapshot(each)])


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("name", "path"), [("SparseAdam", "srs"), ("SGD", "ssrdd")])
def test_torch_compile_leaves_sparse_tensors_alone(name: str, path: str) -> None:
    """As with torch's classes such steps run as they are; also one with a dense gradient that finds a sparse buffer."""
    options = {"momentum": 0.9} if name == "SGD" else {}
    compiled, plain = (getattr(steepest, name)([embedding()], lr=0.1, **options) for _ in range(2))
    run = torch.compile(compiled.step, backend="eager")
    (p,), (q,) = (optimizer.param_groups[0]["params"] for optimizer in (compiled, plain))
    for layout in path:
        p.grad = entries(layout)
        run()
        step(plain, [q], [entries(layout)])
    torch.testing.assert_close(p, q)


# -- a user's own rules ------------------------------------------------------------------------------------------------


def sign_descent(p: Any, g: Any, seen: Any, *, lr: Any, t: Any) -> Any:
    seen = seen + g * g / t
    return p - lr * g / (1 + seen), seen


class Signs(Optimizer):
    """A rule of somebody's own."""

    lr: float = fields.lr(0.1)
    rule = Rule(sign_descent, "pointwise", (State("step", "step"), State("seen")), sparse="exact")


class LazySigns(Optimizer):
    """The same, lazy."""

    lr: float = fields.lr(0.1)
    capturable: bool = fields.capturable()
    rule = Rule(sign_descent, "pointwise", (State("step", "step"), State("seen")), sparse="lazy")


def test_a_rule_of_ones_own_takes_sparse_gradients() -> None:
    optimizers = Signs(a := tensors()), LazySigns(b := tensors()), Signs(c := tensors())
    for grads in gradients(6):
        for optimizer, params in zip(optimizers, (a, b), strict=False):
            step(optimizer, params, grads)
        step(optimizers[2], c, [g.to_dense() for g in grads])
    assert [o.executor for o in optimizers] == ["sparse", "sparse", "native"]
    assert_equal(optimizers[0], optimizers[2], 1e-12)
    assert_equal(optimizers[1], optimizers[2], 1e-12)


def test_a_declaration_that_cannot_be_right() -> None:
    def free(p: Any, g: Any, b: Any) -> Any:
        return p, b

    with pytest.raises(TypeError, match="pointwise rules alone take sparse gradients"):
        Rule(free, "per_tensor", (State("b"),), sparse="exact")
    with pytest.raises(TypeError, match="must be declared Rule"):
        Rule(free, "pointwise", (State("b", sparse=True),), sparse="lazy")


# -- what cannot be ----------------------------------------------------------------------------------------------------


def refuses(optimizer: Optimizer, grads: list[Tensor], message: str) -> None:
    """The step raises, and nothing has moved."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    before = snapshot(optimizer)
    with pytest.raises(RuntimeError, match=message):
        optimizer.step()
    assert_same(snapshot(optimizer), before)


def test_a_lazy_class_refuses_dense_gradients_in_torchs_words() -> None:
    for cls in (*LAZY.values(), torch.optim.SparseAdam):
        optimizer: Any = cls([embedding(), embedding()])
        message = "^SparseAdam does not support dense gradients, please consider Adam instead"
        with pytest.raises(RuntimeError, match=message):
            step(optimizer, optimizer.param_groups[0]["params"], [rows([1]), torch.ones(4, 2)])
    mine = steepest.SparseAdam([embedding(), embedding()])
    refuses(mine, [rows([1]), torch.ones(4, 2)], message)
    step(mine, params := mine.param_groups[0]["params"], [rows([1]), rows([1])])
    step(mine, params, [rows([1]), rows([1])])
    refuses(mine, [rows([1]), torch.ones(4, 2)], message)


def test_other_classes_refuse_in_torchs_words() -> None:
    for name in ("Adam", "Adamax", "RMSprop", "NAdam", "RAdam", "Adadelta"):
        theirs = getattr(torch.optim, name)([p := embedding()])
        p.grad = rows([1])
        with pytest.raises(RuntimeError) as raised:
            theirs.step()
        refuses(getattr(steepest, name)([embedding()]), [rows([1])], f"^{raised.value}")
        refuses(getattr(steepest, name)([embedding()], max_norm=1.0), [rows([1])], f"^{raised.value}")


@every_exact_class
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": 0.1}, "^weight_decay option is not compatible with sparse gradients"),
        ({"fused": True}, "^`_fused_[a-z]+` does not support sparse gradients; leave fused=None"),
        ({"differentiable": True}, "does not support sparse gradients with differentiable=True; leave"),
        ({"max_norm": 1.0}, "does not support sparse gradients with max_norm=1.0; leave"),
        ({"ema_decay": 0.0}, "does not support sparse gradients with ema_decay=0.0; leave"),
        ({"state_dtype": "int8"}, "does not support sparse gradients with state_dtype='int8'; leave"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_options_that_work_on_whole_parameters(cls: type[Optimizer], options: Options, message: str) -> None:
    refuses(cls([embedding(), embedding()], **options), [torch.ones(4, 2), rows([1])], message)
    later = cls([p := embedding()])
    for _ in range(2):
        step(later, [p], [rows([1])])
    later.param_groups[0].update(options)
    refuses(later, [rows([1])], message)


def test_torchs_words_about_decay_and_fused_steps() -> None:
    words = []
    for cls, options in ((torch.optim.Adagrad, {"weight_decay": 0.1}), (torch.optim.SGD, {"fused": True})):
        optimizer = cls([p := embedding()], **options)
        p.grad = rows([1])
        with pytest.raises(RuntimeError) as raised:
            optimizer.step()
        refuses(getattr(steepest, cls.__name__)([embedding()], **options), [rows([1])], f"^{raised.value}")
        words.append(str(raised.value))
    assert len(set(words)) == 2


def test_parameter_rounding_and_capturable_steps_are_refused() -> None:
    rounding = steepest.SGD([embedding(torch.bfloat16)], parameter_rounding="stochastic")
    refuses(rounding, [rows([1], torch.bfloat16)], "with parameter_rounding='stochastic'; leave")
    with pytest.raises(ValueError, match="does not support sparse gradients with capturable=True"):
        LazySigns([embedding()], capturable=True)


@pytest.mark.parametrize("name", ["ema_decay", "max_norm", "state_dtype"])
def test_a_lazy_class_refuses_them_at_construction(name: str) -> None:
    value: Any = "int8" if name == "state_dtype" else 0.5
    for cls in LAZY.values():
        with pytest.raises(ValueError, match=f"{cls.__name__} does not support sparse gradients with {name}="):
            cls([embedding()], **{name: value})
        assert not is_valid(cls, {name: value})
        with pytest.raises(ValueError, match=f"with {name}="):
            cls([{"params": [embedding()]}, {"params": [embedding()], name: value}])


def test_sparse_parameters_are_refused() -> None:
    p = torch.nn.Parameter(torch.zeros(3).to_sparse())
    p.grad = torch.ones(3).to_sparse()
    with pytest.raises(RuntimeError, match="of sparse parameters; give it dense parameters"):
        steepest.SGD([p]).step()


BAD_PARAMETERS: list[Callable[[], Any]] = [
    lambda: [torch.zeros(3, layout=torch.sparse_coo)],
    lambda: [{"params": [torch.zeros(3)]}, {"params": [torch.zeros(2), torch.zeros(3, layout=torch.sparse_coo)]}],
    lambda: [torch.ones(2), torch.ones(2, dtype=torch.complex64), torch.ones(2, dtype=torch.complex128)],
]


@pytest.mark.parametrize("make", BAD_PARAMETERS)
def test_parameters_that_torchs_sparse_adam_refuses(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="params at indices") as raised:
        torch.optim.SparseAdam(make())
    with pytest.raises(ValueError, match="params at indices") as ours:
        steepest.SparseAdam(make())
    assert str(ours.value) == str(raised.value)


def test_a_late_group_is_checked_too() -> None:
    optimizer = steepest.SparseAdam([embedding()])
    with pytest.raises(ValueError, match=r"^Complex params at indices \[\[1, 0\]\]: SparseAdam"):
        optimizer.add_param_group({"params": [torch.ones(2, dtype=torch.complex64)]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    "options",
    [{"lr": 0.0}, {"lr": -1.0}, {"lr": torch.tensor(0.0)}, {"eps": 0.0}, {"betas": (1.0, 0.0)}, {"betas": (0.0, -1.0)}],
    ids=str,
)
def test_values_that_torchs_sparse_adam_refuses(options: Options) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - torch's words are compared with ours
        torch.optim.SparseAdam([embedding()], **options)
    with pytest.raises(ValueError, match=f"^{re.escape(str(raised.value))}"):
        steepest.SparseAdam([embedding()], **options)


def test_a_strict_bound_is_told() -> None:
    assert steepest.SparseAdam.fields["lr"].allowed == "a number > 0"
    assert steepest.Adam.fields["lr"].allowed == "a number >= 0"


def test_pure_steps_take_dense_gradients() -> None:
    with pytest.raises(ValueError, match="SparseAdam takes only sparse gradients; a pure step takes dense ones"):
        functional.pair(steepest.SparseAdam)
    sgd, params = functional.pair(steepest.SGD), {"w": embedding().detach()}
    with pytest.raises(ValueError, match="sparse gradients of w; a pure step takes dense ones"):
        sgd.step(params, {"w": rows([1])}, sgd.init(params))


def test_the_native_executor_has_nothing_to_explain() -> None:
    with pytest.raises(RuntimeError, match="sparse_adam is a lazy rule, which the native executor does not run"):
        steepest.SparseAdam([embedding()]).explain()
