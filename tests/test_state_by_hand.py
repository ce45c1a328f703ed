"""State of unusual kinds, and state that somebody writes to or replaces between steps."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cases import CLASSES, PLANNED, PLANNED_TWINS, SWITCHES, defaults, every_planned_class, executors_of
from steepest import AdamW, Optimizer

SHAPES = ((4, 3), (4, 3), (2, 5))


def made(cls: type[Any], executor: str = "", **options: Any) -> tuple[Any, list[torch.nn.Parameter]]:
    source = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=source)) for shape in SHAPES]
    return cls(params, **SWITCHES.get(executor, {}), **options), params


def step(optimizer: Any, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.randn(p.shape, generator=source).to(p.dtype)
    optimizer.step()


def assert_close(ours: Any, theirs: Any, tolerance: float = 3e-6) -> None:
    pairs = zip(*(o.param_groups[0]["params"] for o in (ours, theirs)), strict=True)
    for p, q in pairs:
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)
        for name, value in theirs.state.get(q, {}).items():
            held = torch.as_tensor(ours.state[p][name]).reshape(value.shape)
            torch.testing.assert_close(held, value, rtol=tolerance, atol=tolerance)


# -- dtypes ----------------------------------------------------------------------------------------------------------


@pytest.mark.thin("structure", "executor")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("executor", ["foreach", "native", "stacked", "default"])
@every_planned_class
def test_one_parameters_state_in_another_dtype(cls: type[Optimizer], executor: str, dtype: torch.dtype) -> None:
    """The parameter beside it must not notice, and this one steps as it does alone."""
    if executor not in ("default", *executors_of(cls)):
        executor = "default"
    runs = []
    for way in (executor, "reference"):
        optimizer, params = made(cls, way)
        step(optimizer, 1)
        held = optimizer.state[params[1]]
        held.update({k: v.to(dtype) for k, v in held.items() if isinstance(v, Tensor) and v.dim()})
        for seed in (2, 3):
            step(optimizer, seed)
        kept = [v for v in optimizer.state[params[1]].values() if isinstance(v, Tensor) and v.dim()]
        assert all(v.dtype == dtype for v in kept)
        runs.append(optimizer)
    rounding = 1e-2 if dtype == torch.bfloat16 else 3e-6  # bfloat16 state rounds at its stores, once or twice
    pairs = zip(*(o.param_groups[0]["params"] for o in runs), strict=True)
    for index, (p, q) in enumerate(pairs):
        tolerance = rounding if index == 1 else 3e-6
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)


def test_a_layer_that_is_thawed_after_a_checkpoint_in_float64() -> None:
    """The first parameter keeps its saved float64 moments (keep_dtype), the second makes its own in float32."""

    def run(executor: str) -> list[Tensor]:
        optimizer, params = made(AdamW, executor)
        params[1].requires_grad_(False)
        saved = optimizer.state_dict()
        moments = {"exp_avg": torch.full((4, 3), 0.1).double(), "exp_avg_sq": torch.full((4, 3), 0.2).double()}
        saved["state"] = {0: {"step": torch.tensor(5.0), **moments}}
        optimizer.load_state_dict(saved, keep_dtype=True)
        for seed in (1, 2):
            step(optimizer, seed)
        return [p.detach() for p in params]

    for executor in ("foreach", "native"):
        for p, q in zip(run(executor), run("reference"), strict=True):
            torch.testing.assert_close(p, q, rtol=3e-6, atol=3e-6)


# -- counts ----------------------------------------------------------------------------------------------------------


def write_data(x: Tensor, value: float) -> None:
    x.data.fill_(value)


def write_numpy(x: Tensor, value: float) -> None:
    x.numpy()[...] = value


def write_storage(x: Tensor, value: float) -> None:
    x.untyped_storage().copy_(torch.full_like(x, value).untyped_storage())


COUNTED = {
    name: [s.name for s in cls.rule.state if s.kind in ("step", "scalar") and s.when(defaults(cls))]
    for name, cls in PLANNED.items()
    if any(s.kind in ("step", "scalar") for s in cls.rule.state)
}


@pytest.mark.thin("name", "executor")
@pytest.mark.parametrize("write", [write_data, write_numpy, write_storage])
@pytest.mark.parametrize("executor", ["reference", "foreach", "native", "default"])
@pytest.mark.parametrize("name", list(COUNTED))
def test_counts_and_scalars_that_are_written_past_autograd(
    name: str, executor: str, write: Callable[[Tensor, float], None]
) -> None:
    cls = CLASSES[name]
    if executor not in ("default", *executors_of(cls)):
        executor = "default"
    optimizer, _ = made(cls, executor)
    plain, _ = made(cls, executor)
    for seed in (1, 2, 3):
        step(optimizer, seed)
        step(plain, seed)
    for held, other in zip(optimizer.state.values(), plain.state.values(), strict=True):
        for key in COUNTED[name]:
            write(held[key], 0.5 if key != "step" else 40.0)
            other[key] = torch.tensor(0.5 if key != "step" else 40.0)
    for seed in (4, 5):
        step(optimizer, seed)
        step(plain, seed)
    assert_close(optimizer, plain, 0)


@pytest.mark.thin("name", "executor")
@pytest.mark.parametrize("kind", ["int", "float", "int64", "one element", "numpy"])
@pytest.mark.parametrize("executor", ["reference", "foreach", "native", "default"])
@pytest.mark.parametrize("name", [name for name in COUNTED if name in PLANNED_TWINS])
def test_a_count_of_another_kind(name: str, executor: str, kind: str) -> None:
    """Older checkpoints and resets by hand have numbers and integer tensors; torch's loop runs the tensors."""
    ways: dict[str, Callable[[float], Any]] = {
        "int": int,
        "float": float,
        "int64": lambda value: torch.tensor(int(value)),
        "one element": lambda value: torch.tensor([value]),
        "numpy": np.float32,
    }
    cls = CLASSES[name]
    if executor not in ("default", *executors_of(cls)):
        executor = "default"
    (optimizer, params), (plain, _) = made(cls, executor), made(cls, executor)
    for seed in (1, 2):
        step(optimizer, seed)
        step(plain, seed)
    for p in params[:2]:
        held = optimizer.state[p]
        if "step" in held:
            held["step"] = ways[kind](held["step"].item())
    for seed in (3, 4):
        step(optimizer, seed)
        step(plain, seed)
    assert_close(optimizer, plain, 0)


# -- numbers in groups -----------------------------------------------------------------------------------------------


@pytest.mark.thin("structure", "executor")
@pytest.mark.parametrize("executor", ["reference", "foreach", "native", "default"])
@pytest.mark.parametrize("make", [np.float32, np.float64, np.array, Fraction, torch.tensor])
@every_planned_class
def test_a_schedule_may_write_any_number(cls: type[Optimizer], executor: str, make: Callable[[float], Any]) -> None:
    if executor not in ("default", *executors_of(cls)):
        executor = "default"
    (optimizer, _), (plain, _) = made(cls, executor), made(cls, executor)
    for seed, rate in ((1, 0.5), (2, 0.25), (3, 0.125)):
        for each, value in ((optimizer, make(rate)), (plain, rate)):
            each.param_groups[0]["lr"] = value
            if "weight_decay" in cls.fields:
                each.param_groups[0]["weight_decay"] = make(0.25) if each is optimizer else 0.25
            step(each, seed)
    assert_close(optimizer, plain, 0)


@pytest.mark.parametrize("executor", ["reference", "foreach", "native", "default"])
def test_switches_of_other_types_and_false_for_no_decay(executor: str) -> None:
    runs = []
    for maximize, amsgrad, decay in ((np.bool_(True), 1, False), (True, True, 0)):
        optimizer, _ = made(AdamW, executor)
        optimizer.param_groups[0].update(maximize=maximize, amsgrad=amsgrad, weight_decay=decay)
        for seed in (1, 2):
            step(optimizer, seed)
        runs.append(optimizer)
    assert_close(*runs, 0)
    assert "max_exp_avg_sq" in next(iter(runs[0].state.values()))


@every_planned_class
def test_a_rate_in_a_bfloat16_tensor_is_the_number_that_it_holds(cls: type[Optimizer]) -> None:
    """torch goes on to compute with it in bfloat16, in some classes; see docs/versus-torch.md."""
    runs = []
    for rate in (torch.tensor(0.1, dtype=torch.bfloat16), 0.10009765625):
        optimizer, _ = made(cls, lr=rate)
        for seed in (1, 2, 3):
            step(optimizer, seed)
        runs.append(optimizer)
    assert_close(*runs, 0)
