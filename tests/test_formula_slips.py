"""The slipped rules of examples/ differ from the right ones where their docstrings say so, and nowhere else."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

import steepest

SLIPS = runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples" / "formula_slips.py"))


def steps(cls: Any, gradients: list[float], **options: Any) -> list[float]:
    """The lengths of the steps on given gradients."""
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = cls([p], **options)
    moved = []
    for g in gradients:
        before = p.item()
        p.grad = torch.full((1,), g, dtype=torch.float64)
        optimizer.step()
        moved.append(before - p.item())
    return moved


def test_nesterovs_slip_adds_the_old_velocity_once_more() -> None:
    gradients = [1.0, -0.5, 2.0, 0.25]
    slipped, right = (steps(cls, gradients, lr=0.1, momentum=0.9) for cls in (SLIPS["SlippedNAG"], steepest.NAG))
    assert slipped[0] == pytest.approx(right[0])
    velocity = 0.0
    for g, one, other in zip(gradients, slipped, right, strict=True):
        assert one - other == pytest.approx(0.9 * velocity)
        velocity = 0.9 * velocity + 0.1 * g


def test_on_a_slope_it_ends_up_too_fast_by_one_plus_momentum() -> None:
    slipped, right = (steps(cls, [1.0] * 200, lr=0.1, momentum=0.9) for cls in (SLIPS["SlippedNAG"], steepest.NAG))
    assert slipped[-1] / right[-1] == pytest.approx(1.9)


def test_nadams_slip_divides_the_momentum_twice() -> None:
    gradients = [1.0, -0.5, 2.0, 0.25]
    slipped = steps(SLIPS["SlippedNAdam"], gradients, lr=0.1)
    right = steps(steepest.NAdam, gradients, lr=0.1, momentum_schedule="constant")
    m = v = 0.0
    for t, (g, one, other) in enumerate(zip(gradients, slipped, right, strict=True), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        corrected, root = m / (1 - 0.9**t), (v / (1 - 0.999**t)) ** 0.5
        assert other == pytest.approx(0.1 * (0.9 * corrected + 0.1 * g / (1 - 0.9**t)) / root, rel=1e-6)
        assert one - other == pytest.approx(0.1 * 0.9 * corrected * (1 / (1 - 0.9**t) - 1) / root, rel=1e-6)


def test_the_second_division_fades() -> None:
    gradients = [1.0, -0.5] * 100
    slipped = steps(SLIPS["SlippedNAdam"], gradients, lr=0.1)
    right = steps(steepest.NAdam, gradients, lr=0.1, momentum_schedule="constant")
    assert slipped[0] / right[0] == pytest.approx((9 + 1) / (0.9 + 1))
    assert slipped[-1] == pytest.approx(right[-1], rel=1e-6)
