"""Coded state and parameters through the optimizer: what is kept, what the rules make of it, files, and refusals."""

from __future__ import annotations

import copy
import itertools
import operator
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import steepest
from cases import (
    CLASSES,
    PLANNED,
    PLANNED_TWINS,
    SWITCHES,
    Twins,
    assert_same,
    class_under_test,
    defaults,
    kept_numbers,
    same,
    snapshot,
    spec_of,
    through_file,
)
from steepest import Optimizer, codecs, storage
from steepest.executors import foreach, reference
from steepest.kinds import Extent
from steepest.rule import PLANNED_KINDS
from steepest.trace import trace

SIZE = 64 * 80
CODES = {"bfloat16": torch.bfloat16, "int8": torch.uint8}
"""The dtype of the codes of every state_dtype."""


def has_codable_state(cls: type[Optimizer]) -> bool:
    """Whether a class keeps, or may keep, state that a code does not hurt; SGDScheduleFree keeps weights alone."""
    return cls.rule.kind in PLANNED_KINDS and (not cls.rule.state or any(not s.exact for s in cls.rule.state))


CODABLE = {name: cls for name, cls in PLANNED.items() if has_codable_state(cls)}
CODABLE_TWINS = {name: twins for name, twins in PLANNED_TWINS.items() if name in CODABLE}
every_codable_class = pytest.mark.parametrize("cls", CODABLE.values(), ids=list(CODABLE))
every_state_dtype = pytest.mark.parametrize("state_dtype", list(CODES))
every_executor = pytest.mark.parametrize("executor", ["reference", "foreach"])


def lively(cls: type[Optimizer]) -> dict[str, Any]:
    """What brings all state to life that can be coded."""
    return {"momentum": 0.9} if "momentum" in cls.fields else {}


SHAPES: list[tuple[int, ...]] = [(64, 80), (7,)]


@pytest.fixture(autouse=True)
def _state_can_be_coded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a matrix has no state like it (Adafactor's is factored), the large parameter is a vector."""
    cls, p = class_under_test(request.node), torch.zeros(SHAPES[0])
    if cls is not None and not any(s.is_codable and s.where(p) for s in cls.rule.state):
        monkeypatch.setattr(request.module, "SHAPES", [(p.numel(),), *SHAPES[1:]])


def problem(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    """A parameter that is large enough to be coded, and a vector that is not."""
    source = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=source).to(dtype)) for shape in SHAPES]


def descend(optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    """Noisy gradients of a quadratic with curvatures from 0.1 to 10."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for step in range(start, start + steps):
        source = torch.Generator().manual_seed(100 + step)
        for p in params:
            scale = torch.logspace(-1, 1, p.numel()).view(p.shape)
            noise = 0.1 * torch.randn(p.shape, generator=source)
            p.grad = (scale * (p.detach().float() - 0.3 + noise)).to(p.dtype)
        optimizer.step()


def made(cls: type[Optimizer], dtype: torch.dtype = torch.float32, **options: Any) -> Optimizer:
    """An optimizer of the problem, everything lively."""
    return cls(problem(dtype), **{**lively(cls), **options})


def first(optimizer: torch.optim.Optimizer) -> tuple[Tensor, dict[str, Any]]:
    """The first parameter and its state."""
    p = optimizer.param_groups[0]["params"][0]
    return p, optimizer.state[p]


def bytes_of(held: dict[str, Any]) -> int:
    return sum(x.numel() * x.element_size() for x in held.values())


def like_states(optimizer: Optimizer) -> list[steepest.State]:
    return [s for s in spec_of(optimizer).existing if s.is_codable]


# -- what the rules make of it ---------------------------------------------------------------------------------------

FAR = {"bfloat16": 0.01, "int8": 0.12}
"""How far a coded run may be from a plain one after 30 steps, in parts of the way that it went (root mean square).
Measured over all rules: at most 0.0044 and 0.055; with int8 0.101 for AdaMod, whose state has rates of all sizes."""

FAR_DECIDING = 0.05
"""The same for rules that compare elements, where the last bit of a number may decide the sign of a step. Measured for
Rprop: 0.029 with either code."""


FAR_SHARING = 0.5
"""The same for rules that find their step size, and in these few steps find one at which the weights swing. Measured
for DAdaptAdam: 0.07 and 0.40. What they find must be near; see `NEAR`."""

NEAR = 0.02
"""How far a number that parameters share may be from that of a plain run, in parts of it."""


COMPARISONS = (operator.gt, operator.ge, operator.lt, operator.le, operator.eq, operator.ne)


def decides(cls: type[Optimizer]) -> bool:
    """Whether the rule compares elements of tensors."""
    spec = spec_of(made(cls))
    graph = trace(spec.program(), (*spec.numbers, "t")).graph
    return any(node.target in COMPARISONS and node.meta["extent"] > Extent.HOST for node in graph.nodes)


@pytest.mark.thin("structure", "executor")
@every_executor
@every_state_dtype
@every_codable_class
def test_a_coded_run_stays_near_a_plain_one(cls: type[Optimizer], state_dtype: str, executor: str) -> None:
    plain, coded = made(cls), made(cls, state_dtype=state_dtype, **SWITCHES[executor])
    begin = problem()[0]
    descend(plain, 30)
    descend(coded, 30)
    assert coded.executor == executor
    (p, _), (q, held) = first(plain), first(coded)
    far = FAR_SHARING if cls.rule.shared else FAR_DECIDING if decides(cls) else FAR[state_dtype]
    for own, other in zip(kept_numbers(plain), kept_numbers(coded), strict=True):
        assert other == pytest.approx(own, rel=NEAR)
    assert (p - q).square().mean().sqrt() < far * (p - begin).square().mean().sqrt()
    for state in (state for state in like_states(coded) if state.where(q)):
        assert state.name not in held
        assert held[f"{state.name}_{state_dtype}"].dtype == CODES[state_dtype]
        assert held[f"{state.name}_{state_dtype}"].shape == p.shape


@every_state_dtype
@every_codable_class
def test_small_tensors_are_plain_and_have_torchs_names(cls: type[Optimizer], state_dtype: str) -> None:
    plain, coded = made(cls, foreach=True), made(cls, foreach=True, state_dtype=state_dtype)
    descend(plain, 3)
    descend(coded, 3)
    small = [optimizer.param_groups[0]["params"][1] for optimizer in (plain, coded)]
    if cls.rule.shared is not None:  # the large parameter's codes move the numbers of the small one
        assert coded.state[small[1]].keys() == plain.state[small[0]].keys()
        return
    assert_same([(small[0].detach(), plain.state[small[0]])], [(small[1].detach(), coded.state[small[1]])])


def test_the_limit_is_4096_elements() -> None:
    params = [torch.nn.Parameter(torch.ones(n)) for n in (4095, 4096)]
    optimizer = steepest.Adam(params, state_dtype="int8")
    descend(optimizer, 1)
    assert "exp_avg" in optimizer.state[params[0]]
    assert "exp_avg_int8" in optimizer.state[params[1]]


def test_bytes() -> None:
    """Two codes of a byte, and two scales of four bytes for every 256 of them; torch keeps eight bytes."""
    for state_dtype, most in (("int8", 2.1), ("bfloat16", 4.01)):
        optimizer = made(steepest.Adam, state_dtype=state_dtype)
        descend(optimizer, 1)
        assert bytes_of(first(optimizer)[1]) < most * SIZE


@every_executor
@pytest.mark.parametrize("outlier", [1e4, 1e5])
@pytest.mark.parametrize("state_dtype", list(CODES))
def test_an_outlier_beside_ordinary_gradients(state_dtype: str, outlier: float, executor: str) -> None:
    """A second moment that vanished beside a momentum that did not would make steps of thousands of learning rates.

    In float32 the largest of these steps is 1.0 learning rates; an int8 second moment may be 0.39 of what it should be
    (a step 1.6 times as large), and momentum is then the average of few gradients: 3 is a bound, not a measurement.
    """
    p = torch.nn.Parameter(torch.zeros(SIZE))
    optimizer = steepest.Adam([p], lr=1.0, state_dtype=state_dtype, **SWITCHES[executor])
    source = torch.Generator().manual_seed(1)
    for step in range(60):
        p.grad = torch.randn(SIZE, generator=source)
        if step == 3:
            p.grad[::256] = outlier
        before = p.detach().clone()
        optimizer.step()
        second = storage.read(steepest.Adam.rule.state[2], optimizer.state[p])
        assert second is not None
        assert second.min() > 0
        # The outlier's own momentum outlives nothing: its second moment is as large. All others are ordinary.
        assert (p - before).abs().max() < 3


def test_reference_and_foreach_write_the_same_codes() -> None:
    """Momentum's buffer is the same float32 in both, so its codes are the same to the bit."""
    runs = [made(steepest.SGD, state_dtype="int8", **SWITCHES[name]) for name in ("reference", "foreach")]
    source = torch.Generator().manual_seed(5)
    for _ in range(5):
        g = torch.randn(64, 80, generator=source)
        for optimizer in runs:
            p = first(optimizer)[0]
            p.grad = g.clone()
            optimizer.step()
    held = [first(optimizer)[1] for optimizer in runs]
    assert list(held[0]) == ["step", "momentum_buffer_int8", "momentum_buffer_scale"]
    assert all(same(held[0][name], held[1][name]) for name in held[0])
    torch.testing.assert_close(first(runs[0])[0], first(runs[1])[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(("cls", "weight_decay"), [(steepest.SGD, 0.1), (steepest.AdamW, 0.1), (steepest.Adam, 0.0)])
def test_common_steps_act_on_decoded_values(cls: type[Optimizer], weight_decay: float, maximize: bool) -> None:
    options = {"weight_decay": weight_decay, "maximize": maximize, "lr": 1e-3}
    runs = [made(cls, state_dtype=d, **options) for d in (None, "bfloat16")]
    for optimizer in runs:
        descend(optimizer, 10)
    (p, _), (q, _) = map(first, runs)
    assert (p - q).square().mean().sqrt() < 0.01 * (p - problem()[0]).square().mean().sqrt()


# -- random bits -----------------------------------------------------------------------------------------------------


@every_state_dtype
def test_results_depend_on_no_chunk_and_no_thread(state_dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ran() -> Any:
        optimizer = made(steepest.Adam, state_dtype=state_dtype, foreach=True, ema_decay=0.9)
        descend(optimizer, 4)
        return snapshot(optimizer)

    count = torch.get_num_threads()
    whole = ran()
    torch.set_num_threads(3 - min(count, 2))
    threads = ran()
    torch.set_num_threads(count)
    monkeypatch.setattr(foreach, "CHUNK", 1024)
    monkeypatch.setattr(codecs, "PIECE", 512)
    assert_same(whole, ran())
    assert_same(whole, threads)


def test_no_more_than_a_chunk_is_decoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run_plain = foreach._run_plain

    def watched(batch: Any) -> Any:
        sizes.append(sum(x.numel() for x in batch.params))
        assert not batch.program.storage
        return run_plain(batch)

    monkeypatch.setattr(foreach, "CHUNK", 1024)
    monkeypatch.setattr(foreach, "_run_plain", watched)
    params = [torch.nn.Parameter(torch.ones(n)) for n in (5000, 4096, 4100)]
    descend(steepest.Adam(params, state_dtype="int8", foreach=True), 1)
    assert sum(sizes) == 13196
    assert max(sizes) <= 1024


def test_torchs_random_numbers_are_not_touched() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    descend(made(steepest.Adam, state_dtype="int8"), 2)
    descend(made(steepest.Adam, torch.bfloat16, parameter_rounding="stochastic"), 2)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("option", [{"state_dtype": "int8"}, {"state_dtype": "bfloat16"}])
def test_a_seed_decides_all_bits(option: dict[str, Any]) -> None:
    a, b, c = (made(steepest.Adam, seed=seed, **option) for seed in (1, 1, 2))
    for optimizer in (a, b, c):
        descend(optimizer, 2)
    assert_same(snapshot(a), snapshot(b))
    assert not torch.equal(first(a)[0], first(c)[0])


def test_equal_parameters_round_with_bits_of_their_own() -> None:
    params = [torch.nn.Parameter(torch.ones(5000)) for _ in range(2)]
    optimizer = steepest.SGD(params, momentum=0.9, state_dtype="bfloat16")
    for p in params:
        p.grad = torch.linspace(0.1, 0.2, 5000)
    optimizer.step()
    a, b = (optimizer.state[p]["momentum_buffer_bfloat16"] for p in params)
    assert not torch.equal(a, b)


def test_a_parameters_bits_are_its_own_whoever_else_steps() -> None:
    """Bits belong to a parameter's place and its own step count: frozen neighbours and groups do not matter."""

    def ran(live: Callable[[int], bool], groups: bool) -> dict[str, Any]:
        params = [torch.nn.Parameter(torch.ones(5000)) for _ in range(2)]
        given: Any = [{"params": [p]} for p in params] if groups else params
        optimizer = steepest.SGD(given, momentum=0.9, state_dtype="int8")
        for step in range(4):
            params[0].grad = torch.linspace(-1, 1, 5000) if live(step) else None
            params[1].grad = torch.linspace(-2, 1, 5000)
            optimizer.step()
        return optimizer.state[params[1]]

    usual = ran(lambda step: True, groups=False)
    for other in (ran(lambda step: step == 2, False), ran(lambda step: step != 1, True)):
        assert all(same(usual[name], other[name]) for name in usual)


def test_a_late_and_a_thawed_parameter_count_for_themselves() -> None:
    optimizer = made(steepest.Adam, state_dtype="int8")
    late = torch.nn.Parameter(torch.ones(5000))
    descend(optimizer, 2)
    optimizer.add_param_group({"params": [late]})
    p = first(optimizer)[0]
    for step in range(3):
        p.grad = torch.ones_like(p) if step == 2 else None
        late.grad = torch.ones_like(late)
        optimizer.step()
    assert optimizer.state[p]["step"] == 3
    assert optimizer.state[late]["step"] == 3
    assert "exp_avg_int8" in optimizer.state[late]


def test_stochastic_bfloat16_averages_move_where_nearest_ones_stand() -> None:
    """300 steps at 0.999 take 1.0 to 0.741. The mean of 5,120 elements is within 0.002 of it: 5 standard deviations."""
    p = torch.nn.Parameter(torch.zeros(SIZE))
    optimizer = steepest.Adam([p], lr=0.0, state_dtype="bfloat16", foreach=True)
    p.grad = torch.full_like(p, 1000**0.5)
    optimizer.step()
    p.grad = torch.zeros_like(p)
    for _ in range(300):
        optimizer.step()
    second = optimizer.state[p]["exp_avg_sq_bfloat16"].float()
    assert abs(second.mean() - 0.999**300) < 0.002


def test_half_parameters_have_state_of_float32_values() -> None:
    """int8 state of bfloat16 parameters is that of the same run in float32: none of it is rounded to bfloat16."""
    g = torch.linspace(-1, 1, SIZE).bfloat16()
    held = []
    for dtype in (torch.float32, torch.bfloat16):
        p = torch.nn.Parameter(torch.zeros(SIZE, dtype=dtype))
        optimizer = steepest.Adam([p], state_dtype="int8", foreach=True)
        for _ in range(3):
            p.grad = g.to(dtype)
            optimizer.step()
        held.append(optimizer.state[p])
    assert all(same(held[0][name], held[1][name]) for name in held[0])


# -- bfloat16 parameters ---------------------------------------------------------------------------------------------


def exact(optimizer: Optimizer) -> Tensor:
    """The first parameter with all that is kept of it."""
    p = first(optimizer)[0]
    kept = optimizer.state[p].get("compensation")
    return p.detach().double() + (0 if kept is None else kept.double())


def test_small_updates_of_bfloat16_parameters() -> None:
    """100 steps of 1e-4 from 1.0: each is a 40th of bfloat16's last bit, and rounding to nearest loses all of them."""
    end: dict[Any, Tensor] = {}
    for rounding in (None, "stochastic", "kahan"):
        p = torch.nn.Parameter(torch.ones(SIZE, dtype=torch.bfloat16))
        p.grad = torch.ones_like(p)
        optimizer = steepest.SGD([p], lr=1e-4, parameter_rounding=rounding)
        for _ in range(100):
            optimizer.step()
        end[rounding] = exact(optimizer)
    assert (end[None] == 1).all()
    # A step of 2**-8, 100 times at random, and 5 standard deviations of the mean.
    assert abs(end["stochastic"].mean() - 0.99) < 5 * (100 * 1e-4 * 2**-8 / SIZE) ** 0.5
    assert end["stochastic"].unique().numel() > 1
    # Each of 100 steps errs by at most half of the compensation's last bit, 2**-18 of 1.
    assert (end["kahan"] - 0.99).abs().max() < 100 * 2**-18


@every_executor
@pytest.mark.parametrize("parameter_rounding", ["stochastic", "kahan"])
@pytest.mark.parametrize("state_dtype", [None, "bfloat16", "int8"])
def test_bfloat16_parameters_follow_a_float32_run(
    state_dtype: str | None, parameter_rounding: str, executor: str
) -> None:
    """lr 1e-4, where rounding to nearest loses most updates. Bound: a part of the way; see FAR."""
    plain = steepest.Adam([torch.nn.Parameter(torch.ones(64, 80))], lr=1e-4)
    coded = steepest.Adam(
        [torch.nn.Parameter(torch.ones(64, 80, dtype=torch.bfloat16))],
        lr=1e-4,
        state_dtype=state_dtype,
        parameter_rounding=parameter_rounding,
        **SWITCHES[executor],
    )
    for optimizer in (plain, coded):
        descend(optimizer, 50)
    way, coded_way = (1 - exact(optimizer).mean().item() for optimizer in (plain, coded))
    assert abs(way - coded_way) < 0.05 * way


def test_parameter_rounding_is_for_every_size() -> None:
    optimizer = made(steepest.Adam, torch.bfloat16, parameter_rounding="kahan")
    descend(optimizer, 1)
    for p in optimizer.param_groups[0]["params"]:
        assert optimizer.state[p]["compensation"].dtype == torch.bfloat16
        assert list(optimizer.state[p]) == ["step", "exp_avg", "exp_avg_sq", "compensation"]


# -- layouts ---------------------------------------------------------------------------------------------------------


def layouts() -> dict[str, Tensor]:
    x = torch.linspace(-1, 1, 16 * 8 * 6 * 6)
    images = x.view(16, 8, 6, 6)
    wide = torch.zeros(64, 144)
    return {
        "contiguous": x.view(64, 72),
        "channels_last": images.to(memory_format=torch.channels_last),
        "transposed": x.view(64, 72).t(),
        "gaps": wide[:, ::2].copy_(x.view(64, 72)),
    }


@every_executor
@pytest.mark.parametrize("contiguous_gradient", [True, False])
@pytest.mark.parametrize("name", list(layouts()))
def test_any_layout(name: str, contiguous_gradient: bool, executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kahan and nearest rounding use no random bits: every layout gives the contiguous one's results to the bit."""
    monkeypatch.setattr(foreach, "CHUNK", 1024)
    options = {"parameter_rounding": "kahan", "state_dtype": "bfloat16", "state_rounding": "nearest", "momentum": 0.9}
    x = layouts()[name]
    strided = torch.nn.Parameter(torch.empty_strided(x.shape, x.stride(), dtype=torch.bfloat16).copy_(x))
    plain = torch.nn.Parameter(x.detach().bfloat16().contiguous())
    optimizers = [steepest.SGD([p], lr=1e-3, **options, **SWITCHES[executor]) for p in (strided, plain)]
    for _ in range(3):
        plain.grad = torch.sin(x * 50).bfloat16().contiguous()
        strided.grad = plain.grad if contiguous_gradient else torch.empty_like(strided).copy_(plain.grad)
        for optimizer in optimizers:
            optimizer.step()
    held, other = (first(optimizer)[1] for optimizer in optimizers)
    assert torch.equal(strided, plain)
    assert list(held) == ["momentum_buffer_bfloat16", "compensation"]
    assert all(same(held[key], other[key]) for key in held)
    assert held["compensation"].count_nonzero() > 1000


@every_executor
@pytest.mark.parametrize("name", list(layouts()))
def test_int8_in_any_layout(name: str, executor: str) -> None:
    x = layouts()[name]
    runs = []
    for state_dtype in (None, "int8"):
        p = torch.nn.Parameter(torch.empty_strided(x.shape, x.stride()).copy_(x))
        optimizer = steepest.AdamW([p], lr=1e-2, state_dtype=state_dtype, **SWITCHES[executor])
        descend(optimizer, 10)
        runs.append((p.detach(), optimizer.state[p]))
    assert (runs[0][0] - runs[1][0]).square().mean().sqrt() < FAR["int8"] * (runs[0][0] - x).square().mean().sqrt()
    expected = torch.empty_like(x, memory_format=torch.preserve_format).stride()
    assert runs[1][1]["exp_avg_int8"].stride() == expected


# -- files, copies, conversions --------------------------------------------------------------------------------------

KEPT: list[tuple[type[Optimizer], torch.dtype, dict[str, Any]]] = [
    (steepest.AdamW, torch.float32, {"state_dtype": "int8", "seed": 9, "ema_decay": 0.9}),
    (steepest.SGD, torch.float32, {"state_dtype": "bfloat16", "momentum": 0.9}),
    (steepest.NovoGrad, torch.float32, {"state_dtype": "int8"}),
    (steepest.NAdam, torch.bfloat16, {"state_dtype": "int8", "parameter_rounding": "stochastic"}),
    (steepest.Adam, torch.bfloat16, {"state_dtype": "bfloat16", "parameter_rounding": "kahan"}),
    (steepest.Adagrad, torch.float16, {"state_dtype": "bfloat16", "initial_accumulator_value": 0.1}),
]
every_kept = pytest.mark.parametrize(("cls", "dtype", "options"), KEPT, ids=[c[0].__name__ for c in KEPT])


def resumed(optimizer: Optimizer, cls: type[Optimizer], options: dict[str, Any]) -> Optimizer:
    params = [torch.nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]]
    other = cls(params, **options)
    other.load_state_dict(through_file(optimizer.state_dict()))
    return other


@every_kept
@every_executor
def test_a_loaded_run_goes_on_bit_by_bit(
    cls: type[Optimizer], dtype: torch.dtype, options: dict[str, Any], executor: str
) -> None:
    options = {**options, **SWITCHES[executor]}
    optimizer = cls(problem(dtype), **options)
    descend(optimizer, 3)
    other = resumed(optimizer, cls, {**options, "seed": 0})
    assert_same(snapshot(optimizer), snapshot(other))
    for each in (optimizer, other):
        descend(each, 3, start=3)
    assert_same(snapshot(optimizer), snapshot(other))
    assert all(a is not b for a, b in zip(first(optimizer)[1].values(), first(other)[1].values(), strict=True))


@every_kept
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_a_copy_goes_on_bit_by_bit(
    cls: type[Optimizer], dtype: torch.dtype, options: dict[str, Any], copied: Callable[[Any], Any]
) -> None:
    optimizer = cls(problem(dtype), **options)
    descend(optimizer, 2)
    other = copied(optimizer)
    for each in (optimizer, other):
        descend(each, 2, start=2)
    assert_same(snapshot(optimizer), snapshot(other))


def test_a_state_dict_is_a_snapshot_of_plain_values() -> None:
    optimizer = made(steepest.Adam, state_dtype="int8")
    descend(optimizer, 1)
    held = optimizer.state_dict()["state"][0]
    assert all(isinstance(value, (Tensor, float)) for value in held.values())
    assert list(first(optimizer)[1]) == ["step", "exp_avg_int8", "exp_avg_scale", "exp_avg_sq_int8", "exp_avg_sq_scale"]


@pytest.mark.thin("cls", "state_dtype")
@every_state_dtype
@pytest.mark.parametrize("switches", [{}, {"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
@pytest.mark.parametrize("twins", CODABLE_TWINS.values(), ids=list(CODABLE_TWINS))
def test_torchs_class_fails_on_coded_state(twins: Twins, switches: dict[str, Any], state_dtype: str) -> None:
    """Also SGD, which would start a new momentum where it finds none. Decoded, the same state runs."""
    ours, theirs = twins
    optimizer = made(ours, state_dtype=state_dtype)
    descend(optimizer, 1)

    def go_on(state: dict[str, Any]) -> None:
        for group in state["param_groups"]:
            group.update({"foreach": None, "fused": None, **switches})
        other = theirs(problem(), **lively(ours))
        other.load_state_dict(state)
        descend(other, 1)

    go_on(through_file(optimizer.plain_state_dict()))
    with pytest.raises((KeyError, TypeError, AttributeError, RuntimeError)):
        go_on(through_file(optimizer.state_dict()))


def values(optimizer: Optimizer, index: int = 0) -> dict[str, Tensor]:
    held = optimizer.state[optimizer.param_groups[0]["params"][index]]
    found = {state.name: storage.read(state, held) for state in like_states(optimizer)}
    return {name: x.float() for name, x in found.items() if x is not None}


CODEC_ERROR = {"bfloat16": 2**-8, "int8": 2**-3}
"""Of a value, for values not far below their block's largest: half a bfloat16 step; an eighth is an int8 step."""


@every_state_dtype
@pytest.mark.parametrize("twins", CODABLE_TWINS.values(), ids=list(CODABLE_TWINS))
def test_torchs_state_is_encoded_and_decoded_state_is_torchs(twins: Twins, state_dtype: str) -> None:
    ours, theirs = twins
    source = theirs(problem(), **lively(ours))
    descend(source, 3)
    coded = ours([torch.nn.Parameter(p.detach().clone()) for p in source.param_groups[0]["params"]], **lively(ours))
    coded.convert_state(state_dtype=state_dtype)
    coded.load_state_dict(through_file(source.state_dict()))
    assert coded.param_groups[0]["state_dtype"] == state_dtype
    true = first(source)[1]
    for key, x in values(coded).items():
        assert key not in first(coded)[1]
        limit = CODEC_ERROR[state_dtype] * true[key].abs() + 0.01 * true[key].abs().max()
        assert ((x - true[key]).abs() <= limit).all()
    encoded = values(coded)
    back = theirs([torch.nn.Parameter(p.detach().clone()) for p in source.param_groups[0]["params"]], **lively(ours))
    back.load_state_dict(through_file(coded.plain_state_dict()))
    held = first(back)[1]
    assert set(held) == set(true)
    assert all(torch.equal(held[key], x) for key, x in encoded.items())
    descend(back, 1, start=3)
    descend(coded, 1, start=3)
    torch.testing.assert_close(first(back)[0], first(coded)[0], rtol=1e-5, atol=1e-6)


def test_convert_state_both_ways() -> None:
    optimizer = made(steepest.Adam, ema_decay=0.9)
    descend(optimizer, 3)
    true, p = values(optimizer), first(optimizer)[0]
    optimizer.convert_state(state_dtype=torch.int8)
    assert bytes_of(first(optimizer)[1]) < 3.1 * SIZE
    once = {key: x.clone() for key, x in first(optimizer)[1].items()}
    optimizer.convert_state(state_dtype="int8")
    assert all(same(once[key], x) for key, x in first(optimizer)[1].items())
    for key, x in values(optimizer).items():
        assert ((x - true[key]).abs() <= 2**-3 * true[key].abs() + 0.01 * true[key].abs().max()).all()
    decoded = values(optimizer)
    optimizer.convert_state(state_dtype=None)
    assert list(first(optimizer)[1]) == ["step", "exp_avg", "exp_avg_sq", "ema"]
    assert all(torch.equal(optimizer.state[p][key], x) for key, x in decoded.items())
    descend(optimizer, 1)
    assert optimizer.state[p]["step"] == 4


def test_a_converted_momentum_is_not_begun_anew() -> None:
    """The step count that the bits need is new; the momentum is not, so it is not set to the gradient again."""
    optimizer = made(steepest.SGD, foreach=True)
    descend(optimizer, 3)
    optimizer.convert_state(state_dtype="bfloat16")
    before = values(optimizer)["momentum_buffer"].clone()
    for p in optimizer.param_groups[0]["params"]:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(values(optimizer)["momentum_buffer"], 0.9 * before, rtol=2**-7, atol=0)
    optimizer.convert_state(state_dtype=None)
    assert list(first(optimizer)[1]) == ["momentum_buffer"]


def test_convert_state_of_parameters() -> None:
    optimizer = made(steepest.Adam, torch.bfloat16)
    descend(optimizer, 1)
    optimizer.convert_state(parameter_rounding="kahan")
    descend(optimizer, 1)
    assert "compensation" in first(optimizer)[1]
    optimizer.convert_state(parameter_rounding=None)
    assert "compensation" not in first(optimizer)[1]
    descend(optimizer, 1)


def test_convert_state_refuses_and_changes_nothing() -> None:
    optimizer = made(steepest.Adam)
    descend(optimizer, 1)
    before = snapshot(optimizer)
    for wrong, error, message in (
        ({"state_type": "int8"}, TypeError, "did you mean 'state_dtype'"),
        ({"lr": 1.0}, TypeError, "unexpected keyword argument 'lr'"),
        ({"state_dtype": "int4"}, ValueError, "'bfloat16', 'int8' or None"),
        ({"parameter_rounding": "kahan"}, ValueError, "parameters of bfloat16"),
        ({"state_dtype": "bfloat16", "state_rounding": "nearest"}, ValueError, "never decay"),
    ):
        with pytest.raises(error, match=message):
            optimizer.convert_state(**wrong)
    assert_same(before, snapshot(optimizer))
    assert optimizer.param_groups[0]["state_dtype"] is None


def test_how_things_are_kept_is_not_the_files_matter() -> None:
    coded, plain = made(steepest.Adam, state_dtype="int8", lr=0.5, seed=4), made(steepest.Adam)
    descend(coded, 2)
    plain.load_state_dict(through_file(coded.state_dict()))
    assert plain.param_groups[0]["state_dtype"] is None
    assert (plain.param_groups[0]["lr"], plain.param_groups[0]["seed"]) == (0.5, 4)
    assert list(first(plain)[1]) == ["step", "exp_avg", "exp_avg_sq"]
    assert all(torch.equal(values(coded)[key], x) for key, x in values(plain).items())


def test_state_that_is_changed_by_hand_is_noticed() -> None:
    for before, after in itertools.permutations([None, "bfloat16", "int8"], 2):
        optimizer = made(steepest.Adam, state_dtype=before)
        descend(optimizer, 1)
        optimizer.param_groups[0]["state_dtype"] = after
        with pytest.raises(RuntimeError, match=r"optimizer\.convert_state\(state_dtype"):
            descend(optimizer, 1)
    optimizer = made(steepest.Adam, torch.bfloat16, parameter_rounding="kahan")
    descend(optimizer, 1)
    optimizer.param_groups[0]["parameter_rounding"] = None
    with pytest.raises(RuntimeError, match=r"optimizer\.convert_state\(parameter_rounding"):
        descend(optimizer, 1)


def test_lost_parts_are_noticed() -> None:
    optimizer = made(steepest.Adam, state_dtype="int8")
    descend(optimizer, 1)
    saved = optimizer.state_dict()
    saved["state"][0].pop("exp_avg_scale")
    with pytest.raises(ValueError, match="'exp_avg' is kept in exp_avg_int8 and exp_avg_scale; one is missing"):
        made(steepest.Adam).load_state_dict(saved)
    del first(optimizer)[1]["exp_avg_sq_int8"]
    with pytest.raises(RuntimeError, match="only exp_avg_sq_scale is there"):
        descend(optimizer, 1)


def test_the_state_of_another_model_is_refused() -> None:
    source = torch.optim.Adam([torch.nn.Parameter(torch.ones(5000))])
    descend(source, 1)
    target = steepest.Adam([torch.nn.Parameter(torch.ones(50, 101))], state_dtype="int8")
    with pytest.raises(ValueError, match=r"has shape \(50, 101\), its exp_avg \(5000,\)"):
        target.load_state_dict(source.state_dict())


@every_state_dtype
def test_averaged_weights(state_dtype: str) -> None:
    plain, coded = (made(steepest.Adam, ema_decay=0.9, state_dtype=d) for d in (None, state_dtype))
    for optimizer in (plain, coded):
        descend(optimizer, 10)
    p, held = first(coded)
    assert f"ema_{state_dtype}" in held
    own, average = p.detach().clone(), values(coded)["ema"]
    with coded.averaged():
        assert torch.equal(p, average)
    assert same(p.detach(), own)
    true = values(plain)["ema"]
    assert (average - true).square().mean().sqrt() < 0.05 * true.square().mean().sqrt()


# -- the shell -------------------------------------------------------------------------------------------------------


def test_torchs_dtypes_and_words_are_the_same() -> None:
    for given, kept in ((torch.int8, "int8"), (torch.bfloat16, "bfloat16"), ("int8", "int8"), (None, None)):
        assert made(steepest.Adam, state_dtype=given).param_groups[0]["state_dtype"] == kept
    optimizer = made(steepest.Adam, parameter_rounding="nearest")
    assert optimizer.param_groups[0]["parameter_rounding"] is None
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(5000))], "state_dtype": torch.int8})
    assert [group["state_dtype"] for group in optimizer.param_groups] == [None, "int8"]
    descend(optimizer, 1)
    assert "exp_avg_int8" in optimizer.state[optimizer.param_groups[1]["params"][0]]


def test_programs_differ_by_their_storage_alone() -> None:
    """What an executor remembers, it remembers by the program."""
    optimizer = made(steepest.Adam, state_dtype="int8")
    group = optimizer.param_groups[0]
    large, small = map(spec_of(optimizer).program, group["params"])
    assert large is spec_of(optimizer).program(group["params"][0])
    assert small is not large
    assert small is spec_of(optimizer).program()
    names = ["exp_avg_int8", "exp_avg_scale", "exp_avg_sq_int8", "exp_avg_sq_scale"]
    assert [entry.name for entry in large.stored] == names
    assert (large.storage["exp_avg_sq"], large.storage["exp_avg"]) == (codecs.Int8(True), codecs.Int8(False))


def test_a_seed_may_change_on_the_way() -> None:
    runs = [made(steepest.Adam, state_dtype="int8") for _ in range(2)]
    for optimizer, seed in zip(runs, (0, 1), strict=True):
        descend(optimizer, 3)
        optimizer.param_groups[0]["seed"] = seed
        descend(optimizer, 1)
    assert not torch.equal(first(runs[0])[1]["exp_avg_int8"], first(runs[1])[1]["exp_avg_int8"])


@pytest.mark.parametrize("switch", [{"foreach": False}, {"foreach": True}], ids=str)
def test_step_counts_on_their_device_give_the_same_bits(
    switch: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "_get_capturable_supported_devices", lambda: ["cpu"])
    runs = [made(steepest.Adam, state_dtype="int8", **switch, capturable=c) for c in (False, True)]
    for optimizer in runs:
        descend(optimizer, 3)
    held = [first(optimizer)[1] for optimizer in runs]
    assert all(same(held[0][name], held[1][name]) for name in held[0])


def test_nearest_rounding_needs_no_step_count() -> None:
    optimizer = made(steepest.SGD, state_dtype="bfloat16", state_rounding="nearest", foreach=True)
    plain = made(steepest.SGD, foreach=True)
    for each in (optimizer, plain):
        descend(each, 1)
    assert list(first(optimizer)[1]) == ["momentum_buffer_bfloat16"]
    assert torch.equal(first(optimizer)[1]["momentum_buffer_bfloat16"], first(plain)[1]["momentum_buffer"].bfloat16())


NEAREST = {"state_dtype": "bfloat16", "state_rounding": "nearest"}


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (steepest.Adam, {"betas": (0.9, 0.99)}),
        (steepest.SGD, {"momentum": 0.9}),
        (steepest.RMSprop, {"alpha": 0.99}),
        (steepest.Adadelta, {"rho": 1 - 2**-8}),
        (steepest.Adam, {"betas": (0.9, 0.99), "ema_decay": 0.99}),
    ],
)
def test_fast_averages_may_be_rounded_to_nearest(cls: type[Optimizer], options: dict[str, Any]) -> None:
    descend(made(cls, **NEAREST, **options), 2)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (steepest.Adam, {}, r"betas=\(0.9, 0.999\): an average that keeps 0.999"),
        (steepest.SGD, {"momentum": 0.999}, "momentum=0.999"),
        (steepest.RMSprop, {"alpha": 0.997}, "alpha=0.997"),
        (steepest.Adadelta, {"rho": 0.9999}, "rho=0.9999"),
        (steepest.Adam, {"betas": (0.9, 0.99), "ema_decay": 0.999}, "ema_decay=0.999"),
        (steepest.Adagrad, {}, "sums up without forgetting"),
        (steepest.Adam, {"betas": (0.5, 0.5), "state_dtype": "int8"}, "cannot be rounded to nearest"),
    ],
)
def test_nearest_rounding_that_would_stick_is_refused(
    cls: type[Optimizer], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        made(cls, **{**NEAREST, **options})


def test_a_schedule_may_not_move_a_decay_to_where_it_sticks() -> None:
    optimizer = made(steepest.Adam, **NEAREST, betas=(0.9, 0.99))
    descend(optimizer, 3)
    optimizer.param_groups[0]["betas"] = (0.9, 0.999)
    with pytest.raises(ValueError, match="never decay"):
        descend(optimizer, 1)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"state_dtype": "float8"}, ValueError, "state_dtype must be one of 'bfloat16', 'int8' or None"),
    ({"state_dtype": torch.float16}, ValueError, "Invalid state_dtype value: torch.float16"),
    ({"state_dtype": 8}, ValueError, "Invalid state_dtype value: 8"),
    ({"state_rounding": "up"}, ValueError, "state_rounding must be one of 'stochastic', 'nearest'"),
    ({"state_rounding": None}, ValueError, "state_rounding must be one of"),
    ({"parameter_rounding": "sum"}, ValueError, "parameter_rounding must be one of 'stochastic', 'kahan' or None"),
    (
        {"parameter_rounding": "kahan"},
        ValueError,
        r"parameters of bfloat16, and the one of shape \(64, 80\) is float32",
    ),
    ({"parameter_rounding": "stochastic"}, ValueError, "give it to a group with parameter_rounding=None"),
    ({"state_dtype": "int8", "differentiable": True}, ValueError, "no derivative"),
    ({"seed": -1}, ValueError, "seed must be an int >= 0 and < 4.29497e"),
    ({"seed": 2**32}, ValueError, "Invalid seed"),
    ({"seed": 0.5}, TypeError, "seed must be an int"),
    ({"seed": True}, TypeError, "seed must be an int"),
]


@pytest.mark.parametrize(("options", "error", "message"), WRONG, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_bad_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        made(steepest.Adam, **options)
    optimizer = made(steepest.Adam)
    if "differentiable" not in options:
        with pytest.raises(error, match=message):
            optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(64, 80))], **options})
    assert len(optimizer.param_groups) == 1


@every_state_dtype
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_parameters_that_cannot_have_coded_state(dtype: torch.dtype, state_dtype: str) -> None:
    with pytest.raises(ValueError, match="parameters of float32, bfloat16, float16, and the one of shape"):
        made(steepest.Adam, dtype, state_dtype=state_dtype)


def test_a_parameter_that_becomes_float64_is_noticed() -> None:
    optimizer = made(steepest.Adam, state_dtype="int8")
    descend(optimizer, 2)
    p = first(optimizer)[0]
    p.data = p.data.double()
    with pytest.raises(ValueError, match="is float64"):
        descend(optimizer, 1)


def test_sparse_gradients_are_refused() -> None:
    optimizer = made(steepest.SGD, state_dtype="int8")
    for p in optimizer.param_groups[0]["params"]:
        p.grad = torch.zeros_like(p).to_sparse()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        optimizer.step()


def test_rules_that_cannot_be_coded() -> None:
    p = torch.nn.Parameter(torch.ones(64, 80))
    with pytest.raises(ValueError, match="pointwise and per_tensor rules, and Muon runs muon, a matrix rule"):
        steepest.Muon([p], state_dtype="int8")
    for cls in CLASSES.values():
        if cls.needs_closure(defaults(cls)):
            with pytest.raises(ValueError, match="a driver rule; leave state_dtype=None"):
                cls([p], state_dtype="int8")
            optimizer = cls([p])
            optimizer.param_groups[0]["state_dtype"] = "int8"
            with pytest.raises(ValueError, match="a driver rule; leave state_dtype=None"):
                optimizer.step(lambda p=p: (p * p).sum())
    with pytest.raises(ValueError, match="cannot keep what centered=True subtracts"):
        steepest.RMSprop([p], centered=True, state_dtype="bfloat16")
