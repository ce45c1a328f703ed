"""The promise on numbers: no upgrade changes what an optimizer does without a line in the changelog."""

from __future__ import annotations

import json

import pytest

from golden import trajectories
from steepest import registry

KEPT: dict[str, trajectories.Trajectory] = json.loads(trajectories.FILE.read_text(encoding="utf-8"))
CLASSES = {cls.__name__: cls for cls in registry.optimizers().values()}
UNSAID = (
    "{name} does not step as it did. If that is meant, write the trajectories anew (tests/golden/trajectories.py says "
    "how) and say in CHANGELOG.md what has changed"
)


def test_every_optimizer_has_a_trajectory() -> None:
    assert list(KEPT) == list(CLASSES)


@pytest.mark.parametrize("name", KEPT)
def test_an_optimizer_steps_as_it_did(name: str) -> None:
    """Within 1e-7: torch's versions and processors add in other orders, which iterations on matrices enlarge."""
    for step, kept in trajectories.trajectory(CLASSES[name]).items():
        expected = [pytest.approx(values, rel=1e-7, abs=1e-9) for values in KEPT[name][step]]
        assert kept == expected, UNSAID.format(name=name)


@pytest.mark.parametrize("name", KEPT)
def test_a_trajectory_goes_somewhere(name: str) -> None:
    begun = [p.flatten().tolist() for p in trajectories.start()]
    assert KEPT[name][str(trajectories.STEPS[-1])] != begun
