"""Every class against its independent float64 oracle: parameters and state, under every combination of options.

Tolerance 1e-12 of the tensor's largest element: oracle and library do the same arithmetic in another order (lerp,
addcdiv, folded factors). Ten steps of some ten roundings of 1.1e-16 differ by about 1e-14; centered RMSprop subtracts
two nearly equal numbers under its root and reaches a few 1e-13.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cases import (
    BRANCHING,
    CLASSES,
    PLANNED,
    SWITCHES,
    Options,
    cases,
    defaults,
    every_executor,
    exactly,
    give,
    hyperparameters,
    oracle_options,
    parameters,
    structures,
)
from oracles import ORACLES, problem, without
from steepest import Optimizer

TOLERANCE = 1e-12
STEPS = 10
SHAPES = [(3, 4), (5,), (), (2, 1, 3), (0,), (1,)]
RATES = [0.05 / (k + 1) for k in range(STEPS)]

JUDGED = {cls: name for name, cls in PLANNED.items() if name in ORACLES and name not in BRANCHING}
"""But rules with eigenbases, which gradients of low rank leave open: they are judged in test_soap.py."""


def gapped() -> tuple[list[Any], list[list[Any]]]:
    """Tensor 0 misses steps 4 and 5, tensor 1 joins at step 3, tensor 3 never has a gradient."""
    theta0, grads = problem(11, SHAPES, STEPS)
    return theta0, without(without(without(grads, 0, {4, 5}), 1, {0, 1, 2}), 3, range(STEPS))


def assert_close(actual: Any, expected: Any, what: str, tolerance: float = TOLERANCE) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, what
    largest = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * largest, err_msg=what)


def assert_equal(optimizer: Optimizer, params: list[Any], expected: list[dict[str, Any]], tolerance: float) -> None:
    counters = {s.name for s in optimizer.rule.state if s.kind == "step"}
    for p, wanted in zip(params, expected, strict=True):
        held = {"param": p.detach(), **optimizer.state.get(p, {})}
        # An oracle counts steps for every rule; only classes that declare a step count keep one.
        assert set(held) == {name for name in wanted if name != "step" or name in counters}
        for name, value in held.items():
            assert_close(value.numpy(), wanted[name], name, tolerance)


def judge(cls: type[Optimizer], executor: str, options: Options, tolerance: float = TOLERANCE) -> None:
    theta0, grads = gapped()
    params = parameters(theta0)
    optimizer = exactly(cls)(params, lr=RATES[0], **options, **SWITCHES[executor])
    assert optimizer.executor == executor
    for rate, of_step in zip(RATES, grads, strict=True):
        give(params, of_step)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    expected = ORACLES[JUDGED[cls]](theta0, grads, lr=RATES, **options)
    assert_equal(optimizer, params, expected, tolerance)


EVERYTHING = [(cls, options) for cls, name in JUDGED.items() for options in structures(cls, oracle_options(name))]


@pytest.mark.thin("cls", "executor")
@pytest.mark.usefixtures("float64_default")
@every_executor
@pytest.mark.parametrize(("cls", "options"), cases(EVERYTHING))
def test_ten_steps_with_gaps_late_joiners_and_a_moving_rate(
    cls: type[Optimizer], options: Options, executor: str
) -> None:
    judge(cls, executor, options)


@pytest.mark.thin("cls")
@every_executor
@pytest.mark.parametrize("cls", JUDGED, ids=list(JUDGED.values()))
def test_defaults(cls: type[Optimizer], executor: str) -> None:
    """With torch's float32 counters: 1e-6, because mu_product is rounded to float32 at every step."""
    usual = {name: cls.fields[name].default for name in oracle_options(JUDGED[cls])}
    rounded = any(s.kind == "scalar" for s in cls.rule.state)
    judge(cls, executor, usual, 1e-6 if rounded else TOLERANCE)


def test_every_planned_class_has_an_oracle() -> None:
    assert set(ORACLES) == {name for name, cls in CLASSES.items() if cls.rule.kind != "driver"}


@pytest.mark.thin("cls")
@pytest.mark.parametrize("cls", JUDGED, ids=list(JUDGED.values()))
def test_oracle_knows_every_hyperparameter(cls: type[Optimizer]) -> None:
    """But the average of the weights, which has an oracle of its own, clipping, which is compared with torch's
    (test_clip.py), and NAG's other form (test_drivers.py).
    """
    left_out = hyperparameters(cls).keys() - {*oracle_options(JUDGED[cls]), "lr", "ema_decay", "max_norm"}
    assert all(cls.needs_closure({**defaults(cls), name: True}) for name in left_out), left_out


def test_default_dtype_fixture_restores_float32() -> None:
    assert torch.get_default_dtype() == torch.float32
