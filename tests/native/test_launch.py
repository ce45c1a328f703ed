"""One call for many tensors: threads, forks, gradients and parameters of every sort, and what is refused.

Where the result is compared with the reference executor's, 64 eps of the largest element is allowed, as in
test_executors.py: some ten roundings per step in another order.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import threading
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader, TensorDataset

from cases import assert_same, buckets_of, snapshot
from steepest import SGD, AdamW, NAdam, NovoGrad, Optimizer
from steepest.executors import native
from steepest.executors.native import bucket, library
from steepest.executors.native.emit import BLOCK
from steepest.study.trials.performance import threads
from test_saving import saved

from .support import drawn, in_child, parameters, ran_native, stepped

RULES = [AdamW, NovoGrad]
every_rule = pytest.mark.parametrize("cls", RULES, ids=lambda cls: cls.__name__)
"""A pointwise rule with a step count, and a per-tensor rule."""


def assert_close(ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer) -> None:
    for (p, held), (q, other) in zip(snapshot(ours), snapshot(theirs), strict=True):
        assert list(held) == list(other)
        for name, a, b in [("param", p, q), *((n, held[n], other[n]) for n in held)]:
            eps = torch.finfo(b.dtype).eps
            largest = b.abs().max().item() if b.numel() else 0.0
            torch.testing.assert_close(a, b, rtol=64 * eps, atol=64 * eps * largest, msg=lambda m, n=name: f"{n}: {m}")


def agree(cls: type[Optimizer], make: Callable[[], list[Tensor]], steps: int = 3, **options: Any) -> Any:
    """Native and reference over what ``make`` makes; returns the native one."""
    ours, theirs = cls(make(), **options, fused=True), cls(make(), **options, foreach=False)
    stepped(ours, steps)
    stepped(theirs, steps)
    assert ours.executor == "native"
    assert_close(ours, theirs)
    return ours


def with_grad(p: Tensor, g: Tensor) -> torch.nn.Parameter:
    made = torch.nn.Parameter(p)
    made.grad = g
    return made


# -- threads --------------------------------------------------------------------------------------------------------

FEW_BLOCKS = (
    1 << int(re.findall(r"FEW_ELEMENTS = 1 << (\d+)", files(native).joinpath("launch.c").read_text())[0])
) // BLOCK

SIZES: list[list[tuple[int, ...]]] = [
    [(size,) for size in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 15, 0, 17)],
    [(1_000_007,)],
    [(BLOCK * FEW_BLOCKS,)],
    [(37, 53)] * 130,
    [(BLOCK * 70 + 5,), (3,), (0,), (BLOCK * 70 - 1,), (1,)],
]


@every_rule
@pytest.mark.parametrize("shapes", SIZES, ids=["block-boundaries", "one-large", "just-shared", "many", "mixed"])
def test_no_bit_depends_on_the_number_of_threads(cls: type[Optimizer], shapes: list[tuple[int, ...]]) -> None:
    results = []
    for count in (1, 2, 3, 8):
        optimizer = cls(parameters(shapes), weight_decay=0.1, fused=True)
        with threads(count):
            stepped(optimizer, 3)
        results.append(snapshot(optimizer))
    for other in results[1:]:
        assert_same(results[0], other)
    for p, start in zip((p for p, _ in results[0]), parameters(shapes), strict=True):
        assert not p.numel() or not torch.equal(p, start.detach())


def test_the_pool_is_torchs_and_of_the_number_that_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What GOMP_parallel is called with, seen by a stand-in that runs the work on the calling thread alone."""
    work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    seen: list[int] = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    def stand_in(function: int, argument: int, count: int, flags: int) -> None:
        seen.append(count)
        work(function)(argument)

    assert library.parallel(), "torch's OpenMP library was not found: everything would run on one thread"
    monkeypatch.setattr(bucket, "parallel", lambda: ctypes.cast(stand_in, ctypes.c_void_p).value)
    large, small = ([(BLOCK * count,)] for count in (FEW_BLOCKS, FEW_BLOCKS - 1))
    for count in (1, 2, 5):
        with threads(count):
            for shapes in (large, small):
                stepped(SGD(parameters(shapes), fused=True))
    assert seen == [2, 5], "one thread, or little work, stays on the calling thread"


def test_many_tensors_are_one_call() -> None:
    optimizer = AdamW(parameters([(3,)] * 500), fused=True)
    stepped(optimizer, 2)
    assert len(buckets_of(optimizer)) == 1


@every_rule
def test_other_python_threads_may_step(cls: type[Optimizer]) -> None:
    """One optimizer each, at a time, over tensors that are large enough for torch's pool."""
    shapes = [(100, 30), (1_000_007,)]
    with threads(2):
        alone = cls(parameters(shapes), fused=True)
        stepped(alone, 4)
        optimizers = [cls(parameters(shapes), fused=True) for _ in range(3)]
        runners = [threading.Thread(target=stepped, args=(optimizer, 4)) for optimizer in optimizers]
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join(60)
            assert not runner.is_alive()
    for optimizer in optimizers:
        assert_same(snapshot(optimizer), snapshot(alone))


# -- forks ----------------------------------------------------------------------------------------------------------


def memory(tensors: list[Tensor]) -> str:
    """A digest of the tensors' bytes, without torch: in a forked child torch's own threads are missing too."""
    return hashlib.sha256(b"".join(ctypes.string_at(x.data_ptr(), x.nbytes) for x in tensors)).hexdigest()


@every_rule
def test_a_forked_child_steps_after_its_parent_has(cls: type[Optimizer]) -> None:
    """libgomp hangs in a child whose parent has used it, so a child stays on its own thread."""
    with threads(2):
        optimizer = cls(parameters([(1_000_007,), (5,)]), fused=True)
        stepped(optimizer, 2)
        params = optimizer.param_groups[0]["params"]
        before = memory(params)

        def work() -> str:
            optimizer.step()
            optimizer.step()
            return memory(params)

        said = in_child(work)
        assert memory(params) == before
        stepped(optimizer, 2)  # the parent goes on in its pool
    assert said == memory(params) != before
    assert library.THREADS.is_forked is False


def test_data_loaders_may_fork_while_training() -> None:
    """Workers that are started, used and ended between steps."""
    data = TensorDataset(torch.arange(24.0).view(8, 3))
    model = torch.nn.Linear(3, 40_000)
    with threads(2):
        optimizer = AdamW(model.parameters(), fused=True)
        for _ in range(2):
            for (x,) in DataLoader(data, batch_size=4, num_workers=2, timeout=60):
                optimizer.zero_grad()
                model(x).square().mean().backward()
                with ran_native(optimizer):
                    optimizer.step()
    assert all(held["step"] == 4 for held in optimizer.state.values())


# -- gradients ------------------------------------------------------------------------------------------------------

GRADIENT_DTYPES = [
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float16),
    (torch.float32, torch.float64),
    (torch.bfloat16, torch.float32),
    (torch.float64, torch.float32),
]


@pytest.mark.parametrize(("dtype", "other"), GRADIENT_DTYPES, ids=str)
def test_a_gradient_of_another_dtype(dtype: torch.dtype, other: torch.dtype) -> None:
    """As far as torch lets one assign it: ``grad_dtype`` says which."""
    for cls in RULES:
        ours, theirs = [], []
        for column in (ours, theirs):
            for seed, shape in enumerate([(7, 5), (), (0,)]):
                p = torch.nn.Parameter(drawn(shape, seed, dtype))
                p.grad_dtype = other
                p.grad = drawn(shape, seed + 9, other)
                column.append(p)
        native, plain = cls(ours, fused=True), cls(theirs, foreach=False)
        stepped(native, 3)
        stepped(plain, 3)
        assert native.executor == "native"
        if dtype == torch.bfloat16:  # both round the same float32 numbers, which differ in their last bits
            for p, q in zip(ours, theirs, strict=True):
                torch.testing.assert_close(p, q, rtol=2**-7, atol=2**-7)
        else:
            assert_close(native, plain)
        assert all(p.grad.dtype == other for p in ours)


X = drawn((2, 6, 4, 4), 1)
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.clone(),
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
    "every-second": lambda x: torch.stack([x, x + 1], -1)[..., 0],
    "a-slice": lambda x: torch.cat([x, x], 1)[:, 2:8].copy_(x),
    "offset": lambda x: torch.cat([x.new_zeros(3), x.flatten()])[3:].view(x.shape),
}


@pytest.mark.thin("ours", "theirs")
@every_rule
@pytest.mark.parametrize("theirs", LAYOUTS)
@pytest.mark.parametrize("ours", LAYOUTS)
def test_any_layout_of_the_gradient_beside_any_of_the_parameter(cls: type[Optimizer], ours: str, theirs: str) -> None:
    def make() -> list[Tensor]:
        p = with_grad(LAYOUTS[ours](drawn((2, 6, 4, 4), 1)), LAYOUTS[theirs](drawn((2, 6, 4, 4), 2)))
        return [with_grad(drawn((3,), 3), drawn((3,), 4)), p]

    optimizer = agree(cls, make)
    p = optimizer.param_groups[0]["params"][1]
    assert p.stride() == LAYOUTS[ours](X).stride()


def test_the_gaps_of_a_strided_parameter_are_not_written_to() -> None:
    whole = torch.full((4, 6), 7.0)
    p = with_grad(whole[:, ::2], torch.ones(4, 3))
    stepped(AdamW([p], fused=True), 3)
    assert torch.equal(whole[:, 1::2], torch.full((4, 3), 7.0))
    assert not (whole[:, ::2] == 7.0).any()


@every_rule
def test_expanded_gradients(cls: type[Optimizer]) -> None:
    agree(cls, lambda: [with_grad(drawn((3, 4), 1), drawn((), 2).expand(3, 4))])
    agree(cls, lambda: [with_grad(drawn((3, 4), 1), drawn((4,), 2).expand(3, 4))])
    agree(cls, lambda: [with_grad(drawn((3, 4), 1), drawn((3, 1), 2).expand(3, 4))])


@every_rule
def test_dimensions_of_size_one_may_have_any_stride(cls: type[Optimizer]) -> None:
    def odd(x: Tensor, *strides: int) -> Tensor:
        return torch.as_strided(x, x.shape, strides)

    def make() -> list[Tensor]:
        return [
            with_grad(odd(drawn((3, 1, 4), 1), 4, 99, 1), drawn((3, 1, 4), 2)),
            with_grad(drawn((3, 1, 4), 1), odd(drawn((3, 1, 4), 2), 4, 1, 1)),
            with_grad(odd(drawn((1, 1), 1), 5, 7), odd(drawn((1, 1), 2), 0, 3)),
            with_grad(drawn((1,), 1), drawn((), 2).expand(1)),
        ]

    optimizer = agree(cls, make)
    assert not any(bucket._copies for bucket in buckets_of(optimizer))


@every_rule
def test_empty_tensors_of_any_shape(cls: type[Optimizer]) -> None:
    def make() -> list[Tensor]:
        strange = torch.empty(0).as_strided((3, 0, 2), (1, 5, 9))
        return [with_grad(torch.empty(3, 0, 2), strange), with_grad(torch.empty(0), torch.empty(0))]

    for _, held in snapshot(agree(cls, make)):
        assert held.get("step", torch.tensor(3.0)) == 3.0


@every_rule
def test_more_dimensions_than_anyone_needs(cls: type[Optimizer]) -> None:
    shape = (1,) * 30 + (2, 3) + (1,) * 20 + (2,)
    agree(cls, lambda: [with_grad(drawn(shape, 1).transpose(30, -1), drawn(shape, 2).transpose(30, -1).contiguous())])


@every_rule
def test_negated_and_conjugate_views_as_gradients(cls: type[Optimizer]) -> None:
    def make() -> list[Tensor]:
        z = torch.complex(drawn((5,), 1), drawn((5,), 2))
        real = with_grad(drawn((5,), 3), z.conj().imag)
        dense = with_grad(drawn((5,), 3), torch._neg_view(drawn((5,), 4)))
        assert real.grad.is_neg()
        assert dense.grad.is_neg()
        return [real, dense]

    agree(cls, make)


@every_rule
def test_lazily_conjugated_gradients(cls: type[Optimizer]) -> None:
    z, g = (torch.complex(drawn((5,), seed), drawn((5,), seed + 1)) for seed in (1, 3))
    assert g.conj().is_conj()
    lazy, plain = with_grad(z.clone(), g.conj()), with_grad(z.clone(), g.conj().resolve_conj())
    assert torch.equal(*(stepped(cls([p], fused=True), 3)[0] for p in (lazy, plain)))
    assert lazy.grad is not None
    assert lazy.grad.is_conj()
    both = torch._neg_view(g.conj())
    assert torch.equal(
        *(stepped(cls([with_grad(z.clone(), x)], fused=True), 3)[0] for x in (both, (-g.conj()).resolve_conj()))
    )


def negated(p: Tensor) -> Tensor:
    return torch._neg_view(p)


def conjugate(p: Tensor) -> Tensor:
    return p.to(torch.complex64).conj()


@pytest.mark.parametrize("view", [negated, conjugate])
def test_negated_and_conjugate_views_as_parameters_are_refused(view: Callable[[Tensor], Tensor]) -> None:
    """Their memory holds other numbers than they show."""
    p = view(drawn((3,), 1))
    make = lambda: [with_grad(view(drawn((3,), 1)), torch.ones_like(p).resolve_neg())]  # noqa: E731
    with pytest.raises(RuntimeError, match="negated or conjugate view"):
        stepped(SGD(make(), lr=0.5, fused=True))
    late = SGD([with_grad(torch.zeros_like(p).resolve_neg().resolve_conj(), torch.ones_like(p))], lr=0.5, fused=True)
    stepped(late, 2)
    late.param_groups[0]["params"][0].data = view(drawn((3,), 1))
    with pytest.raises(RuntimeError, match="negated or conjugate view"):
        stepped(late)


def test_negated_state_is_refused() -> None:
    optimizer = AdamW(parameters([(3,)]), fused=True)
    stepped(optimizer, 2)
    (held,) = optimizer.state.values()
    held["exp_avg"] = torch._neg_view(held["exp_avg"])
    with pytest.raises(RuntimeError, match="negated or conjugate view"):
        stepped(optimizer)


@every_rule
def test_complex_parameters_step_as_their_real_view(cls: type[Optimizer]) -> None:
    for dtype in (torch.complex64, torch.complex128):
        z, g = (torch.complex(drawn((5, 3), s, dtype.to_real()), drawn((5, 3), s + 1, dtype.to_real())) for s in (1, 3))
        ours, real = with_grad(z.clone(), g), with_grad(torch.view_as_real(z).clone(), torch.view_as_real(g))
        transposed = with_grad(z.t().contiguous().t(), g)
        native, plain = cls([ours, transposed], fused=True), cls([real], fused=True)
        with ran_native(native):
            (p, q), (r,) = stepped(native, 3), stepped(plain, 3)
        assert torch.equal(torch.view_as_real(p), r)
        torch.testing.assert_close(q, p, rtol=1e-6, atol=1e-6)


def test_gradients_that_themselves_require_gradients() -> None:
    p, q = (torch.nn.Parameter(drawn((3,), 1)) for _ in range(2))
    g = drawn((3,), 2)
    p.grad, q.grad = (2 * g.clone().requires_grad_()), 2 * g
    assert p.grad.requires_grad
    assert torch.equal(*stepped(AdamW([p, q], fused=True), 2))


# -- what cannot be run ---------------------------------------------------------------------------------------------


class Tagged(Tensor):
    """A tensor of another type, as DTensor is."""


def refused(p: Tensor, match: str, cls: type[Optimizer] = AdamW) -> None:
    with pytest.raises(RuntimeError, match=rf"(?s)`fused=True`.*{match}"):
        stepped(cls([p], fused=True))


def test_a_gradient_of_another_type() -> None:
    make = lambda: [with_grad(drawn((3,), 1), drawn((3,), 2).as_subclass(Tagged))]  # noqa: E731
    refused(make()[0], "g of the parameter of shape .3,. is a subclass of Tensor")
    optimizer = AdamW(make())
    stepped(optimizer, 2)
    assert optimizer.executor == "foreach"
    assert "g of the parameter of shape (3,) is a subclass" in repr(optimizer.executor)
    plain = AdamW(make(), foreach=False)
    stepped(plain, 2)
    assert_close(optimizer, plain)


@pytest.mark.parametrize("cls", [AdamW, SGD], ids=lambda cls: cls.__name__)
def test_the_fallback_is_told_after_the_very_first_step(cls: type[Optimizer]) -> None:
    optimizer = cls([with_grad(drawn((3,), 1), drawn((3,), 2).as_subclass(Tagged))])
    stepped(optimizer, 1)
    assert optimizer.executor == "foreach"
    assert "is a subclass of Tensor" in optimizer.executor.reason


def test_state_of_another_type_or_shape() -> None:
    for spoil, said in [
        (lambda x: x.as_subclass(Tagged), "exp_avg .* subclass"),
        (lambda x: torch.zeros(4), "exp_avg .* another shape or layout"),
        (lambda x: torch.zeros(3, dtype=torch.int32), "not torch.int32"),
        (lambda x: torch.zeros(3, device="meta"), "exp_avg .* no dense tensor"),
    ]:
        optimizer = AdamW(parameters([(3,)]), fused=True)
        stepped(optimizer, 2)
        (held,) = optimizer.state.values()
        held["exp_avg"] = spoil(held["exp_avg"])
        with pytest.raises(RuntimeError, match=rf"`fused=True` cannot run here: .*{said}"):
            stepped(optimizer)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_step_counts_of_a_dtype_that_cannot_count(dtype: torch.dtype) -> None:
    """A kernel that took two bytes for four would write beyond them."""
    optimizers = [AdamW(parameters([(3,)]), **switch) for switch in ({"fused": True}, {}, {"foreach": False})]
    for optimizer in optimizers:
        stepped(optimizer, 2)
        (held,) = optimizer.state.values()
        held["step"] = held["step"].to(dtype)
    asked, default, plain = optimizers
    with pytest.raises(RuntimeError, match=f"`fused=True` cannot run here: .*not {dtype}"):
        stepped(asked)
    stepped(default)
    stepped(plain)
    assert default.executor == "foreach"
    assert f"not {dtype}" in repr(default.executor)
    assert_close(default, plain)


def test_step_counts_in_float64_count_on() -> None:
    optimizer, other = (AdamW(parameters([(3,)]), fused=True) for _ in range(2))
    for one in (optimizer, other):
        stepped(one, 2)
    (held,) = optimizer.state.values()
    held["step"] = held["step"].double()
    with ran_native(optimizer):
        assert torch.equal(stepped(optimizer)[0], stepped(other)[0])
    assert held["step"] == 3
    assert held["step"].dtype == torch.float64


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_step_counts_of_one_element_count_on(shape: tuple[int, ...]) -> None:
    """Some checkpoints hold them so."""
    optimizer = AdamW(parameters([(3,)]), fused=True)
    stepped(optimizer, 2)
    (held,) = optimizer.state.values()
    held["step"] = held["step"].view(shape).clone()
    with ran_native(optimizer):
        stepped(optimizer)
    assert held["step"].flatten().tolist() == [3.0]


def test_step_counts_of_several_elements_are_refused() -> None:
    optimizer = AdamW(parameters([(3,)]), fused=True)
    stepped(optimizer, 2)
    (held,) = optimizer.state.values()
    held["step"] = torch.zeros(2)
    with pytest.raises(RuntimeError):
        stepped(optimizer)
    assert held["step"].tolist() == [0.0, 0.0]


def test_dtypes_that_no_kernel_knows() -> None:
    p = with_grad(torch.ones(3).to(torch.float8_e4m3fn), torch.ones(3).to(torch.float8_e4m3fn))
    refused(p, "computes with .*not torch.float8_e4m3fn")


def test_fake_and_meta_tensors() -> None:
    with FakeTensorMode():
        p = torch.nn.Parameter(torch.ones(3))
        p.grad = torch.ones(3)
        refused(p, "FakeTensor")
        assert AdamW([p]).executor == "reference"
    q = with_grad(torch.ones(3, device="meta"), torch.ones(3, device="meta"))
    refused(q, "float32 and meta")
    assert AdamW([q]).executor == "foreach"


def test_sparse_gradients_are_refused_before_anything_moves() -> None:
    dense, embedded = parameters([(3,), (4, 2)])
    optimizer = AdamW([dense, embedded], fused=True)
    stepped(optimizer, 2)
    kept = dense.detach().clone()
    embedded.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, 2), (4, 2), check_invariants=True)
    with pytest.raises(RuntimeError, match="AdamW does not support sparse gradients"):
        stepped(optimizer)
    assert torch.equal(dense, kept)
    assert optimizer.state[dense]["step"] == 2


def test_a_parameter_that_overlaps_itself_is_refused() -> None:
    refused(with_grad(torch.ones(1).expand(4), torch.ones(4)), "overlaps itself")
    refused(with_grad(torch.ones(3, 1).expand(3, 4), torch.ones(3, 4)), "overlaps itself")


# -- groups, counts, formats ----------------------------------------------------------------------------------------


def test_two_groups_of_two_dtypes() -> None:
    shapes = [(3, 4), (5,)]
    dtypes = [torch.float32, torch.bfloat16]
    groups = [{"params": parameters(shapes, dtype), "lr": 0.1 * (i + 1)} for i, dtype in enumerate(dtypes)]
    optimizer = AdamW(groups, fused=True)
    with ran_native(optimizer):
        together = stepped(optimizer, 3)
    apart = [p for i, d in enumerate(dtypes) for p in stepped(AdamW(parameters(shapes, d), lr=0.1 * (i + 1)), 3)]
    assert all(map(torch.equal, together, apart))


@pytest.mark.parametrize("cls", [AdamW, NAdam], ids=lambda cls: cls.__name__)
def test_hundreds_of_parameters_may_each_have_their_own_step_count(cls: type[Optimizer]) -> None:
    """One call; NAdam has scalar state beside the count."""

    def make() -> list[Tensor]:
        return parameters([(seed % 5,) for seed in range(300)])

    ours, theirs = cls(make(), lr=0.1, fused=True), cls(make(), lr=0.1, foreach=False)
    for optimizer in (ours, theirs):
        params = optimizer.param_groups[0]["params"]
        grads = [p.grad for p in params]
        for k in range(4):
            for index, (p, g) in enumerate(zip(params, grads, strict=True)):
                p.grad = g if index % (k + 1) == 0 else None
            optimizer.step()
        for index, p in enumerate(params):
            p.grad = grads[index]
            optimizer.state[p]["step"] += index % 7
        optimizer.step()
    assert len(buckets_of(ours)) == 1
    assert len({held["step"].item() for held in ours.state.values()}) > 7
    assert_close(ours, theirs)


def test_a_checkpoint_of_another_executor_goes_on() -> None:
    """Bit by bit: from native through a file to native, and as far as rounding goes to the reference executor."""
    for cls in (AdamW, NovoGrad, NAdam):
        first = cls(parameters([(3, 4), (5,)]), fused=True)
        stepped(first, 3)
        checkpoint = saved(first)
        second, plain = cls(parameters([(3, 4), (5,)]), fused=True), cls(parameters([(3, 4), (5,)]), foreach=False)
        for other in (second, plain):
            for p, q in zip(other.param_groups[0]["params"], first.param_groups[0]["params"], strict=True):
                p.data.copy_(q.data)
            switches = {name: other.param_groups[0][name] for name in ("fused", "foreach")}
            other.load_state_dict(checkpoint)
            other.param_groups[0].update(switches)
        for optimizer in (first, second, plain):
            stepped(optimizer, 2)
        assert_same(snapshot(first), snapshot(second))
        assert_close(second, plain)
