"""What the tests of the torch-shaped shell share: small parameters, gradients, and how to compare runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cases import (
    CLASSES,
    PLANNED_TWINS,
    SWITCHES,
    TWINS,
    Options,
    defaults,
    same,
    snapshot,
    train,
)
from steepest import Optimizer
from steepest.kinds import KINDS

every_twin = pytest.mark.parametrize("twins", TWINS.values(), ids=list(TWINS))
every_planned_twin = pytest.mark.parametrize("twins", PLANNED_TWINS.values(), ids=list(PLANNED_TWINS))
DRIVERS = {name: cls for name, cls in CLASSES.items() if cls.needs_closure(defaults(cls))}
SHAPES = [(3, 4), (5,), ()]


def tensors(dtype: torch.dtype = torch.float32, seed: int = 1) -> list[torch.nn.Parameter]:
    """Three parameters; the same values for the same seed."""
    source = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=source, dtype=dtype)) for shape in SHAPES]


def shown(executor: str, cls: type[Optimizer]) -> Options:
    """The switch for an executor, where the class has one."""
    return SWITCHES[executor] if "foreach" in cls.fields else {}


def moved(optimizer: torch.optim.Optimizer, steps: int = 1) -> list[Tensor]:
    """The parameters after some steps."""
    train(optimizer, steps)
    return [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]


def assert_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert all(same(a, b) for a, b in zip(ours, theirs, strict=True)), (ours, theirs)


def assert_near(ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer, tolerance: float = 2e-5) -> None:
    """float32 against torch over tens of steps: 2e-5 of the largest element, some 200 eps."""
    for (p, _), (q, _) in zip(snapshot(ours), snapshot(theirs), strict=True):
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)


def give_all(columns: list[list[torch.nn.Parameter]], seed: int = 5) -> None:
    """The same gradients for the same places."""
    for column in columns:
        for p, g in zip(column, tensors(column[0].dtype, seed), strict=True):
            p.grad = g.detach().clone()


def makes_state(cls: type[Optimizer], name: str, value: Any) -> bool:
    """Whether the edit asks for other state than there is."""
    plain, edited = defaults(cls), {**defaults(cls), name: value}
    return any(s.when(plain) != s.when(edited) for s in cls.rule.state)


def reshapes_state(cls: type[Optimizer], name: str, value: Any) -> bool:
    """Whether the edit asks for state of another shape, which a run cannot change; it is refused."""
    plain, edited = (_shapes(cls, options) for options in (defaults(cls), {**defaults(cls), name: value}))
    return any(plain[key] != edited[key] for key in plain.keys() & edited.keys())


def _shapes(cls: type[Optimizer], options: Options) -> dict[str, tuple[int, ...]]:
    p = torch.ones(3, 4)
    state = [s for s in cls.rule_for(options, p).state if KINDS[s.kind].takes_options]
    return {s.name: KINDS[s.kind].shape_for(p, options) for s in state if s.when(options)}
