"""Refreshes that are spread over steps: no step does the work of all."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

import steepest
from matrices import assert_resumes, refreshed_in

NAMES = {steepest.SOAP: "Q_0", steepest.Shampoo: "inverse_root_0", steepest.SPlus: "Q_0"}
every_class = pytest.mark.parametrize("cls", NAMES, ids=lambda cls: cls.__name__)


@every_class
def test_each_matrix_keeps_its_interval_and_no_two_of_them_meet(cls: Any) -> None:
    together = refreshed_in(cls, {"precondition_frequency": 4}, NAMES[cls], 4, 17)
    apart = refreshed_in(cls, {"precondition_frequency": 4, "spread": True}, NAMES[cls], 4, 17)
    assert all(own == together[0] for own in together)
    start = 5 if cls is steepest.Shampoo else 2  # Shampoo's first roots are all found in one step
    late = [[t for t in own if t >= start] for own in apart]
    assert all({b - a for a, b in itertools.pairwise(own)} == {4} for own in late)
    assert sorted(t for own in late for t in own) == sorted({t for own in late for t in own})


@every_class
def test_more_matrices_than_steps_share_them_evenly(cls: Any) -> None:
    apart = refreshed_in(cls, {"precondition_frequency": 3, "spread": True}, NAMES[cls], 7, 12)
    counts = [sum(t in own for own in apart) for t in range(5, 13)]
    assert set(counts) <= {2, 3}


@every_class
@pytest.mark.parametrize("saved_after", [1, 3, 5])
def test_the_place_is_saved(cls: Any, saved_after: int) -> None:
    assert_resumes(cls, {"precondition_frequency": 4, "spread": True}, saved_after, torch.float64)


@every_class
def test_without_it_there_is_no_place_in_the_state(cls: Any) -> None:
    p = nn.Parameter(torch.eye(3))
    p.grad = torch.eye(3)
    optimizer = cls([p])
    optimizer.step()
    assert "phase" not in optimizer.state[p]
