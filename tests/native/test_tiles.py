"""Kernels of rows and columns: tiles and their borders, threads, layouts, numbers of every line, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import steepest
from cases import Options, buckets_of, snapshot
from steepest import Optimizer, Rule, State, fields
from steepest.vocabulary import axis_total, column_mean, mean, norm, rms, row_mean, total, unit_norm
from test_executors import LOCAL, build, step

OF_ROWS: list[tuple[type[Optimizer], Options]] = [
    (steepest.Adafactor, {}),
    (steepest.CAME, {}),
    (steepest.AdamMini, {}),
    (steepest.AdamP, {"delta": 4.0}),
    (steepest.SGDP, {"momentum": 0.9, "delta": 4.0}),
    (steepest.AdamW, {"agc": 0.1}),
    *((cls, {}) for cls in LOCAL if cls.rule.fn.__name__ in ("nested", "by_unit", "by_index")),
]
every_rule_of_rows = pytest.mark.parametrize(
    ("cls", "options"), [pytest.param(*row, id=row[0].rule.fn.__name__) for row in OF_ROWS]
)

BORDERS: list[tuple[int, ...]] = [
    *((3, width) for width in (1, 15, 16, 17, 1023, 1024, 1025)),
    *((height, 1030) for height in (1, 63, 64, 65, 129)),
    *((70_000, 3), (2, 2, 3, 5), (4, 1, 7), (3, 7, 1), (0, 4), (4, 0), (2, 0, 3)),
]
"""Widths about those of a lane and a tile, heights about that of a tile, stacks of matrices, some without elements."""


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_rule_of_rows
def test_tiles_and_their_borders(cls: type[Optimizer], options: Options) -> None:
    start = [drawn(shape, seed) for seed, shape in enumerate(BORDERS)]
    ours, plain = (build(cls, [x.clone() for x in start], name, options) for name in ("native", "reference"))
    for t in range(3):
        grads = [drawn(shape, 100 * t + seed) for seed, shape in enumerate(BORDERS, 50)]
        for optimizer in (ours, plain):
            step(optimizer, grads)
    assert all(type(bucket).__name__ == "KernelBucket" for bucket in buckets_of(ours))
    for (p, held), (q, other) in zip(snapshot(ours), snapshot(plain), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-11)
        for name, value in held.items():
            torch.testing.assert_close(value, other[name], rtol=1e-10, atol=1e-12, equal_nan=True)


@every_rule_of_rows
def test_no_bit_depends_on_threads(cls: type[Optimizer], options: Options) -> None:
    shapes = [(400, 700), (130, 1100), (8, 3, 3), (600, 3, 3)]
    runs = []
    before = torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        optimizer = build(cls, [drawn(shape, 1).float() for shape in shapes], "native", options)
        for t in range(2):
            step(optimizer, [drawn(shape, 2 + t).float() for shape in shapes])
        runs.append(snapshot(optimizer))
    torch.set_num_threads(before)
    for other in runs[1:]:
        for (p, held), (q, theirs) in zip(runs[0], other, strict=True):
            assert torch.equal(p, q)
            assert all(torch.equal(held[name], theirs[name]) for name in held)


LAYOUTS = {
    "transposed": lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    "with gaps": lambda x: torch.stack([x, x], -1)[..., 0],
    "shifted": lambda x: torch.cat([x.flatten(), x.flatten()])[1 : 1 + x.numel()].view(x.shape).copy_(x),
}


@every_rule_of_rows
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_that_do_not_lie_one_after_the_other(cls: type[Optimizer], options: Options, layout: str) -> None:
    """A copy is stepped and written back: the same bits, in the parameter's own memory."""
    results = []
    for lay in (LAYOUTS[layout], torch.clone):
        p = torch.nn.Parameter(lay(drawn((5, 6), 1)))
        optimizer = build(cls, [p], "native", options)
        where = p.data_ptr(), p.stride()
        for seed in (2, 3):
            step(optimizer, [lay(drawn((5, 6), seed))])
        (p,) = optimizer.param_groups[0]["params"]
        assert (p.data_ptr(), p.stride()) == where
        results.append(snapshot(optimizer))
    ((p, held),), ((q, other),) = results
    assert torch.equal(p, q)
    assert all(torch.equal(held[name], other[name]) for name in held)


def test_channels_last_images() -> None:
    results = []
    for memory_format in (torch.channels_last, torch.contiguous_format):
        p = drawn((8, 4, 3, 3), 1).to(memory_format=memory_format)
        optimizer = build(steepest.Adafactor, [p], "native", {})
        step(optimizer, [drawn((8, 4, 3, 3), 2)])
        results.append(optimizer.param_groups[0]["params"][0])
    assert torch.equal(*results)
    assert results[0].is_contiguous(memory_format=torch.channels_last)


def of_rule(rule: Rule) -> type[Optimizer]:
    """A class around a rule."""

    class Local(Optimizer):
        """A rule of this test."""

        lr: float = fields.lr(0.1)
        foreach: bool | None = fields.foreach()
        fused: bool | None = fields.fused()

    Local.rule = rule
    return Local


# -- numbers of every line ---------------------------------------------------------------------------------------------


def everywhere(p: Any, g: Any, r: Any, c: Any, k: Any, *, lr: Any) -> Any:
    """Sums of tensors, matrices, rows and columns, of elements and of each other."""
    r = r + row_mean(g)
    c = c + column_mean(g * r)
    of_matrix = column_mean(r * r) + row_mean(c)
    k = k + norm(r) + rms(c) + total(of_matrix) + mean(g * c) + norm(g)
    return p - lr * (g + r + c + of_matrix + k), r, c, k


def test_numbers_of_every_line_by_hand() -> None:
    r, c, k = State("r", "row"), State("c", "column"), State("k", "tensor_scalar")
    rule = Rule(everywhere, "per_tensor", (r, c, k))
    p = drawn((3, 4, 5), 1)
    r, c, k = torch.zeros(3, 4, 1), torch.zeros(3, 1, 5), 0.0
    optimizer = build(of_rule(rule), [p.clone()], "native", {})
    for seed in (2, 3):
        g = drawn((3, 4, 5), seed)
        step(optimizer, [g])
        r = r + g.sum(2, keepdim=True) / 5
        c = c + (g * r).sum(1, keepdim=True) / 4
        of_matrix = (r**2).sum((1, 2), keepdim=True) / 4 + c.sum((1, 2), keepdim=True) / 5
        k = (
            k
            + (r**2).sum() ** 0.5
            + ((c**2).sum() / 15) ** 0.5
            + of_matrix.sum()
            + (g * c).sum() / 60
            + (g**2).sum() ** 0.5
        )
        p = p - 0.1 * (g + r + c + of_matrix + k)
    ((moved, held),) = snapshot(optimizer)
    for ours, theirs in ((moved, p), (held["r"], r), (held["c"], c), (held["k"], k)):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def moving(p: Any, g: Any, a: Any, b: Any, c: Any, d: Any, *, lr: Any) -> Any:
    """State that becomes other state, that is read once its new value is known, that becomes a number of the tensor."""
    large = norm(row_mean(g))
    return p - lr * (a * large + c * large + b + d) * g, b, a, row_mean(g), norm(g)


def test_state_is_read_before_it_is_written() -> None:
    rule = Rule(moving, "per_tensor", tuple(State(name, "row", init=0.5) for name in "abcd"))
    runs = [build(of_rule(rule), [drawn((5, 7), 1)], executor, {}) for executor in ("native", "reference")]
    for seed in (2, 3, 4):
        for optimizer in runs:
            step(optimizer, [drawn((5, 7), seed)])
    ((p, held),), ((q, other),) = map(snapshot, runs)
    torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
    for name in "abcd":
        torch.testing.assert_close(held[name], other[name].expand_as(held[name]), rtol=1e-12, atol=1e-12)


def test_units_are_all_that_an_index_of_the_first_dimension_holds() -> None:
    cls = of_rule(Rule(lambda p, g, *, lr: p - lr * g / unit_norm(g), "per_tensor"))
    for shape in ((3, 2, 4), (3, 4), (5,), ()):
        p, g = drawn(shape, 1), drawn(shape, 2)
        optimizer = build(cls, [p.clone()], "native", {})
        step(optimizer, [g])
        norms = g.flatten(1).norm(dim=1).view(-1, *[1] * (len(shape) - 1)) if len(shape) > 1 else g.norm()
        torch.testing.assert_close(optimizer.param_groups[0]["params"][0].detach(), p - 0.1 * g / norms)


def test_complex_units_are_units_of_pairs() -> None:
    runs = []
    for executor in ("native", "reference"):
        optimizer = build(steepest.AdamP, [drawn((4, 6), 1).view(4, 3, 2)], executor, {"delta": 4.0})
        pairs = build(steepest.AdamP, [torch.view_as_complex(drawn((4, 6), 1).view(4, 3, 2))], executor, {"delta": 4.0})
        for seed in (2, 3):
            step(optimizer, [drawn((4, 6), seed).view(4, 3, 2)])
            step(pairs, [torch.view_as_complex(drawn((4, 6), seed).view(4, 3, 2))])
        runs += [snapshot(optimizer)[0][0], torch.view_as_real(snapshot(pairs)[0][0])]
    for other in runs[1:]:
        torch.testing.assert_close(other, runs[0], rtol=1e-12, atol=1e-12)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"),
    [("row_var", (1, 4)), ("row_var", (4,)), ("row_var", (4, 4)), ("col_var", (4, 1)), ("col_var", (1, 5))],
)
def test_state_of_another_shape_is_refused(name: str, shape: tuple[int, ...]) -> None:
    optimizer = build(steepest.Adafactor, [drawn((4, 4), 1)], "native", {})
    step(optimizer, [drawn((4, 4), 2)])
    (p,) = optimizer.param_groups[0]["params"]
    optimizer.state[p][name] = torch.ones(shape, dtype=torch.float64)
    before = p.detach().clone()
    with pytest.raises(RuntimeError, match=rf"{name} of the parameter of shape \(4, 4\) has another shape or layout"):
        step(optimizer, [drawn((4, 4), 3)])
    assert torch.equal(p, before)


def test_codes_beside_rows_that_their_blocks_divide() -> None:
    """The codes and the random bits of the foreach executor; rows of another length run there."""
    results = []
    for executor in ("native", "foreach"):
        optimizer = build(steepest.CAME, [drawn((8, 512), 1).float()], executor, {"state_dtype": "int8"})
        for seed in (2, 3, 4):
            step(optimizer, [drawn((8, 512), seed).float()])
        results.append(snapshot(optimizer)[0][1])
    assert torch.equal(results[0]["exp_avg_int8"], results[1]["exp_avg_int8"])
    torch.testing.assert_close(results[0]["exp_avg_scale"], results[1]["exp_avg_scale"])
    p = torch.nn.Parameter(drawn((64, 80), 1).float())
    optimizer = steepest.CAME([p], state_dtype="int8")
    step(optimizer, [drawn((64, 80), 2).float()])
    assert optimizer.executor == "foreach"
    assert "has rows that are no multiple of 256 long" in optimizer.executor.reason


OF_VECTORS = {
    "rows": Rule(lambda p, g, *, lr: p - lr * row_mean(g), "per_tensor"),
    "an axis": Rule(lambda p, g, *, lr: p - lr * axis_total(g, 0), "per_tensor"),
    "state of an axis": Rule(
        lambda p, g, a, *, lr: (p - lr * g / unit_norm(g), a), "per_tensor", (State("a", "axis_0"),)
    ),
}


@pytest.mark.parametrize("rule", OF_VECTORS.values(), ids=list(OF_VECTORS))
def test_a_vector_is_no_matrix_for_these_rules(rule: Rule) -> None:
    """Every element of a vector is an index of its axis, but the vector is one unit."""
    with pytest.raises(RuntimeError, match="is no matrix, or a complex one"):
        step(build(of_rule(rule), [drawn((4,), 1)], "native", {}), [drawn((4,), 2)])
