"""The plan of a run over training steps: rules, models and ways, checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from ...registry import Recipe
from ..implementations import Implementation, implementations
from ..plan import check_count, check_device, read_rule
from . import cases
from .cases import TrainingCase
from .lane import COMPILED, EAGER, Way

USUAL: Final = ("adamw", "sgd[momentum=0.9]", "nadam")
"""The rules without any given: two that torch has a fused kernel for, and one that it has none for."""
TORCHS: Final = ("default", "fused")


@dataclass(frozen=True)
class TrainingPlan:
    """The groups to run, in order, and how.

    Attributes:
        recipes: the rules with their options.
        cases: the models with their batches.
        ways: the parts that run under ``torch.compile``: nothing, the model, model and step.
        memory: whether the memory of training steps is measured.
        rounds: rounds in every case, or None for each case's own number.
        device: ``cpu`` or ``cuda``.
    """

    recipes: tuple[Recipe, ...]
    cases: tuple[TrainingCase, ...]
    ways: tuple[Way, ...]
    memory: bool
    rounds: int | None
    device: str

    @property
    def jobs(self) -> list[tuple[TrainingCase, Recipe]]:
        """Every rule over the first case, then over the next."""
        return list(product(self.cases, self.recipes))

    def implementations(self, recipe: Recipe) -> list[Implementation]:
        """Return our default, torch's default and torch's fused mode if its class has one."""
        return implementations(recipe, ["default"], peers=False, torchs=TORCHS)

    def rounds_of(self, case: TrainingCase) -> int:
        """Return the number of rounds of a case."""
        return self.rounds or case.rounds


def make_plan(
    rules: Sequence[str] = (),
    case_names: Sequence[str] = (),
    compiles: bool = True,
    memory: bool = True,
    batch: int | None = None,
    rounds: int | None = None,
    device: str = "cpu",
) -> TrainingPlan:
    """Check a request and return its plan. Without rules they are `USUAL`; without cases all are run.

    Raises:
        ValueError: a name or number that is not allowed; the message says what is.
    """
    check_count("--rounds", rounds)
    check_count("--batch", batch)
    check_device(device)
    chosen = tuple(cases.find(name) for name in dict.fromkeys(case_names)) or tuple(cases.CASES.values())
    return TrainingPlan(
        recipes=tuple(read_rule(rule) for rule in dict.fromkeys(rules or USUAL)),
        cases=tuple(case if batch is None else replace(case, batch_size=batch) for case in chosen),
        ways=(EAGER, *COMPILED) if compiles else (EAGER,),
        memory=memory,
        rounds=rounds,
        device=device,
    )
