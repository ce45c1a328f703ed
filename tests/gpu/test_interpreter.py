"""Kernels in Triton's interpreter on a CPU: the bits of the native executor.

Bits of NaN are not compared: a device rounds NaN to another one than the CPU does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import steepest
from cases import Options, buckets_of, snapshot
from steepest import Optimizer, norms
from steepest.executors.triton import bucket
from steepest.executors.triton.elements import BLOCK
from test_executors import LOCAL
from test_storage import lively

from .support import (
    CAPTURABLE,
    CODED,
    CODINGS,
    DTYPES,
    ROWS_OF_DTYPES,
    copies,
    interpreting,
    kernel_of,
    ran_triton,
    read_as_bfloat16,
    rounded_to_bfloat16,
    triton_for_fused,
    triton_if_wanted,
)

triton_if_wanted()

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=[str(dtype).removeprefix("torch.") for dtype in DTYPES])

SPECIAL = [0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-45, -1e-39, 3e38, 65504.0, 1e-8]


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with interpreting(monkeypatch):
        yield


def drawn(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    """Values whose sizes span some decades."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=source, dtype=torch.float64)
    return (x * torch.exp(2 * torch.randn(shape, generator=source, dtype=torch.float64))).to(dtype)


def tensors(dtype: torch.dtype) -> list[Tensor]:
    """Odd sizes, an empty tensor, a number, a whole tile and a part of one, a transposed one, an unaligned one."""
    made = [drawn(shape, seed, dtype) for seed, shape in enumerate([(7, 5), (0,), (), (BLOCK,), (33, 65)])]
    return [*made, drawn((6, 4), 9, dtype).t(), drawn((BLOCK + 9,), 8, dtype)[1:]]


def stepped(
    cls: type[Optimizer], options: Options, start: list[Tensor], grads: list[list[Tensor | None]]
) -> tuple[Optimizer, Any]:
    """The optimizer, and its parameters and state after a step for each list of gradients."""
    params = copies(start)
    optimizer = cls(params, **{**options, "fused": True})
    for given in grads:
        for p, g in zip(params, given, strict=True):
            p.grad = None if g is None else g.clone(memory_format=torch.preserve_format)
        optimizer.step()
    return optimizer, snapshot(optimizer)


def both(
    monkeypatch: pytest.MonkeyPatch,
    cls: type[Optimizer],
    options: Options,
    start: list[Tensor],
    grads: list[list[Tensor | None]],
) -> tuple[Any, Any]:
    """What the native and the Triton executor make of the same tensors."""
    native, expected = stepped(cls, options, start, grads)
    assert native.executor == "native"
    assert not ran_triton(native)
    with triton_for_fused(monkeypatch):
        ours, found = stepped(cls, options, start, grads)
    assert ran_triton(ours)
    return found, expected


def same_bits(found: Any, expected: Any) -> bool:
    """Whether all numbers are equal, zeros in their sign too, and NaN are at the same places."""
    pairs = [(p, q) for (p, _), (q, _) in zip(found, expected, strict=True)]
    for (_, held), (_, other) in zip(found, expected, strict=True):
        assert held.keys() == other.keys()
        pairs += [(held[name], other[name]) for name in held if isinstance(held[name], Tensor)]
    return all(
        torch.equal(x.isnan(), y.isnan()) and torch.equal(_bits(x)[~x.isnan()], _bits(y)[~y.isnan()]) for x, y in pairs
    )


def _bits(x: Tensor) -> Tensor:
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return x.detach().contiguous().view(integers[x.element_size()])


def gradients(start: list[Tensor], steps: int, dtype: torch.dtype) -> list[list[Tensor | None]]:
    return [
        [drawn(tuple(p.shape), 100 * t + i, dtype) for i, p in enumerate(start, start=1)] for t in range(1, steps + 1)
    ]


@pytest.mark.thin("cls", "dtype")
@pytest.mark.parametrize(("cls", "options", "dtype"), ROWS_OF_DTYPES)
def test_every_rule_has_the_native_executors_bits(
    cls: type[Optimizer], options: Options, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tensors(dtype)
    found, expected = both(monkeypatch, cls, options, start, gradients(start, 3, dtype))
    takes_sums = len(kernel_of(cls, options, dtype).launches) > 1 or cls.rule.measuring is not None
    if dtype == torch.float64 and takes_sums:  # a sum in double, added in another order than in C
        assert all(torch.allclose(p, q, rtol=1e-12, atol=1e-15) for (p, _), (q, _) in zip(found, expected, strict=True))
    else:
        assert same_bits(found, expected)


@pytest.mark.thin
@pytest.mark.parametrize(("cls", "coding"), CODED)
def test_coded_state_has_the_native_executors_bits(
    cls: type[Optimizer], coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype, options = CODINGS[coding]
    start = [drawn(shape, seed, dtype) for seed, shape in enumerate([(7,), (4099,), (0,)])]
    found, expected = both(monkeypatch, cls, {**lively(cls), **options}, start, gradients(start, 3, dtype))
    assert same_bits(found, expected)


@pytest.mark.parametrize("coding", CODINGS)
def test_special_values_of_codes(coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dtype, options = CODINGS[coding]
    special = torch.tensor(SPECIAL, dtype=torch.float64).to(dtype)
    start, grads = drawn((20, 256), 1, dtype), drawn((20, 256), 2, dtype)
    grads[torch.arange(10), torch.arange(10)] = special
    start[10:, 3] = special
    grads[19] = 0
    found, expected = both(monkeypatch, steepest.AdamW, options, [start], [[grads], [grads / 7]])
    assert same_bits(found, expected)


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What makes every reading of a tensor's value an error from now on."""

    def refuse(*given: Any) -> Any:
        raise AssertionError("a tensor was read, for which a device would be waited for")

    def from_now_on() -> None:
        for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
            monkeypatch.setattr(Tensor, name, refuse)

    return from_now_on


@pytest.mark.parametrize(("cls", "options"), CAPTURABLE)
def test_counts_on_the_device_give_the_same_bits(
    cls: type[Optimizer], options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functions of doubles are NumPy's here and another library's on a device."""
    start = tensors(torch.float32)[:4]
    grads = gradients(start, 3, torch.float32)
    grads[0][0] = None
    _, expected = stepped(cls, options, start, grads)
    with triton_for_fused(monkeypatch):
        optimizer, found = stepped(cls, {**options, "capturable": True}, start, grads)
    assert ran_triton(optimizer)
    assert same_bits(found, expected)


@pytest.mark.parametrize(
    "options", [{}, {"max_norm": 0.5}, {"zclip": 2.5}, {"update_rms": 1.0}, {"state_dtype": "int8"}], ids=str
)
def test_a_capturable_step_reads_no_tensor_and_leaves_bad_steps_out(
    options: Options, monkeypatch: pytest.MonkeyPatch, no_waits: Callable[[], None]
) -> None:
    def run(is_capturable: bool, found: list[float]) -> Any:
        p = torch.nn.Parameter(drawn((64, 68), 1, torch.float32))
        lr = torch.tensor(0.01) if is_capturable else 0.01
        optimizer = steepest.AdamW([p], lr=lr, fused=True, capturable=is_capturable, **options)
        for step, bad in enumerate(found):
            p.grad = 1024 * drawn((64, 68), 2 + step, torch.float32)
            optimizer.grad_scale, optimizer.found_inf = torch.tensor(1024.0), torch.tensor(bad)
            if step == 2 and is_capturable:
                no_waits()
            optimizer.step()
        monkeypatch.undo()
        return optimizer, snapshot(optimizer)

    monkeypatch.setattr(norms, "_may_look", lambda x: False)  # as on a device
    found = [0.0, 0.0, 1.0, 0.0]
    _, expected = run(False, found)
    patches = pytest.MonkeyPatch()
    with interpreting(patches), triton_for_fused(patches):
        monkeypatch.setattr(norms, "_may_look", lambda x: False)
        optimizer, ours = run(True, found)
        assert ran_triton(optimizer)
    patches.undo()
    assert same_bits(ours, expected)
    assert ours[0][1]["step"].item() == 3


def in_pairs(x: Tensor) -> Tensor:
    """The sum of neighbours, of neighbouring sums, and so on."""
    while x.shape[-1] > 1:
        x = x[..., ::2] + x[..., 1::2]
    return x[..., 0]


def test_sums_are_taken_in_the_order_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles in pairs of neighbours; every 1,024th tile in one lane, then lanes in pairs. No layout changes that."""
    size = 3 * BLOCK + 77
    g = drawn((size + 1,), 1, torch.float64)[1:]
    p = torch.nn.Parameter(torch.zeros(size, dtype=torch.float64))
    p.grad = g
    with triton_for_fused(monkeypatch):
        optimizer = steepest.NovoGrad([p], fused=True)
        optimizer.step()
    tiles = in_pairs(torch.nn.functional.pad(g * g, (0, 4 * BLOCK - size)).view(4, BLOCK))
    expected = in_pairs(torch.nn.functional.pad(tiles, (0, BLOCK - 4)))
    assert optimizer.state[p]["exp_avg_sq"].item() == expected.sqrt().item() ** 2
    assert expected.item() != (g * g).sum().item()


MATRICES: list[tuple[int, ...]] = [(70, 130), (2, 3, 5), (65, 1), (1, 300), (0, 3), (3, 0), (2, 2, 4, 9)]
"""Matrices that end within a tile, at one and beyond several, stacks of them, and such without elements."""

OF_ROWS = [
    (steepest.Adafactor, {}),
    (steepest.CAME, {}),
    (steepest.AdamMini, {}),
    (steepest.AdamP, {"delta": 4.0}),
    (steepest.Lion, {"agc": 0.1}),
    *((cls, {}) for cls in LOCAL if cls.rule.fn.__name__ in ("nested", "by_unit", "by_index")),
]


@pytest.mark.parametrize("is_wide", [False, True], ids=["narrow", "wide"])
@pytest.mark.parametrize(("cls", "options"), [pytest.param(*row, id=row[0].rule.fn.__name__) for row in OF_ROWS])
def test_rows_and_columns_have_the_native_executors_bits(
    cls: type[Optimizer], options: Options, is_wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In tiles of 16 columns, where no matrix has more, and in the widest ones."""
    shapes = MATRICES if is_wide else [shape for shape in MATRICES if shape[-1] < 16]
    start = [drawn(shape, seed, torch.float32) for seed, shape in enumerate(shapes)]
    found, expected = both(monkeypatch, cls, options, start, gradients(start, 3, torch.float32))
    assert same_bits(found, expected)
    assert all(not torch.equal(p, q) for p, (q, _) in zip(start, found, strict=True) if p.numel())


def test_sums_of_tiles_are_taken_in_the_order_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row in tiles of 128 columns, each in pairs of neighbours; a column in each eighth row of 64, these in pairs."""
    g = drawn((70, 300), 1, torch.float64)
    p = torch.nn.Parameter(torch.zeros(70, 300, dtype=torch.float64))
    p.grad = g
    with triton_for_fused(monkeypatch):
        optimizer = steepest.Adafactor([p], beta2_decay=0.0, fused=True)
        optimizer.step()
    squares = torch.nn.functional.pad(g * g, (0, 384 - 300, 0, 128 - 70))
    rows = in_turn(in_pairs(squares[:70].view(70, 3, 128)).T)
    of_tiles = [in_pairs(in_turn(tile.view(8, 8, 384)).T) for tile in squares.view(2, 64, 384)]
    assert torch.equal(optimizer.state[p]["row_var"], rows[:, None] / 300)
    assert torch.equal(optimizer.state[p]["col_var"], (of_tiles[0] + of_tiles[1])[None, :300] / 70)
    assert not torch.equal(optimizer.state[p]["row_var"], (g * g).mean(1, keepdim=True))


def in_turn(x: Tensor) -> Tensor:
    """The sum over the first dimension, one after the other."""
    total = torch.zeros_like(x[0])
    for each in x:
        total = total + each
    return total


@pytest.mark.parametrize(
    ("cls", "dtype"), [(cls, torch.float32) for cls in (steepest.AdamAtan2, steepest.DiffGrad, steepest.MADGRAD)]
)
def test_special_values_of_functions(cls: type[Optimizer], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    test_special_values(cls, dtype, monkeypatch)


@every_dtype
@pytest.mark.parametrize("cls", [steepest.AdamW, steepest.Rprop, steepest.AdaBound, steepest.Signum, steepest.Yogi])
def test_special_values(cls: type[Optimizer], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    special = torch.tensor(SPECIAL, dtype=torch.float64).to(dtype)
    start = [special.repeat_interleave(len(SPECIAL))]
    found, expected = both(monkeypatch, cls, {}, start, [[special.repeat(len(SPECIAL))]] * 3)
    assert same_bits(found, expected)


def test_gradients_and_state_in_other_layouts_and_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for is_triton in (False, True):
        p = torch.nn.Parameter(drawn((5, 7), 1, torch.bfloat16))
        optimizer = steepest.AdamW([p], fused=True)
        with triton_for_fused(monkeypatch) if is_triton else monkeypatch.context():
            for step in range(3):
                p.grad = drawn((7, 5), 2 + step, torch.bfloat16).t()
                assert p.grad.stride() != p.stride()
                optimizer.step()
                optimizer.state[p]["exp_avg_sq"] = optimizer.state[p]["exp_avg_sq"].float()
        assert ran_triton(optimizer) == is_triton
        results.append(snapshot(optimizer))
    assert results[1][0][1]["exp_avg_sq"].dtype == torch.float32
    assert same_bits(*results)


def test_complex_parameters_are_twice_as_many_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    start = [torch.complex(drawn((5, 3), 1, torch.float32), drawn((5, 3), 2, torch.float32))]
    grads: list[list[Tensor | None]] = [[start[0].flip(0).clone()], [start[0].conj().clone()]]
    found, expected = both(monkeypatch, steepest.AdamW, {}, start, grads)
    assert all(torch.equal(p, q) for (p, _), (q, _) in zip(found, expected, strict=True))


def test_parameters_that_join_late_have_their_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    start = tensors(torch.float32)[:5]
    grads = gradients(start, 4, torch.float32)
    grads[0][0] = grads[1][3] = None
    found, expected = both(monkeypatch, steepest.NAdam, {}, start, grads)
    assert same_bits(found, expected)
    assert len({held["step"].item() for _, held in found}) == 2


def test_parameters_with_different_counts_go_in_one_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    params = copies(tensors(torch.float32)[:4])
    optimizer, launches = steepest.NAdam(params, fused=True), []
    launch = bucket.launch
    monkeypatch.setattr(bucket, "launch", lambda *given, **named: (launches.append(given), launch(*given, **named)))
    with triton_for_fused(monkeypatch):
        for present in (params[1:], params, params):
            for p in params:
                p.grad = torch.ones_like(p) if any(p is each for each in present) else None
            launches.clear()
            optimizer.step()
    assert len(launches) == len(buckets_of(optimizer)) == 1
    assert [optimizer.state[p]["step"].item() for p in params] == [2, 3, 3, 3]


def test_a_gradient_that_is_state_is_read_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for is_triton in (False, True):
        p = torch.nn.Parameter(drawn((9,), 1, torch.float32))
        p.grad = drawn((9,), 2, torch.float32)
        optimizer = steepest.Lion([p], fused=True)
        with triton_for_fused(monkeypatch) if is_triton else monkeypatch.context():
            optimizer.step()
            p.grad = optimizer.state[p]["exp_avg"]
            optimizer.step()
            optimizer.step()
        assert ran_triton(optimizer) == is_triton
        results.append(snapshot(optimizer))
    assert same_bits(*results)


def test_the_scale_of_the_gradients_is_taken_out_and_a_bad_step_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for is_triton in (False, True):
        p = torch.nn.Parameter(drawn((70,), 1, torch.float32))
        optimizer = steepest.Lion([p], fused=True, max_norm=0.5)
        with triton_for_fused(monkeypatch) if is_triton else monkeypatch.context():
            for step in range(3):
                p.grad = 1024 * drawn((70,), 2 + step, torch.float32)
                optimizer.grad_scale, optimizer.found_inf = torch.tensor(1024.0), torch.tensor(float(step == 1))
                optimizer.step()
        assert ran_triton(optimizer) == is_triton
        results.append(snapshot(optimizer))
    assert same_bits(*results)


def test_versions_of_what_is_written_move_and_gradients_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    p = torch.nn.Parameter(torch.ones(5))
    p.grad = torch.ones(5)
    optimizer = steepest.Lion([p], fused=True)
    with triton_for_fused(monkeypatch):
        for _ in range(2):
            before = p._version, p.grad._version
            optimizer.step()
            assert (p._version > before[0], p.grad._version == before[1]) == (True, True)
    assert torch.equal(p.grad, torch.ones(5))
    assert ran_triton(optimizer)


def test_data_that_moves_between_steps_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for is_triton in (False, True):
        p = torch.nn.Parameter(drawn((40,), 1, torch.float32))
        optimizer = steepest.AdamW([p], fused=True)
        with triton_for_fused(monkeypatch) if is_triton else monkeypatch.context():
            for step in range(3):
                p.grad = drawn((40,), 2 + step, torch.float32)
                optimizer.step()
                p.data = p.data.clone()
                optimizer.state[p]["exp_avg"] = optimizer.state[p]["exp_avg"].clone()
        results.append(snapshot(optimizer))
    assert same_bits(*results)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_nothing_is_written_around_a_tensor(size: int, offset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    room = torch.full((size + 8 + 2 * BLOCK,), 7.0)
    around = torch.ones_like(room, dtype=torch.bool)
    around[4 + offset : 4 + offset + size] = False
    p = torch.nn.Parameter(room[4 + offset : 4 + offset + size])
    p.grad = torch.ones(size)
    with triton_for_fused(monkeypatch):
        steepest.Lion([p], fused=True).step()
    assert bool((room[around] == 7).all())
    assert bool((room[~around] != 7).all())


def test_tensors_with_gaps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    p = torch.nn.Parameter(torch.ones(5, 6)[:, ::2])
    p.grad = torch.ones(5, 3)
    with triton_for_fused(monkeypatch), pytest.raises(RuntimeError, match=r"has gaps in its memory; give contiguous"):
        steepest.Lion([p], fused=True).step()


def test_state_on_another_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    p = torch.nn.Parameter(torch.ones(5, 3))
    p.grad = torch.ones(5, 3)
    with triton_for_fused(monkeypatch):
        optimizer = steepest.Lion([p], fused=True)
        optimizer.step()
        optimizer.state[p]["exp_avg"] = optimizer.state[p]["exp_avg"].to("meta")
        words = r"exp_avg of the parameter of shape \(5, 3\) is on meta, and the parameter on cpu; load_state_dict puts"
        with pytest.raises(RuntimeError, match=words):
            optimizer.step()


@pytest.mark.parametrize("is_capturable", [False, True])
def test_a_graph_is_captured_only_with_counts_on_the_device(
    is_capturable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = torch.nn.Parameter(torch.ones(5, 3))
    with triton_for_fused(monkeypatch):
        optimizer = steepest.NAdam([p], fused=True, capturable=is_capturable)
        p.grad = torch.ones(5, 3)
        optimizer.step()
        before = snapshot(optimizer)
        monkeypatch.setattr(bucket, "is_capturing", lambda device: True)
        if is_capturable:
            optimizer.step()
        else:
            with pytest.raises(RuntimeError, match=r"replays would repeat this step's count .* capturable=True"):
                optimizer.step()
    assert same_bits(snapshot(optimizer), before) != is_capturable


def test_the_comparison_sees_the_last_bit_of_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = bucket.Constants.of

    def moved(self: bucket.Constants, *given: Any) -> Tensor:
        exact = theirs(self, *given)
        return torch.nextafter(exact, torch.full_like(exact, 10.0))

    monkeypatch.setattr(bucket.Constants, "of", moved)
    start = tensors(torch.float32)
    found, expected = both(monkeypatch, steepest.AdamW, {}, start, gradients(start, 2, torch.float32))
    assert not same_bits(found, expected)


def test_the_interpreters_own_conversions_of_bfloat16_are_wrong_and_the_harnesss_are_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from triton.runtime import interpreter

    monkeypatch.undo()  # the conversions as they are shipped
    x, language = drawn((1000,), 1, torch.float32), interpreter.tl
    bits = x.bfloat16().view(torch.int16).numpy().view("uint16")
    found = interpreter._convert_float(x.numpy(), language.float32, language.bfloat16, None)
    assert 0.3 < (found.view("uint16") != bits).mean() < 0.7
    assert (rounded_to_bfloat16(x.numpy()) == bits).all()
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
    numbers = every.view(torch.bfloat16).float()
    read = torch.from_numpy(read_as_bfloat16(every.numpy().view("uint16")))
    assert torch.equal(read.isnan(), numbers.isnan())
    assert torch.equal(read.nan_to_num(), numbers.nan_to_num())
    theirs = interpreter._convert_float(every.numpy().view("uint16"), language.bfloat16, language.float32, None)
    assert not torch.equal(torch.from_numpy(theirs).nan_to_num(), numbers.nan_to_num())
