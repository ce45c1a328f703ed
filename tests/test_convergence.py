"""Every optimizer trains: at a rate of its declared range it reaches the first target of built-in workloads.

Other tests hold a rule to its equations. These hold the class to real work: a rule whose sign, range or defaults are
wrong may fall and not arrive. See convergence.py for the work, and docs/convergence.md for the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import steepest
from cases import CLASSES
from convergence import CHANGES, NO_CHANGE, SMALL, Run, Work, rates, refusal, runs, train, works
from steepest import Optimizer, fields

PAGE = Path(__file__).resolve().parents[1] / "docs" / "convergence.md"
PAIRS = [pytest.param(cls, work, id=f"{name}-{work.name}") for name, cls in CLASSES.items() for work in works(cls)]

CHANGED = [
    (name, place)
    for (name, place), change in CHANGES.items()
    if change.is_tested and place in [work.name for work in works(CLASSES[name])]
]
"""Without those on a workload that other data stand in for here."""


def shown(made: Sequence[Run]) -> str:
    """The rates that reached the target with their steps, and the others with the best metric."""
    return ", ".join(f"{run.lr:.2g}: {f'{run.steps} steps' if run.steps else f'{run.metric:.3g}'}" for run in made)


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "work"), PAIRS)
def test_a_rate_of_the_declared_range_reaches_the_first_target(cls: type[Optimizer], work: Work) -> None:
    change = CHANGES.get((cls.__name__.lower(), work.name), NO_CHANGE)
    made = runs(cls, work, change)
    print(f"{cls.__name__} on {work.name}, to {work.target:g}: {shown(made)}")
    assert any(run.steps for run in made), (
        f"{cls.__name__} does not reach {work.target:g} on {work.name} at any rate of its range: {shown(made)}. "
        "Correct the rule or the range of lr, or name what it needs in CHANGES (tests/convergence.py)"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "workload"), CHANGED)
def test_a_change_is_needed(name: str, workload: str) -> None:
    """A line of CHANGES that a better rule or range makes useless is to be removed."""
    cls = CLASSES[name]
    (work,) = (work for work in works(cls) if work.name == workload)
    made = runs(cls, work)
    assert not any(run.steps for run in made), f"{name} reaches {workload}'s target as it is: {shown(made)}"


class Timid(steepest.SGD):
    """SGD whose declared range ends far below what trains."""

    lr: float = fields.lr(1e-3, 1e-4, 1e-2)


class Wrong(steepest.Adam):
    """Adam that climbs."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, maximize=True, **options)


@pytest.mark.parametrize("wrong", [Timid, Wrong])
def test_the_gate_is_shut_for_what_only_trains_a_bit(wrong: type[Optimizer]) -> None:
    assert not any(train(wrong, SMALL[0], lr).steps for lr in rates(wrong)[-2:])
    assert train(steepest.Adam, SMALL[0], 0.01).steps


def test_every_class_is_tried() -> None:
    assert [name for name, cls in CLASSES.items() if not works(cls)] == []
    assert all(refusal(CLASSES[name], work) == "" for name, place in CHANGES for work in SMALL if work.name == place)


@pytest.mark.slow
def test_the_page_has_every_class() -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = [cls.__name__ for cls in CLASSES.values() if f"| {cls.__name__} |" not in page]
    assert missing == [], "run python benchmarks/convergence_table.py"
