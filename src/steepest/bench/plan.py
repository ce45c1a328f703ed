"""The plan of a run: rules, cases and modes, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from .. import registry
from ..registry import Recipe
from . import cases
from .cases import Case
from .implementations import MODES, Implementation, implementations
from .names import look_up

USUAL_MOMENTUM = 0.9


@dataclass(frozen=True)
class Plan:
    """The groups to run, in order, and how.

    Attributes:
        recipes: the rules with their options.
        cases: the sets of parameter shapes.
        modes: which of our own modes take part.
        peers: whether other libraries take part.
        rounds: rounds in every case, or None for each case's own number.
        device: ``cpu`` or ``cuda``.
        left_out: classes whose rules cannot be timed, each with the reason.
    """

    recipes: tuple[Recipe, ...]
    cases: tuple[Case, ...]
    modes: tuple[str, ...]
    peers: bool
    rounds: int | None
    device: str
    left_out: Mapping[str, str]

    @property
    def jobs(self) -> list[tuple[Case, Recipe]]:
        """Yield every rule over the first case, then over the next. Rules for matrices skip cases with vectors."""
        return [(case, recipe) for case in self.cases for recipe in self.recipes if _fits(recipe, case)]

    @property
    def first_steps(self) -> list[tuple[Recipe, Implementation]]:
        """Yield every implementation of every rule."""
        return [(recipe, implementation) for recipe in self.recipes for implementation in self.implementations(recipe)]

    def implementations(self, recipe: Recipe) -> list[Implementation]:
        """Return every implementation of a rule."""
        return implementations(recipe, self.modes, self.peers)

    def rounds_of(self, case: Case) -> int:
        """Return the number of rounds of a case."""
        return self.rounds or case.rounds


def make_plan(
    rules: Sequence[str] = (),
    case_names: Sequence[str] = (),
    modes: Sequence[str] = (),
    peers: bool = True,
    rounds: int | None = None,
    device: str = "cpu",
) -> Plan:
    """Check a request and return its plan. An empty list means all.

    Raises:
        ValueError: a name or number that is not allowed; the message says what is.
    """
    check_count("--rounds", rounds)
    check_device(device)
    for mode in modes:
        look_up("mode", mode, MODES)
    of_cases = tuple(cases.find(name) for name in dict.fromkeys(case_names)) or tuple(cases.CASES.values())
    recipes, left_out = _named(rules, of_cases) if rules else _all_that_fit(of_cases)
    return Plan(
        recipes=tuple(recipes),
        cases=of_cases,
        modes=tuple(dict.fromkeys(modes)) or tuple(MODES),
        peers=peers,
        rounds=rounds,
        device=device,
        left_out=left_out,
    )


def _named(rules: Sequence[str], of_cases: Sequence[Case]) -> tuple[list[Recipe], dict[str, str]]:
    """Return the recipes of the rules that were asked for, or raise `ValueError` if one is in none of the cases."""
    recipes = [read_rule(rule) for rule in dict.fromkeys(rules)]
    for recipe in recipes:
        if reason := _fits_nowhere(recipe, of_cases):
            fitting = ", ".join(case.name for case in cases.CASES.values() if _fits(recipe, case))
            raise ValueError(f"{recipe.label} {reason}; time it on {fitting}")
    return recipes, {}


def _all_that_fit(of_cases: Sequence[Case]) -> tuple[list[Recipe], dict[str, str]]:
    """Return the recipes that can be timed on some of the cases, and the reasons of the classes that cannot."""
    timed, left_out = rules_to_time()
    reasons = [(recipe, _fits_nowhere(recipe, of_cases)) for recipe in timed]
    left_out |= {recipe.optimizer.__name__: reason for recipe, reason in reasons if reason}
    return [recipe for recipe, reason in reasons if not reason], left_out


def _fits_nowhere(recipe: Recipe, of_cases: Sequence[Case]) -> str:
    """Return the reason why a rule is in none of the cases; empty if it is in one."""
    if any(_fits(recipe, case) for case in of_cases):
        return ""
    return f"is timed on matrices only, and {', '.join(case.name for case in of_cases)} has vectors"


def _fits(recipe: Recipe, case: Case) -> bool:
    """Return whether a rule, and torch's class of the same name, take all parameters of a case as its rule has them."""
    is_of_matrices = recipe.optimizer.rule_for(recipe.resolved()).kind == "matrix"
    return not is_of_matrices or all(len(shape) == 2 for shape in case.shapes)


def rules_to_time() -> tuple[list[Recipe], dict[str, str]]:
    """Return the recipes that can be timed, and the reasons of the classes that cannot.

    A recipe is an optimizer that takes plain gradients. One with optional momentum is also timed with it.
    """
    timed: list[Recipe] = []
    left_out: dict[str, str] = {}
    for name, cls in registry.optimizers().items():
        recipe = Recipe(name)
        if reason := _cannot_be_timed(recipe):
            left_out[cls.__name__] = reason
            continue
        timed.append(recipe)
        if recipe.resolved().get("momentum") == 0:
            timed.append(Recipe(name, {"momentum": USUAL_MOMENTUM}))
    return timed, left_out


def _cannot_be_timed(recipe: Recipe) -> str:
    """Return the reason why a rule cannot be timed; empty for a rule that can be."""
    rule = recipe.optimizer.rule_for(recipe.resolved())
    if recipe.optimizer.takes_estimates:
        return "is fed with estimates of the curvature between its steps, whose time is the model's"
    if recipe.optimizer.needs_loss(recipe.resolved()):
        return "needs the loss of each step, which is not passed here"
    if rule.kind == "driver":
        return "asks for new gradients during its step, whose time is then the model's"
    return "takes sparse gradients alone, and those of all cases are dense" if rule.sparse == "lazy" else ""


def read_rule(text: str) -> Recipe:
    """Return the recipe of ``NAME[key=value,...]``.

    Raises:
        ValueError: the rule or an option does not exist, or the rule does not take plain gradients.
    """
    recipe = registry.parse(text)
    if reason := _cannot_be_timed(recipe):
        known = ", ".join(dict.fromkeys(other.name for other in rules_to_time()[0]))
        raise ValueError(f"{recipe.label} {reason}; rules that take plain gradients: {known}")
    return recipe


def check_count(option: str, number: int | None) -> None:
    """Raise `ValueError` for a number below 1; None, where an option was not given, is allowed."""
    if number is not None and number < 1:
        raise ValueError(f"{option} must be at least 1, not {number}")


def check_device(device: str) -> None:
    """Raise `ValueError` for a device that is unknown, or that this machine does not have."""
    is_here = look_up("device", device, {"cpu": True, "cuda": torch.cuda.is_available()})
    if not is_here:
        raise ValueError(f"--device {device}: torch {torch.__version__} finds no CUDA device here; leave --device cpu")
