"""Drop-in for torch.optim: signature, defaults, numbers, state and checkpoints of the class of the same name.

Tolerance k eps of the tensor's largest element with k = 64 for float32 and complex64 (ten steps of some five roundings
in another order, folded into other calls) and k = 1024 for float64, where torch's own bias corrections go through
float32 nowhere but its foreach path rounds its factors once more; NAdam's mu_product is float32 in both and differs by
its own rounding (torch multiplies it in float32, we in double and round), hence the floor of 1e-6 where a class has it.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from cases import (
    PLANNED_TWINS,
    SWITCHES,
    TWINS,
    Options,
    Twins,
    assert_same,
    cases,
    class_under_test,
    every_executor,
    give,
    given,
    pairwise,
    parameters,
    snapshot,
    torch_values,
)
from oracles import problem
from shapes import comparable
from steepest import Optimizer

STEPS = 10
SHAPES = [(3, 4), (5,), (), (2, 1, 3), (0,)]
DTYPES = [torch.float32, torch.float64, torch.complex64]
FACTOR = {torch.float32: 64, torch.complex64: 64, torch.float64: 1024}

every_twin = pytest.mark.parametrize("twins", TWINS.values(), ids=list(TWINS))
every_planned_twin = pytest.mark.parametrize("twins", PLANNED_TWINS.values(), ids=list(PLANNED_TWINS))
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))


@pytest.fixture(autouse=True)
def _shapes_fit_torchs_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = class_under_test(request.node)
    monkeypatch.setattr(request.module, "SHAPES", comparable(getattr(torch.optim, cls.__name__), SHAPES))


def values(seed: int, dtype: torch.dtype, steps: int = STEPS) -> tuple[list[Any], list[list[Any]]]:
    """A starting point and gradients; complex ones have an imaginary part of their own. No exact zero: torch's rules
    divide 0 by eps there, and eps = 1e-10 turns the last bit of a sum into a whole step.
    """
    theta0, grads = problem(seed, SHAPES, steps)
    other, turned = problem(seed + 1, SHAPES, steps)
    if not dtype.is_complex:
        return theta0, [[g + 0.01 for g in of_step] for of_step in grads]
    complexes = [[a + 1j * b + 0.01 for a, b in zip(x, y, strict=True)] for x, y in zip(grads, turned, strict=True)]
    return [a + 1j * b for a, b in zip(theta0, other, strict=True)], complexes


def run(optimizer: torch.optim.Optimizer, grads: list[list[Any]]) -> None:
    for of_step in grads:
        give(optimizer.param_groups[0]["params"], of_step)
        optimizer.step()


def pair(twins: Twins, dtype: torch.dtype, ours: Options, theirs: Options | None = None) -> tuple[Any, Any]:
    """Ours and torch's over equal parameters."""
    theta0, _ = values(3, dtype, 1)
    known = inspect.signature(twins[1]).parameters
    theirs = {name: value for name, value in (ours if theirs is None else theirs).items() if name in known}
    return twins[0](parameters(theta0, dtype), **ours), twins[1](parameters(theta0, dtype), **theirs)


def from_nonzero_state(twins: Twins, dtype: torch.dtype, ours: Options, theirs: Options) -> tuple[Any, Any]:
    """Both over equal parameters, with the state that torch reaches in three steps of other gradients."""
    mine, original = pair(twins, dtype, ours, theirs)
    run(original, values(17, dtype, 3)[1])
    with torch.no_grad():
        for p, q in zip(mine.param_groups[0]["params"], original.param_groups[0]["params"], strict=True):
            p.copy_(q)
            if q in original.state:
                mine.state[p].update({name: value.clone() for name, value in original.state[q].items()})
    return mine, original


def assert_close(ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer, dtype: torch.dtype) -> None:
    """Equal parameters and equal state: names in order, dtypes, shapes, numbers."""
    floor = 1e-6 if any("mu_product" in held for held in theirs.state.values()) else 0.0
    tolerance = max(FACTOR[dtype] * torch.finfo(dtype).eps, floor)
    for (p, held), (q, other) in zip(snapshot(ours), snapshot(theirs), strict=True):
        assert list(held) == list(other)
        for name, a, b in [("param", p, q), *((name, held[name], other[name]) for name in held)]:
            assert (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride()), name
            largest = b.abs().max().item() if b.numel() else 0.0
            said = f"{name}: {{}}".format
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * largest, msg=said)


PAIRS = [
    (cls, given(row, cls)) for name, (cls, _) in PLANNED_TWINS.items() for row in pairwise(cls, torch_values(name))
]


@pytest.mark.thin("cls", "executor", "dtype")
@every_executor
@every_dtype
@pytest.mark.parametrize(("cls", "options"), cases(PAIRS))
def test_ten_steps_from_a_nonzero_state(
    cls: type[Optimizer], options: Options, dtype: torch.dtype, executor: str
) -> None:
    twins = TWINS[cls.__name__.lower()]
    ours, theirs = from_nonzero_state(twins, dtype, {**options, **SWITCHES[executor]}, {**options, "foreach": False})
    assert ours.executor == executor
    _, grads = values(5, dtype)
    run(ours, grads)
    run(theirs, grads)
    assert_close(ours, theirs, dtype)


@every_planned_twin
def test_ten_steps_of_torchs_own_foreach(twins: Twins) -> None:
    ours, theirs = pair(twins, torch.float32, {"foreach": True})
    _, grads = values(5, torch.float32)
    run(ours, grads)
    run(theirs, grads)
    assert_close(ours, theirs, torch.float32)


@every_twin
def test_signature_starts_with_torchs(twins: Twins) -> None:
    ours, theirs = (list(inspect.signature(cls).parameters.values()) for cls in twins)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in theirs]
    torchs = {p.name for p in plain}
    assert [p.replace(annotation=inspect.Parameter.empty) for p in ours if p.name in torchs] == plain
    assert all(type(p.default) is type(q.default) for p, q in zip(ours, plain, strict=False))
    assert all(p.kind is p.KEYWORD_ONLY for p in ours if p.name not in torchs)


@every_twin
def test_defaults_are_torchs(twins: Twins) -> None:
    ours, theirs = (cls([torch.nn.Parameter(torch.zeros(1, 1))]) for cls in twins)
    assert theirs.defaults.items() <= ours.defaults.items()
    assert all(repr(ours.defaults[name]) == repr(value) for name, value in theirs.defaults.items())
    assert next(iter(ours.param_groups[0])) == "params"


@every_twin
def test_positional_arguments_mean_the_same(twins: Twins) -> None:
    count = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in inspect.signature(twins[1]).parameters.values())
    values = [p.default for p in list(inspect.signature(twins[1]).parameters.values())[1:count]]
    ours, theirs = (cls([torch.nn.Parameter(torch.zeros(1, 1))], 0.125, *values[1:]) for cls in twins)
    assert {name: ours.defaults[name] for name in theirs.defaults} == theirs.defaults


@every_twin
def test_state_after_construction_is_torchs(twins: Twins) -> None:
    """Adagrad's exists at construction; the others' does not, and an untouched parameter has no entry."""
    ours, theirs = (cls([torch.nn.Parameter(torch.ones(3, 1))]).state_dict()["state"] for cls in twins)
    assert {k: {n: v.tolist() for n, v in held.items()} for k, held in ours.items()} == {
        k: {n: v.tolist() for n, v in held.items()} for k, held in theirs.items()
    }


@every_planned_twin
@every_executor
def test_state_dict_has_torchs_keys(twins: Twins, executor: str) -> None:
    ours, theirs = pair(twins, torch.float32, SWITCHES[executor])
    _, grads = values(5, torch.float32, 2)
    for of_step in grads:
        of_step[1] = None
    run(ours, grads)
    run(theirs, grads)
    mine, original = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(original)
    assert {k: list(v) for k, v in mine["state"].items()} == {k: list(v) for k, v in original["state"].items()}
    assert original["param_groups"][0].keys() <= mine["param_groups"][0].keys()


def switched(twins: Twins, options: Options, executor: str, torch_first: bool) -> tuple[Any, Any]:
    """(one that went on all the time, the other class loaded with its checkpoint and run on)."""
    dtype = torch.float32
    mine, original = pair(twins, dtype, {**options, **SWITCHES[executor]}, {**options, "foreach": False})
    first, second = (original, mine) if torch_first else (mine, original)
    _, grads = values(7, dtype)
    run(first, grads[:4])
    with torch.no_grad():
        for p, q in zip(second.param_groups[0]["params"], first.param_groups[0]["params"], strict=True):
            p.copy_(q)
    second.load_state_dict(state_dict=torch_copy(first.state_dict()))
    switches = {"foreach": None, "fused": None, **SWITCHES[executor]} if second is mine else {"foreach": False}
    second.param_groups[0].update(switches)
    run(first, grads[4:])
    run(second, grads[4:])
    return first, second


def torch_copy(state_dict: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint as a file would give it back: no tensor is shared."""
    held = {k: {n: v.clone() for n, v in of.items()} for k, of in state_dict["state"].items()}
    return {"state": held, "param_groups": [dict(group) for group in state_dict["param_groups"]]}


@pytest.mark.thin("cls", "torch_first", "executor")
@every_executor
@pytest.mark.parametrize("torch_first", [True, False], ids=["torch-to-ours", "ours-to-torch"])
@pytest.mark.parametrize(("cls", "options"), cases(PAIRS))
def test_checkpoints_change_hands(cls: type[Optimizer], options: Options, torch_first: bool, executor: str) -> None:
    first, second = switched(TWINS[cls.__name__.lower()], options, executor, torch_first)
    assert_close(second, first, torch.float32)


@pytest.mark.thin
@every_executor
@pytest.mark.parametrize(("cls", "options"), cases(PAIRS))
def test_ours_to_torch_and_back_is_bitwise(cls: type[Optimizer], options: Options, executor: str) -> None:
    """A checkpoint that passes through torch's class loses nothing of the state."""
    twins = TWINS[cls.__name__.lower()]
    ours, theirs = pair(twins, torch.float32, {**options, **SWITCHES[executor]}, options)
    _, grads = values(9, torch.float32, 6)
    run(ours, grads[:3])
    theirs.load_state_dict(torch_copy(ours.state_dict()))
    back = twins[0]([torch.nn.Parameter(p.detach().clone()) for p in ours.param_groups[0]["params"]])
    back.load_state_dict(torch_copy(theirs.state_dict()))
    run(ours, grads[3:])
    run(back, grads[3:])
    assert_same(snapshot(back), snapshot(ours))


@every_twin
def test_a_fixed_option_survives_a_foreign_checkpoint(twins: Twins) -> None:
    """torch's AdamW stays decoupled whatever it loads; so does every option that a class of ours settles."""
    cls = twins[0]
    fixed = {f.name: f.default for f in cls.fields.values() if f.fixed}
    optimizer = cls([torch.nn.Parameter(torch.ones(1, 1))])
    checkpoint = optimizer.state_dict()
    checkpoint["param_groups"][0].update({name: not value for name, value in fixed.items()})
    optimizer.load_state_dict(checkpoint)
    assert {name: optimizer.param_groups[0][name] for name in fixed} == fixed
