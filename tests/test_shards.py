"""Parameters split over ranks: the bits of one process for pointwise rules, its numbers for rules with sums."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from operator import is_
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import steepest
from ranks import on_ranks, whole
from steepest.executors import owners, reference

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")

SHAPES = ((5, 7), (1, 3), (9,), (64, 32))
"""Rows that do not divide evenly, and fewer rows than ranks."""
APART: tuple[tuple[str, dict[str, Any]], ...] = (
    ("adamw", {}),
    ("adamw", {"foreach": True}),
    ("adamw", {"fused": True}),
    ("adam", {"amsgrad": True, "ema_decay": 0.9, "max_value": 0.5}),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "lookahead": (3, 0.5)}),
    ("lion", {"weight_decay": 0.1}),
    ("radam", {}),
    ("rprop", {}),
    ("nadam", {"capturable": True, "foreach": True}),
)
"""Optimizers of which each rank steps its part by itself."""
WHOLE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("novograd", {"fused": True}),
    ("lamb", {"fused": True}),
    ("lamb", {"foreach": False}),
    ("sm3", {}),
    ("adamw", {"state_dtype": "int8"}),
    ("normuon", {}),
    ("muon", {"hyperball": True, "weight_decay": 0.0}),
    ("soap", {"precondition_frequency": 2}),
    ("shampoo", {"lr": 0.1}),
    ("splus", {"lr": 0.1, "precondition_frequency": 2}),
    ("galore", {"rank": 3, "update_proj_gap": 2}),
    ("psgdkron", {}),
)
"""Optimizers whose parameters are stepped by their owners."""
MATRICES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("muon", {}),
    ("muon", {"foreach": False, "nesterov": False}),
    ("muon", {"adjust_lr_fn": "rms_norm", "ema_decay": 0.9}),
    ("muon", {"ns_dtype": "float64", "ns_coefficients": "polar5", "maximize": True}),
    ("muon2", {}),
    ("adamuon", {}),
    ("scion", {"scale": 2.0}),
    ("scion", {"norm": "sign"}),
    ("scion", {"norm": "row_norm"}),
    ("scion", {"norm": "col_norm"}),
)
"""Optimizers that need one function of whole matrices."""
CODED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("adamw", {"state_dtype": "int8"}),
    ("adamw", {"state_dtype": "int8", "foreach": True}),
    ("adamw", {"state_dtype": "int8", "fused": False, "foreach": False}),
    ("adamw", {"state_dtype": "bfloat16", "fused": True}),
    ("prodigy", {"state_dtype": "bfloat16"}),
)
"""Optimizers with coded state."""
LARGE = (40, 256), (61, 256), (9, 512), (33, 130)
"""Parts that start where a block does, of equal sizes and not, with scales that divide in another way; other parts."""
NEAR: tuple[tuple[str, dict[str, Any]], ...] = (
    ("adamw", {"max_norm": 0.5}),
    ("prodigy", {}),
    ("dog", {}),
    ("ldog", {}),
    ("dadaptadam", {"max_norm": 0.5}),
    ("novograd", {}),
    ("lamb", {}),
    ("adafactor", {}),
    ("adafactor", {"weight_decay": 0.1, "max_norm": 0.5}),
    ("came", {}),
    ("adammini", {}),
    ("adamp", {"delta": 4.0}),
    ("sgdp", {"momentum": 0.9, "delta": 4.0}),
    ("lion", {"cautious": True}),
    ("adamw", {"agc": 0.01}),
    ("adamw", {"centralize": True, "update_rms": 0.2}),
    ("lamb", {"capturable": True}),
)
"""Optimizers with sums over tensors, which ranks add up in another order."""


def pairs(place: Callable[[Tensor], Any], shapes: Any) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Equal parameters, plain and placed."""
    source = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=source) for shape in shapes]
    return [nn.Parameter(x.clone()) for x in values], [nn.Parameter(place(x.clone())) for x in values]


def steps(
    place: Callable[[Tensor], Any], name: str, options: dict[str, Any], count: int = 4, shapes: Any = SHAPES
) -> tuple[Any, Any]:
    """An optimizer of plain and one of placed parameters, after equal steps."""
    made = pairs(place, shapes)
    plain, placed = (steepest.create(name, params, **options) for params in made)
    source = torch.Generator().manual_seed(1)
    for step in range(count):
        for p, q in zip(*made, strict=True):
            p.grad = torch.randn(p.shape, generator=source)
            q.grad = place(p.grad.clone())
            if step == 1 and p.ndim == 1:
                p.grad = q.grad = None
        plain.step()
        placed.step()
    return plain, placed


def placements(x: Any) -> Any:
    return getattr(x, "placements", None)


def params(optimizer: Any) -> list[Tensor]:
    found: list[Tensor] = optimizer.param_groups[0]["params"]
    return found


def exact(place: Callable[[Tensor], Any], rules: Any = APART, shapes: Any = SHAPES) -> None:
    for name, options in rules:
        plain, placed = steps(place, name, options, shapes=shapes)
        assert placed.executor == plain.executor, (name, placed.executor, placed.executor.reason)
        for p, q in zip(params(plain), params(placed), strict=True):
            assert torch.equal(whole(p), whole(q)), (name, options, p.shape)
            assert q.grad is None or placements(q.grad) == placements(q)
            for key, value in plain.state[p].items():
                kept = placed.state[q][key]
                assert torch.equal(value, whole(kept)), (name, key)
                assert value.shape != p.shape or placements(kept) == placements(q)


def near(place: Callable[[Tensor], Any], rules: Any = NEAR) -> None:
    for name, options in rules:
        plain, placed = steps(place, name, options)
        for p, q in zip(params(plain), params(placed), strict=True):
            torch.testing.assert_close(whole(q), whole(p), rtol=1e-5, atol=1e-6)


def refusals(mesh: Any) -> None:
    from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor

    partial = nn.Parameter(DTensor.from_local(torch.ones(4), mesh, [Partial()]))
    partial.grad = DTensor.from_local(torch.ones(4), mesh, [Partial()])
    with pytest.raises(ValueError, match="its values are sums over ranks"):
        steepest.AdamW([partial]).step()
    summed = nn.Parameter(distribute_tensor(torch.ones(4), mesh, [Shard(0)]))
    summed.grad = DTensor.from_local(torch.ones(4) / mesh.size(), mesh, [Partial()])
    steepest.SGD([summed], lr=0.25).step()
    assert torch.equal(whole(summed), torch.full((4,), 0.75))


def resharded(mesh: Any) -> None:
    """State that is loaded under another placement goes on from there, also where its parameter is placed as before."""
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    _, first = steps(lambda x: distribute_tensor(x, mesh, [Shard(0)]), "adamw", {})
    saved = first.state_dict()
    for held in saved["state"].values():
        held.update({name: x.redistribute(placements=[Replicate()]) for name, x in held.items() if x.ndim})
    others = []
    for placement in (Replicate(), Shard(0)):
        _, other = steps(lambda x, to=placement: distribute_tensor(x, mesh, [to]), "adamw", {}, count=1)
        other.load_state_dict(saved)
        for p, q in zip(params(first), params(other), strict=True):
            with torch.no_grad():
                q.copy_(p.redistribute(placements=[placement]))
            q.grad = torch.ones_like(q)
        others.append(other)
    for p in params(first):
        p.grad = torch.ones_like(p)
    first.step()
    for other in others:
        other.step()
        for p, q in zip(params(first), params(other), strict=True):
            assert torch.equal(whole(p), whole(q))


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the collectives that are called, by name."""
    found: Counter[str] = Counter()

    def counting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            found[name] += 1
            return call(*args, **options)

        return wrapped

    with ExitStack() as changes:
        for name in ("all_gather", "all_reduce", "all_to_all_single"):
            changes.enter_context(patch.object(dist, name, counting(name, getattr(dist, name))))
        yield found


def collectives(rows: Callable[[Tensor], Any]) -> None:
    """A step of parts says nothing to other ranks; sums take one collective, owners two for each wave."""
    with counted() as found:
        exact(rows, CODED[:4], LARGE[:2])
    assert not found
    exact(rows, CODED[:2], LARGE)
    wanted: tuple[tuple[str, dict[str, Any], dict[str, int]], ...] = (
        ("adamw", {}, {}),
        ("adamw", {"max_norm": 0.5}, {"all_gather": 1}),
        ("prodigy", {}, {"all_gather": 1}),
        ("novograd", {}, {"all_gather": 1}),
        ("lamb", {}, {"all_gather": 1}),
        ("adafactor", {}, {"all_gather": 3 + 1}),  # of its matrices, and of its vectors
        ("novograd", {"fused": True}, {"all_to_all_single": 2}),
        ("muon", {"max_norm": 0.5}, {"all_gather": 1, "all_to_all_single": 2}),
        ("adamuon", {}, {"all_to_all_single": 4}),
        ("scion", {"norm": "sign"}, {}),
    )
    for name, options, expected in wanted:
        with counted() as found:
            steps(rows, name, options, count=1)
        assert found == expected, (name, found)


def buckets_last(rows: Callable[[Tensor], Any]) -> None:
    """Parts are put together once, and not at each step."""
    for name in ("adamw", "novograd", "muon"):
        _, placed = steps(rows, name, {}, count=3)
        for p in params(placed):
            p.grad = torch.ones_like(p)
        placed.step()
        before = list(placed._dispatch.known.values())
        placed.step()
        assert before, name
        assert all(map(is_, placed._dispatch.known.values(), before)), name


def state_is_split(rows: Callable[[Tensor], Any]) -> None:
    """Each rank keeps its share of state, also of that of a matrix's sides, and no memory of the whole."""
    _, placed = steps(rows, "soap", {}, shapes=((64, 32),))
    held = [x for x in placed.state[params(placed)[0]].values() if hasattr(x, "to_local") and x.numel() > 1]
    assert {tuple(x.shape) for x in held} == {(64, 32), (64, 64), (32, 32)}
    for x in held:
        part = x.to_local()
        assert part.untyped_storage().nbytes() == part.nbytes == x.numel() * x.element_size() // 2


def in_waves(rows: Callable[[Tensor], Any]) -> None:
    """Owners that gather little at a time do the same."""
    with patch.object(owners, "MOST", 40):
        exact(rows, (*WHOLE[:3], *MATRICES[:1], *MATRICES[5:6]))
        with counted() as found:
            steps(rows, "lamb", {"fused": True}, count=1)
        assert found == {"all_to_all_single": 2 * 2}


def matrices(place: Callable[[Tensor], Any], mesh: Any) -> None:
    """Only what is orthogonalized travels, whatever of a parameter is a matrix; of a stack of matrices nothing does."""
    exact(place, MATRICES)
    exact(place, (MATRICES[0], ("scion", {})), ((6, 2, 3, 3), (9, 4, 5, 1)))
    exact(place, (("muon", {"heads": 3}),), ((12, 6), (9, 4)))
    with sent() as bytes_sent:
        steps(place, "muon", {}, count=1, shapes=((64, 32), (32, 64)))
    halves = 2 * 64 * 32 * 2 * (mesh.size() - 1) / mesh.size()  # two matrices in bfloat16, but for what stays
    assert sum_over_ranks(bytes_sent) == 2 * halves


@contextmanager
def sent() -> Iterator[list[int]]:
    """The bytes that each message to other ranks has."""
    found: list[int] = []
    call = dist.all_to_all_single

    def noting(received: Tensor, given: Tensor, back: list[int], there: list[int], group: Any, **options: Any) -> Any:
        found.append(sum(there) - there[dist.get_rank(group)])
        return call(received, given, back, there, group, **options)

    with patch.object(dist, "all_to_all_single", noting):
        yield found


def sum_over_ranks(numbers: list[int]) -> int:
    total = torch.tensor(sum(numbers))
    dist.all_reduce(total)
    return int(total)


def stacks(rows: Callable[[Tensor], Any]) -> None:
    """Experts that are split between ranks are orthogonalized where they are."""
    with counted() as found:
        exact(rows, (("muon", {"matrices": "batch"}),), ((5, 6, 7), (1, 4, 4)))
    assert not found, found


def starts(rows: Callable[[Tensor], Any]) -> None:
    """A matrix of which one rank has only zeros is not zero, and all ranks start Scion from one draw."""
    values = torch.zeros(4, 3)
    values[0] = 1.0
    p = nn.Parameter(rows(values))
    steepest.AdamW([p], lr=0.1, weight_decay=0, hyperball=True)
    scion = steepest.Scion([p], scale=3.0)
    torch.manual_seed(dist.get_rank())
    scion.init_norm_ball()
    drawn = whole(p)
    torch.testing.assert_close(torch.linalg.svdvals(drawn), torch.full((3,), 3.0 * math.sqrt(4 / 3)), rtol=0.05, atol=0)
    everywhere = [torch.empty_like(drawn) for _ in range(dist.get_world_size())]
    dist.all_gather(everywhere, drawn)
    assert torch.equal(*everywhere)


def mixed(rows: Callable[[Tensor], Any]) -> None:
    """Parameters that are split, and others that every rank has, in one group."""
    exact(lambda x: rows(x) if x.ndim == 2 else x, (*APART[:1], *WHOLE[:1], ("soap", {})))


def failures(rows: Callable[[Tensor], Any]) -> None:
    """What went wrong on a parameter's owner is known to all ranks."""
    p = nn.Parameter(rows(torch.eye(4)))
    optimizer = steepest.Shampoo([p], lr=0.1)
    p.grad = rows(torch.full((4, 4), math.nan))
    optimizer.step()
    assert optimizer.failures == 2


def conversions(rows: Callable[[Tensor], Any]) -> None:
    """State takes another form in the same values, and loads in another form."""
    for before, after in ((None, "int8"), ("int8", None), ("int8", "bfloat16")):
        made = steps(rows, "adamw", {"state_dtype": before})
        loaded = [steps(lambda x: x, "adamw", {"state_dtype": after}), steps(rows, "adamw", {"state_dtype": after})]
        for optimizer, other in zip(made, (loaded[0][0], loaded[1][1]), strict=True):
            other.load_state_dict(optimizer.state_dict())
            optimizer.convert_state(state_dtype=after)
        for pair in (made, (loaded[0][0], loaded[1][1])):
            for p, q in zip(*map(params, pair), strict=True):
                for key, value in pair[0].state[p].items():
                    assert torch.equal(value, whole(pair[1].state[q][key])), (before, after, key)


def long_vectors(rows: Callable[[Tensor], Any]) -> None:
    """A line search sees whole parameters on every rank, and Mechanic takes its products over all parts."""
    plain, placed = (nn.Parameter(place(torch.arange(27.0).view(9, 3))) for place in (lambda x: x, rows))
    for p in (plain, placed):
        search = steepest.LBFGS([p], line_search_fn="strong_wolfe")

        def closure(p: Any = p, search: Any = search) -> Any:
            search.zero_grad()
            loss = whole_loss(p)
            loss.backward()
            return loss

        search.step(closure)
        tuned = steepest.Mechanic(steepest.SGD([p], lr=0.1))
        for _ in range(3):
            closure()
            tuned.step()
    torch.testing.assert_close(whole(placed), plain.detach())
    assert not torch.equal(plain, torch.arange(27.0).view(9, 3))


def whole_loss(p: Tensor) -> Tensor:
    values: Any = p
    return ((values.full_tensor() if hasattr(p, "full_tensor") else values) / 9 - 1).pow(4).sum()


def replicas(mesh: Any) -> None:
    """Copies that differ in one bit are found on all ranks, and told apart from parts, which do differ."""
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    split = nn.Parameter(distribute_tensor(torch.arange(6.0), mesh, [Shard(0)]))
    copied = nn.Parameter(DTensor.from_local(torch.ones(3), mesh, [Replicate()]))
    plain = nn.Parameter(torch.ones(2, 3))
    optimizer = steepest.SGD([split, copied, plain], lr=0.1)
    steepest.check_replicas(optimizer)
    plain.grad = torch.zeros(2, 3)
    steepest.check_replicas([plain], group=mesh.get_group())
    if mesh.get_rank() == 1:
        plain.grad[1, 2] = -0.0
        with torch.no_grad():
            copied.to_local()[0] += 1e-6  # type: ignore[attr-defined]
    message = r"differ in the weights of parameter 1, of shape \(3,\): rank 0 against 1; the gradient of parameter 2"
    with pytest.raises(ValueError, match=message):
        steepest.check_replicas(optimizer)
    plain.grad = None if mesh.get_rank() == 1 else torch.zeros(2, 3)
    with pytest.raises(ValueError, match="differ in the gradient of parameter 0, of shape"):
        steepest.check_replicas([plain])


def test_replicas_need_ranks() -> None:
    with pytest.raises(RuntimeError, match="compares ranks, and needs"):
        steepest.check_replicas([torch.ones(3)])


def on_two() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (2,))
    rows: Callable[[Tensor], Any] = lambda x: distribute_tensor(x, mesh, [Shard(0)])  # noqa: E731
    with patch.object(reference, "_get_capturable_supported_devices", lambda: ["cpu"]):
        exact(rows, (*APART, *WHOLE))
        near(rows)
    matrices(rows, mesh)
    matrices(lambda x: distribute_tensor(x, mesh, [Shard(x.ndim - 1)]), mesh)
    stacks(rows)
    starts(rows)
    collectives(rows)
    buckets_last(rows)
    state_is_split(rows)
    in_waves(rows)
    mixed(rows)
    failures(rows)
    replicas(mesh)
    conversions(rows)
    long_vectors(rows)
    refusals(mesh)
    resharded(mesh)


def on_four() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    line, square = init_device_mesh("cpu", (4,)), init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    exact(lambda x: distribute_tensor(x, line, [Shard(0)]), APART[:2])
    exact(lambda x: distribute_tensor(x, square, [Replicate(), Shard(0)]), APART[3:4])
    exact(lambda x: distribute_tensor(x, square, [Shard(0), Shard(x.ndim - 1)]), APART[3:5])
    matrices(lambda x: distribute_tensor(x, line, [Shard(0)]), line)
    exact(lambda x: distribute_tensor(x, square, [Replicate(), Shard(0)]), MATRICES[::3])
    exact(lambda x: distribute_tensor(x, square, [Shard(0), Shard(x.ndim - 1)]), MATRICES[:1])
    some = [rule for rule in WHOLE if rule[0] in ("novograd", "sm3", "soap", "galore")]
    exact(lambda x: distribute_tensor(x, line, [Shard(0)]), some)
    exact(lambda x: distribute_tensor(x, square, [Replicate(), Shard(x.ndim - 1)]), some)
    exact(lambda x: distribute_tensor(x, square, [Shard(0), Shard(x.ndim - 1)]), some)
    with patch.object(reference, "_get_capturable_supported_devices", lambda: ["cpu"]):
        near(lambda x: distribute_tensor(x, square, [Replicate(), Shard(0)]), NEAR[::4])
        near(lambda x: distribute_tensor(x, square, [Shard(0), Shard(x.ndim - 1)]))
    strided(square)


def strided(mesh: Any) -> None:
    """Chunks in another order, as of tensor parallelism inside of fully_shard."""
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor
    from torch.distributed.tensor.placement_types import _StridedShard

    def place(x: Tensor) -> Any:
        if x.ndim < 2:
            return distribute_tensor(x, mesh, [Shard(0), Shard(0)])
        inner = distribute_tensor(x, mesh["tp"], [Shard(0)]).to_local()
        part = distribute_tensor(inner, mesh["dp"], [Shard(0)], src_data_rank=None).to_local()
        placements = [_StridedShard(0, split_factor=2), Shard(0)]
        return DTensor.from_local(part, mesh, placements, shape=x.shape, stride=x.stride())

    shapes = ((8, 7), (9,), (64, 32))
    exact(place, (APART[0], WHOLE[0], ("splus", {"lr": 0.1})), shapes)


@pytest.mark.parametrize(("run", "ranks"), [(on_two, 2), (on_four, 4)])
def test_parameters_that_are_split_over_ranks(run: Callable[[], None], ranks: int, tmp_path: Path) -> None:
    on_ranks(ranks, run, tmp_path)
