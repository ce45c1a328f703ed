"""The average of the weights: kept after every step, swapped in and out again come what may."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

import steepest
from cases import CLASSES as ALL_CLASSES
from cases import (
    SWITCHES,
    Options,
    alternatives,
    assert_same,
    defaults,
    every_executor,
    is_valid,
    snapshot,
    train,
)
from oracles import weight_average
from steepest import Optimizer

CLASSES = {name: cls for name, cls in ALL_CLASSES.items() if is_valid(cls, {"ema_decay": 0.9})}
every_class = pytest.mark.parametrize("cls", CLASSES.values(), ids=list(CLASSES))


SHAPES: list[tuple[int, ...]] = [(4,), (1,), (3,)]


def tensors(dtype: torch.dtype = torch.float64) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.linspace(-1.0, 2.0, math.prod(s), dtype=dtype).view(s)) for s in SHAPES]


def switch(cls: type[Optimizer], executor: str) -> Options:
    return SWITCHES[executor] if "foreach" in cls.fields else {}


@pytest.mark.thin("structure", "executor")
@every_class
@every_executor
def test_it_is_the_oracles_average(cls: type[Optimizer], executor: str) -> None:
    """With a decay that changes at every step. 1e-14: one lerp a step."""
    params = tensors()
    optimizer = cls(params, ema_decay=0.9, **switch(cls, executor))
    path = [[p.detach().numpy().copy() for p in params]]
    decays = [0.9, 0.5, 0.0, 0.99, 0.3, 0.7]
    for decay in decays:
        optimizer.param_groups[0]["ema_decay"] = decay
        train(optimizer, 1)
        path.append([p.detach().numpy().copy() for p in params])
    for index, p in enumerate(params):
        wanted = weight_average([at[index] for at in path], decay=decays)
        np.testing.assert_allclose(optimizer.state[p]["ema"].numpy(), wanted, rtol=1e-13, atol=1e-14)


def driving() -> list[Any]:
    """Every way to step: the classes, and options that turn a class into a driver."""
    found = [(cls, {}) for cls in CLASSES.values()]
    for cls in CLASSES.values():
        for name, field in cls.fields.items():
            for value in alternatives(field) if field.is_hyperparameter and not field.fixed else []:
                if cls.needs_closure({**defaults(cls), name: value}) and not cls.needs_closure(defaults(cls)):
                    found.append((cls, {name: value}))
    return [pytest.param(cls, options, id=f"{cls.__name__}{options or ''}") for cls, options in found]


every_way = pytest.mark.parametrize(("cls", "options"), driving())


@every_way
def test_averaging_does_not_touch_the_training(cls: type[Optimizer], options: Options) -> None:
    averaging, plain = cls(tensors(), ema_decay=0.9, **options), cls(tensors(), **options)
    train(averaging, 5)
    train(plain, 5)
    for (p, held), (q, other) in zip(snapshot(averaging), snapshot(plain), strict=True):
        assert torch.equal(p, q)
        assert held.keys() - other.keys() == {"ema"}


@every_way
def test_the_block_shows_the_averages_and_gives_the_weights_back(cls: type[Optimizer], options: Options) -> None:
    optimizer = cls(params := tensors(), ema_decay=0.9, **options)
    train(optimizer, 3)
    own = [p.detach().clone() for p in params]
    averages = [optimizer.state[p]["ema"].clone() for p in params]
    with optimizer.averaged():
        assert all(torch.equal(p, a) for p, a in zip(params, averages, strict=True))
        assert all(p.requires_grad for p in params)
    assert all(torch.equal(p, w) for p, w in zip(params, own, strict=True))
    assert all(torch.equal(optimizer.state[p]["ema"], a) for p, a in zip(params, averages, strict=True))


@every_class
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_weights_come_back_after_an_exception(cls: type[Optimizer], error: type[BaseException]) -> None:
    optimizer = cls(params := tensors(), ema_decay=0.9)
    train(optimizer, 3)
    before = snapshot(optimizer)
    with pytest.raises(error), optimizer.averaged():  # noqa: PT012
        params[0].data.mul_(100.0)
        raise error
    assert_same(snapshot(optimizer), before)
    train(optimizer, 1)


@every_class
def test_inside_the_block_nothing_steps_and_nothing_nests(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors(), ema_decay=0.9)
    train(optimizer, 2)
    before = snapshot(optimizer)
    with optimizer.averaged():
        with pytest.raises(RuntimeError, match=r"step\(\) inside `with optimizer.averaged\(\):`"):
            train(optimizer, 1)
        with pytest.raises(RuntimeError, match="already inside"), optimizer.averaged():
            pass
    assert_same(snapshot(optimizer), before)
    train(optimizer, 1)


@every_class
def test_without_a_decay_there_is_nothing_to_show(cls: type[Optimizer]) -> None:
    if cls.evaluates_others or cls.fields["lookahead"].default is not None:
        pytest.skip("it has other weights to show; see test_weights.py")
    optimizer = cls(tensors())
    train(optimizer, 1)
    message = rf"construct {cls.__name__}\(params, ema_decay=0.999\)"
    with pytest.raises(RuntimeError, match=message), optimizer.averaged():
        pass


@every_class
def test_the_averages_are_in_the_checkpoint(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors(), ema_decay=0.9)
    train(optimizer, 3)
    checkpoint = copy.deepcopy(optimizer.state_dict())
    assert all("ema" in held for held in checkpoint["state"].values())
    fresh = cls([torch.nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]], ema_decay=0.1)
    fresh.load_state_dict(checkpoint)
    for one in (optimizer, fresh):
        train(one, 2)
    assert_same(snapshot(fresh), snapshot(optimizer))


@every_class
def test_a_parameter_that_never_stepped_keeps_its_value(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors(), ema_decay=0.9)
    before = snapshot(optimizer)
    entries = len(optimizer.state)
    with optimizer.averaged():
        assert_same(snapshot(optimizer), before)
    assert len(optimizer.state) == entries


def test_groups_may_average_differently_or_not_at_all() -> None:
    a, b, c = tensors()
    cls = CLASSES["sgd"]
    groups = [{"params": [a], "ema_decay": 0.5}, {"params": [b]}, {"params": [c], "ema_decay": 0.0}]
    optimizer = cls(groups, lr=0.1)
    train(optimizer, 2)
    kept = [p.detach().clone() for p in (a, b, c)]
    with optimizer.averaged():
        assert not torch.equal(a, kept[0])
        assert torch.equal(b, kept[1])
        assert torch.equal(c, kept[2])


def test_the_block_is_usable_with_buffers_left_alone() -> None:
    """BatchNorm's statistics belong to the raw weights and stay; `averaged` says so and what re-estimates them."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    cls = CLASSES["sgd"]
    optimizer = cls(module.parameters(), lr=0.1, ema_decay=0.9)
    x = torch.linspace(-1.0, 1.0, 24).reshape(8, 3)
    module(x).square().sum().backward()
    optimizer.step()
    before = {name: value.clone() for name, value in module.named_buffers()}
    with optimizer.averaged():
        assert all(torch.equal(value, before[name]) for name, value in module.named_buffers())
    assert "BatchNorm" in str(cls.averaged.__doc__)
    assert "update_bn" in str(cls.averaged.__doc__)


def test_complex_and_half_parameters_are_averaged() -> None:
    for dtype in (torch.complex64, torch.bfloat16):
        p = torch.nn.Parameter(torch.full((3,), 0.5, dtype=dtype))
        optimizer = CLASSES["sgd"]([p], lr=0.5, ema_decay=0.5)
        start = p.detach().clone()
        p.grad = torch.ones_like(p)
        optimizer.step()
        torch.testing.assert_close(optimizer.state[p]["ema"], (start + p.detach()) / 2)
        assert optimizer.state[p]["ema"].dtype == dtype


# -- wrappers --------------------------------------------------------------------------------------------------------


class Delegating:
    """Hands every attribute on, as accelerate's wrapper does; what is set stays on the wrapper."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)


class Copying:
    """Copies the attributes and takes the class, as Fabric's wrapper does; the step is the inner optimizer's."""

    def __init__(self, optimizer: Any) -> None:
        self.__dict__ = dict(vars(optimizer).items())
        self.__class__ = type("Wrapped", (Copying, type(optimizer)), {})
        self._inner = optimizer

    def step(self, closure: Any = None) -> Any:
        return self._inner.step(closure)


@pytest.mark.parametrize("wrap", [Delegating, Copying])
@pytest.mark.parametrize("enters", ["wrapper", "inner"])
@pytest.mark.parametrize("steps", ["wrapper", "inner"])
def test_a_step_inside_the_block_raises_through_every_wrapper(wrap: Any, enters: str, steps: str) -> None:
    p = torch.nn.Parameter(torch.ones(3))
    inner = ALL_CLASSES["adamw"]([p], ema_decay=0.5)
    views = {"inner": inner, "wrapper": wrap(inner)}
    p.grad = torch.ones(3)
    views[steps].step()
    with views[enters].averaged(), pytest.raises(RuntimeError, match="would train the averaged weights"):
        views[steps].step()
    views[steps].step()
    assert inner.state[p]["step"] == 2


def test_another_optimizer_of_the_same_parameters_raises_too() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    averaging, other = ALL_CLASSES["adamw"]([p], ema_decay=0.5), ALL_CLASSES["sgd"]([p])
    p.grad = torch.ones(3)
    averaging.step()
    with averaging.averaged(), pytest.raises(RuntimeError, match="would train the averaged weights"):
        other.step()
    other.step()


def test_a_wrapper_that_copies_attributes_can_be_copied() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    wrapper = Copying(ALL_CLASSES["adamw"]([p], ema_decay=0.5))
    p.grad = torch.ones(3)
    wrapper.step()
    twin: Any = copy.deepcopy(wrapper)
    (q,) = twin.param_groups[0]["params"]
    assert q is twin._inner.param_groups[0]["params"][0]
    q.grad = torch.ones(3)
    twin.step()
    assert twin._inner.state[q]["step"] == 2
    assert wrapper._inner.state[p]["step"] == 1


def test_the_averaged_state_dict_is_a_copy_to_save() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = ALL_CLASSES["adamw"](model.parameters(), lr=0.1, ema_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    with optimizer.averaged():
        shown = {name: x.clone() for name, x in model.state_dict().items()}
    saved = optimizer.averaged_state_dict(model)
    assert saved.keys() == model.state_dict().keys()
    assert all(torch.equal(saved[name], x) for name, x in shown.items())
    assert not torch.equal(saved["0.weight"], model[0].weight)
    model.load_state_dict(saved)
    assert torch.equal(model[0].weight, saved["0.weight"])
    with pytest.raises(RuntimeError, match="no averaged weights are kept"):
        ALL_CLASSES["sgd"](model.parameters()).averaged_state_dict(model)


# -- schedules, several averages, starts and intervals -----------------------------------------------------------------


def paths(steps: int, **options: Any) -> tuple[Optimizer, list[torch.Tensor]]:
    """An optimizer after some steps, and the weights after each of them; the first are those before."""
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = steepest.SGD([p], lr=0.1, **options)
    path = [p.detach().clone()]
    for step in range(steps):
        p.grad = torch.tensor([0.5, float(step)], dtype=torch.float64)
        optimizer.step()
        path.append(p.detach().clone())
    return optimizer, path


def read(optimizer: Optimizer, name: str | None = None) -> torch.Tensor:
    (p,) = optimizer.param_groups[0]["params"]
    with optimizer.averaged(name):
        return p.detach().clone()


def by_hand(path: list[torch.Tensor], decay: Any, start: int = 0, every: int = 1) -> torch.Tensor:
    average, n = path[0].clone(), 0
    for t, weights in enumerate(path[1:], 1):
        if t <= start:
            average = weights.clone()
        elif (t - start) % every == 0:
            n += 1
            average = decay(n) * average + (1 - decay(n)) * weights
    return average


DECAYS: dict[str, tuple[Any, Any]] = {
    "number": (0.75, lambda n: 0.75),
    "warmup": ("warmup", lambda n: min(0.9999, (1 + n) / (10 + n))),
    "karras": ("karras", lambda n: (1 - 1 / n) ** 7.94),
    "polynomial": ("polynomial", lambda n: 1 - 9 / (n + 8)),
    "swa": ("swa", lambda n: 1 - 1 / n),
    "function": (lambda n: 1 - 1 / (n + 1) ** 0.5, lambda n: 1 - 1 / (n + 1) ** 0.5),
}


@pytest.mark.parametrize("name", DECAYS)
@pytest.mark.parametrize(("start", "every"), [(0, 1), (3, 1), (0, 2), (2, 3)])
@pytest.mark.parametrize("switch", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
def test_a_decay_of_any_form_starts_and_pauses_as_asked(name: str, start: int, every: int, switch: Any) -> None:
    given, meant = DECAYS[name]
    optimizer, path = paths(9, ema_decay=given, ema_start=start, ema_every=every, **switch)
    torch.testing.assert_close(read(optimizer), by_hand(path, meant, start, every), rtol=1e-13, atol=1e-14)


def test_equal_weights_are_torchs_swa() -> None:
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = steepest.SGD([p], lr=0.1, ema_decay="swa", ema_start=2)
    model = torch.nn.ParameterList([p])
    theirs = torch.optim.swa_utils.AveragedModel(model)
    for step in range(6):
        p.grad = torch.tensor([1.0, float(step)])
        optimizer.step()
        if step >= 2:
            theirs.update_parameters(model)
    torch.testing.assert_close(read(optimizer), next(theirs.parameters()).detach(), rtol=1e-6, atol=1e-7)


def test_several_averages_at_once_have_names() -> None:
    optimizer, path = paths(7, ema_decay={"fast": 0.5, "equal": "swa", "slow": 0.9})
    for name, decay in (("fast", lambda n: 0.5), ("equal", lambda n: 1 - 1 / n), ("slow", lambda n: 0.9)):
        torch.testing.assert_close(read(optimizer, name), by_hand(path, decay), rtol=1e-13, atol=1e-14)
    assert torch.equal(read(optimizer), read(optimizer, "fast"))
    (p,) = optimizer.param_groups[0]["params"]
    assert torch.equal(p, path[-1])
    model = torch.nn.Module()
    model.weight = p
    assert torch.equal(optimizer.averaged_state_dict(model, "slow")["weight"], read(optimizer, "slow"))
    with pytest.raises(ValueError, match=r"no average is called 'slower'; there are: 'fast', 'equal', 'slow'"):
        read(optimizer, "slower")


def test_averages_go_through_checkpoints() -> None:
    options = {"ema_decay": {"a": 0.5, "b": "warmup"}, "ema_start": 2, "ema_every": 2}
    optimizer, path = paths(5, **options)
    p = torch.nn.Parameter(path[-1].clone())
    again = steepest.SGD([p], lr=0.1, **options)
    again.load_state_dict(optimizer.state_dict())
    for each in (optimizer, again):
        (x,) = each.param_groups[0]["params"]
        for _ in range(3):
            x.grad = torch.ones_like(x)
            each.step()
    assert torch.equal(read(optimizer, "b"), read(again, "b"))
    assert again.state[p]["ema_count"].item() == 3


def too_much(n: float) -> float:
    return n / 10


@pytest.mark.parametrize(
    ("decay", "error", "message"),
    [
        (1.0, ValueError, "Invalid ema_decay value: 1.0"),
        (-0.1, ValueError, "Invalid ema_decay value: -0.1"),
        ("swaa", ValueError, "Invalid ema_decay value: 'swaa'.*'swa'"),
        (too_much, ValueError, "too_much.* at n = 10 is 1.0"),
        (lambda n: "a", TypeError, "ema_decay must be"),
        ({}, ValueError, "must name 1 to 4 averages"),
        (dict.fromkeys("abcde", 0.5), ValueError, "must name 1 to 4 averages"),
        ({"a": 2.0}, ValueError, "Invalid ema_decay value: 2.0"),
        (True, TypeError, "ema_decay must be"),
        ([0.5, 0.9], TypeError, "ema_decay must be"),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_decays_that_are_none_are_refused(decay: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        steepest.SGD([torch.nn.Parameter(torch.zeros(2))], ema_decay=decay)


def test_a_function_that_branches_on_the_count_is_told_what_to_write() -> None:
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = steepest.SGD([p], ema_decay=lambda n: min(0.99, n / (n + 1)), foreach=True)
    p.grad = torch.ones(2)
    with pytest.raises(TypeError, match=r"minimum|maximum"):
        optimizer.step()


def test_a_schedule_is_not_rounded_to_nearest() -> None:
    params = [torch.nn.Parameter(torch.zeros(80, 80))]
    with pytest.raises(ValueError, match="'swa' comes close to 1"):
        steepest.AdamW(params, betas=(0.9, 0.99), ema_decay="swa", state_dtype="bfloat16", state_rounding="nearest")
