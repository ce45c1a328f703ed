"""``foreach=True, capturable=True``: lists of tensors whose step counts, and what follows from them, nobody reads.

No device is here, so a CPU is told that it has graphs; fake tensors on "cuda" show that no value is read there.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import steepest
from cases import PLANNED, PLANNED_TWINS, Options, assert_same, buckets_of, same, snapshot, spec_of, through_file
from steepest import Optimizer, Rule, State, fields
from steepest import group as groups
from steepest.executors import foreach, lifting, reference
from steepest.executors.base import ActiveParams
from steepest.vocabulary import absolute, atan2, lerp, maximum, minimum, norm, rms, sqrt, total, where

CAPTURABLE = {name: cls for name, cls in PLANNED.items() if "capturable" in cls.fields}
TWINS = {name: twins for name, twins in PLANNED_TWINS.items() if name in CAPTURABLE and "foreach" in twins[0].fields}
every_class = pytest.mark.parametrize("cls", CAPTURABLE.values(), ids=CAPTURABLE)
LISTED = {"capturable": True, "foreach": True}

ONE_BY_ONE = {"AdaBelief", "AdamAtan2", "AdamMini", "AdamP", "LAMB", "RAdam", "Rprop", "StableAdamW"}
"""Classes with an operation that torch has no list form of, such as `torch.where`."""

OPTIONS: list[Options] = [
    {},
    {"lr": torch.tensor(0.01)},
    {"max_norm": 0.5, "maximize": True, "ema_decay": 0.9},
    {"lookahead": (2, 0.5), "cautious": True},
    {"zclip": 2.0, "agc": 0.1},
    {"state_dtype": "int8"},
    {"state_dtype": "bfloat16", "lookahead": (2, 0.5)},
]


@pytest.fixture(autouse=True)
def _a_cpu_may_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_get_capturable_supported_devices", lambda: ["cpu"])


class Watch(TorchDispatchMode):
    """Counts operations, and refuses those that read a tensor on the host."""

    calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "the host waits for a number"
        self.calls += 1
        return func(*args, **(kwargs or {}))


def drawn(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 4, generator=source, dtype=torch.float64).to(dtype) for _ in range(count)]


def made(cls: Any, count: int = 3, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    return cls([torch.nn.Parameter(x) for x in drawn(count, 0, dtype)], **options)


def stepped(optimizer: torch.optim.Optimizer, steps: int, late: int = 0, seed: int = 1) -> None:
    """Step; the first parameter has no gradient in ``late`` steps, so that its count differs from the others'."""
    params = optimizer.param_groups[0]["params"]
    for step in range(steps):
        for p, g in zip(params, drawn(len(params), seed + step, params[0].dtype), strict=True):
            p.grad = g
        if step < late:
            params[0].grad = None
        optimizer.step()


def state_of(optimizer: torch.optim.Optimizer, index: int = 0) -> dict[str, Any]:
    return optimizer.state[optimizer.param_groups[0]["params"][index]]


# -- the same numbers ------------------------------------------------------------------------------------------------


@pytest.mark.thin("structure", "options")
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "defaults")
@every_class
def test_it_is_the_plain_list_step_to_the_last_bits(cls: type[Optimizer], options: Options) -> None:
    """A factor of a sum is a product of its own here: one rounding more where torch contracts the two."""
    rate = options.get("lr")
    plain = made(cls, foreach=True, **options | ({} if rate is None else {"lr": rate.item()}))
    listed = made(cls, **LISTED, **options)
    for optimizer in (plain, listed):
        stepped(optimizer, 5, late=2)
    assert listed.executor == "foreach"
    assert not listed.executor.reason
    for ours, theirs in zip(snapshot(listed), snapshot(plain), strict=True):
        torch.testing.assert_close(ours[0], theirs[0], rtol=3e-6, atol=3e-7)
        assert list(ours[1]) == list(theirs[1])
        if "state_dtype" not in options:
            torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.complex64], ids=str)
@pytest.mark.parametrize("cls", [steepest.AdamW, steepest.NAdam, steepest.RAdam, steepest.ASGD])
def test_every_dtype_has_the_numbers_of_one_parameter_at_a_time(cls: type[Optimizer], dtype: torch.dtype) -> None:
    optimizers = [made(cls, dtype=dtype, capturable=True, foreach=foreach) for foreach in (True, False)]
    for optimizer in optimizers:
        stepped(optimizer, 4, late=1)
    assert [optimizer.executor for optimizer in optimizers] == ["foreach", "reference"]
    for (p, _), (q, _) in zip(*map(snapshot, optimizers), strict=True):
        torch.testing.assert_close(p, q, rtol=4 * torch.finfo(dtype).eps, atol=2 * torch.finfo(dtype).eps)


@pytest.mark.thin("structure", "options")
@pytest.mark.parametrize("options", [{}, {"lr": torch.tensor(0.01)}, {"weight_decay": 0.1, "maximize": True}], ids=str)
@pytest.mark.parametrize("twins", TWINS.values(), ids=TWINS)
def test_it_is_torchs_step(twins: Any, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """Halfway through, each side loads the other's checkpoint."""
    module = import_module((torch.optim.Adam if twins[1] is torch.optim.AdamW else twins[1]).__module__)
    monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda **_: ["cpu"])
    if not options.keys() <= twins[1]([torch.zeros(1)]).defaults.keys():
        options = {}
    ours, theirs = (made(cls, **LISTED, **options) for cls in twins)
    for optimizer in (ours, theirs):
        stepped(optimizer, 3, late=1)
    saved = [through_file(optimizer.state_dict()) for optimizer in (theirs, ours)]
    for optimizer, others in zip((ours, theirs), saved, strict=True):
        optimizer.load_state_dict(others)
        stepped(optimizer, 3, seed=7)
    assert ours.executor == "foreach"
    for (p, held), (q, other) in zip(snapshot(ours), snapshot(theirs), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
        assert held.keys() == other.keys()
        assert all(held[name].dtype == x.dtype and held[name].device == x.device for name, x in other.items())
        assert same(held["step"], other["step"])


def test_a_checkpoint_continues_bit_by_bit() -> None:
    whole, cut, resumed = (made(steepest.NAdam, **LISTED, lookahead=(2, 0.5)) for _ in range(3))
    stepped(whole, 3, late=1)
    stepped(cut, 3, late=1)
    for p, q in zip(resumed.param_groups[0]["params"], cut.param_groups[0]["params"], strict=True):
        p.data.copy_(q.data)
    resumed.load_state_dict(through_file(cut.state_dict()))
    for optimizer in (whole, resumed):
        stepped(optimizer, 3, seed=9)
    assert_same(snapshot(whole), snapshot(resumed))


def test_a_tensor_that_is_cut_in_slices_counts_once() -> None:
    """A coded parameter of more than one chunk runs in slices, each with the counters of its parameter."""
    size = foreach.CHUNK + 512
    optimizers = [
        steepest.NAdam([torch.nn.Parameter(torch.ones(n)) for n in (8192, size, 9000)], state_dtype="int8", **switch)
        for switch in (LISTED, {"foreach": True})
    ]
    for optimizer in optimizers:
        for _ in range(2):
            for p in optimizer.param_groups[0]["params"]:
                p.grad = torch.linspace(-1, 1, p.numel())
            optimizer.step()
    (bucket,) = buckets_of(optimizers[0])
    assert len(bucket.params) == 3
    assert_same(*map(snapshot, optimizers))


# -- nobody reads ----------------------------------------------------------------------------------------------------


@every_class
def test_no_number_is_read_and_few_operations_serve_any_number_of_parameters(cls: type[Optimizer]) -> None:
    calls = []
    for count in (3, 30):
        optimizer = made(cls, count, **LISTED, lr=torch.tensor(0.01), max_norm=0.5)
        stepped(optimizer, 2, late=1)
        with Watch() as watch:
            optimizer.step()
        calls.append(watch.calls)
    assert (calls[0] == calls[1]) != (cls.__name__ in ONE_BY_ONE), calls


def test_the_buckets_of_a_step_are_remembered() -> None:
    optimizer = made(steepest.AdamW, **LISTED)
    stepped(optimizer, 2)
    (bucket,) = buckets_of(optimizer)
    stepped(optimizer, 1)
    assert buckets_of(optimizer) == [bucket]
    state_of(optimizer)["step"] = torch.tensor(40.0)  # another tensor is seen, without reading it
    stepped(optimizer, 1)
    assert buckets_of(optimizer) != [bucket]
    assert state_of(optimizer)["step"] == 41
    state_of(optimizer)["step"].fill_(7)  # and a value is read where it lies
    stepped(optimizer, 1)
    assert state_of(optimizer)["step"] == 8


def made_of(cls: type[Optimizer], options: Options, device: str, rate: Any) -> tuple[list[Any], list[Tensor]]:
    """Step three parameters on a device without values, where any read raises; return their states and themselves."""
    optimizer = made(cls, **LISTED, **options)
    spec = spec_of(optimizer)
    numbers = {**groups.values(cls.fields, optimizer.param_groups[0])[0], "lr": rate}
    params = [torch.nn.Parameter(torch.empty(3, 4, device=device)) for _ in range(3)]
    states: dict[Tensor, dict[str, Any]] = {p: {} for p in params}
    with torch.no_grad():
        for is_first in (True, False):
            for p in params:
                p.grad = torch.empty(3, 4, device=device)
                spec.create_state(states, p)
            held = [states[p] for p in params]
            live = ActiveParams(spec, params, held, [is_first] * 3, [0] * 3, tuple(numbers))
            for bucket in foreach.FOREACH.make_buckets(live):
                bucket.step(numbers)
                assert bucket.ready([p.grad for p in params])
    return held, params


@pytest.mark.thin("structure", "options")
@pytest.mark.parametrize("options", [{}, {"lookahead": (2, 0.5), "ema_decay": 0.9}, {"state_dtype": "int8"}], ids=str)
@every_class
def test_a_step_on_a_device_reads_nothing(
    cls: type[Optimizer], options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # torch's own list of devices
    with FakeTensorMode(allow_non_fake_inputs=True):
        held, params = made_of(cls, options, "cuda", torch.empty((), device="cuda"))
    assert all(isinstance(p, FakeTensor) for p in params)
    assert {x.device.type for state in held for x in state.values()} == {"cuda"}


@every_class
def test_a_rate_in_a_tensor_of_the_host_is_read_there(cls: type[Optimizer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_get_capturable_supported_devices", lambda: ["meta"])
    held, _ = made_of(cls, {}, "meta", torch.tensor(0.01))
    assert {x.device.type for state in held for x in state.values()} == {"meta"}


# -- what is refused, or stays one parameter at a time ---------------------------------------------------------------


def test_a_device_without_graphs_is_torchs_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    optimizer = made(steepest.AdamW, **LISTED)
    with pytest.raises(AssertionError, match="If capturable=True, params and state_steps must be on supported devices"):
        stepped(optimizer, 1)
    assert not optimizer.state


def test_without_foreach_or_with_derivatives_it_is_one_parameter_at_a_time() -> None:
    class Tagged(torch.nn.Parameter):
        pass

    assert made(steepest.AdamW, capturable=True).executor == "foreach"
    for options in ({"foreach": False}, {"differentiable": True}):
        assert made(steepest.AdamW, capturable=True, **options).executor == "reference"
    assert steepest.AdamW([Tagged(torch.ones(2))], capturable=True).executor == "reference"


def turned(p: Any, g: Any, *, lr: float) -> Any:
    return p - lr * g


class Turned(Optimizer):
    lr: fields.Rate = fields.lr(0.1)
    foreach: bool | None = fields.foreach()
    capturable: bool = fields.capturable()

    rule = Rule(turned, "matrix")


def test_stacks_of_matrices_are_not_counted_on_a_device() -> None:
    assert made(Turned, capturable=True).executor == "reference"
    with pytest.raises(
        RuntimeError, match=r"cannot run turned, a matrix rule under capturable=True; leave foreach=None"
    ):
        made(Turned, **LISTED)


# -- the plan --------------------------------------------------------------------------------------------------------


def odd(p: Any, g: Any, k: Any, m: Any, *, t: Any, lr: Any, b: Any) -> Any:
    """Every kind of call that takes a number."""
    r = norm(1 / t) + rms(-k) + total(lr)  # of a number: its size, or itself
    x = maximum(minimum(g, r), -r) + atan2(g, r) + lerp(m, g, 1 / t) + b ** (0.1 * absolute(g)) * t
    y = where(g > r, r, lr, like=g) + where(g > 0, g, r) + where(t > 2, m, x) + where(t > 2, r, g)
    z = where(t > 2, 1.0, 0.5) * sqrt(absolute(m) + k) ** where(t > 2, lr, 1.0)
    return p - r * x * y + lr * z / (1 + absolute(y + lr)), where(t > 3, 0.0, k + 1), p + 0.5


class Odd(Optimizer):
    lr: fields.Rate = fields.lr(0.1)
    b: float = fields.hyper(0.5, "a base")
    foreach: bool | None = fields.foreach()
    capturable: bool = fields.capturable()

    rule = Rule(odd, "per_tensor", (State("step", "step"), State("count", "scalar", init=1.0), State("m")))


@pytest.mark.parametrize("rate", [0.1, torch.tensor(0.1, dtype=torch.float64)], ids=["number", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_every_word_takes_numbers_on_the_device(dtype: torch.dtype, rate: Any) -> None:
    plain = made(Odd, dtype=dtype, foreach=True)
    listed = made(Odd, dtype=dtype, **LISTED, lr=rate)
    for optimizer in (plain, listed):
        stepped(optimizer, 5, late=2)
    for ours, theirs in zip(snapshot(listed), snapshot(plain), strict=True):
        torch.testing.assert_close(ours, theirs)
    stepped(listed, 1)
    with Watch():
        listed.step()


def test_a_number_depends_on_what_its_lines_read() -> None:
    reads = lifting.reading([("h_a", "power(lr, t)"), ("h_b", "lr * 2.0"), ("h_c", "h_a + h_b")], {"t"})
    found = {text: reads(text) for text in ("h_a", "h_b", "h_c", "(-h_c)", "lr", "t", "1", "quotient(lr, h_b)")}
    assert found == dict.fromkeys(("h_a", "h_c", "(-h_c)", "t"), True) | dict.fromkeys(
        ("h_b", "lr", "1", "quotient(lr, h_b)"), False
    )
